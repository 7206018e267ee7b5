"""How an installation is: what was seen, what is wrong with it, and how it differs from the configuration.

Healthy means that the server answers from its database to those it is shared with, that consumers and garbage
collection have what they need, and that the last collection, backup, check of a snapshot and drill did their work.
Drift is told beside that: a setting that was changed and not yet installed does not make a server ill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.jobs.gc import INCOMPLETE
from mlflow_ae5_deploy.operations import missed, status_backups
from mlflow_ae5_deploy.operations.drift import SIGN_IN, StageView, forecast
from mlflow_ae5_deploy.operations.status_report import GcStatus, LastRun, Observed, look_at
from mlflow_ae5_deploy.resources import token_expiry


@dataclass(frozen=True)
class Status:
    """problems: why it is not healthy. stages: every stage, compared with the configuration."""

    observed: datetime
    host: str
    account: str
    project: str
    seen: Observed
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    stages: tuple[StageView, ...]
    requests: int
    seconds: float

    @property
    def installed(self) -> bool:
        """Whether there is something to be healthy: a project, or an upgrade that has not ended."""
        return self.seen.project is not None or bool(self.seen.interrupted_upgrade)

    @property
    def healthy(self) -> bool:
        return not self.problems

    @property
    def drift(self) -> list[StageView]:
        return [stage for stage in self.stages if stage.state == "differs"]

    @property
    def not_compared(self) -> list[StageView]:
        return [stage for stage in self.stages if stage.state == "unknown"]


def status(context: Context, stages: Sequence[AnyStage], token: Secret | None = None) -> Status:
    """Look once; see look_at for `token`. Raises PlatformError when the platform cannot be asked at all.

    An account that an administrator does not find is no error here: nothing is installed.
    """
    began, before = context.clock.monotonic(), context.access.costs()[0]
    context.cached.forget()
    try:
        first = forecast([stage for stage in stages if stage.number <= SIGN_IN], context)
    except LoginFailed:
        if not context.access.missing:
            raise
        first = []
    seen = look_at(context, token)
    rest = forecast([stage for stage in stages if stage.number > SIGN_IN], context)
    now = context.clock.now()
    views = (*first, *rest)
    return Status(
        observed=now,
        host=context.access.target.options.hostname,
        account=context.account,
        project=context.settings.project.name,
        seen=seen,
        problems=tuple(problems(seen, now)),
        warnings=tuple(warnings(seen, views, now)),
        stages=views,
        requests=context.access.costs()[0] - before,
        seconds=context.clock.monotonic() - began,
    )


# the judgement: pure ----------------------------------------------------------------------------------------------


def problems(seen: Observed, now: datetime) -> list[str]:
    """Sentences; none means healthy."""
    if seen.interrupted_upgrade:
        return [*_interrupted_upgrade(seen), *(about_server(seen) if seen.project else [])]
    if seen.project is None:
        why = "the account has no such project" if seen.account else "the account does not exist"
        return [f"Nothing is installed: {why}."]
    found = about_server(seen) + about_token(seen, now) + about_collection(seen.collection)
    if seen.interrupted_restore is not None and not seen.unfinished.at_work:
        found.insert(0, f"{seen.interrupted_restore.message} {seen.interrupted_restore.remedy}")
    found += missed.problems(_missed_collection(seen))
    found += status_backups.problems(seen.backups)
    if not seen.unfinished.at_work:  # else it is on its way, and a warning
        found += about_unfinished(seen)
    missing = [name for name in seen.desired_secrets if name not in seen.secrets]
    if missing:
        found.append(f"Not set as secrets of the account: {', '.join(missing)}.")
    unshared = [pair for pair in seen.desired_shared if pair not in seen.shared]
    if unshared and seen.deployment is not None:
        found.append(f"Not shared with {', '.join(f'{kind} {name}' for kind, name in unshared)}, as configured.")
    return found


def _missed_collection(seen: Observed) -> list[missed.Missed]:
    return [seen.collection.missed] if seen.collection.missed else []


def _interrupted_upgrade(seen: Observed) -> list[str]:
    if seen.unfinished.at_work:
        return [f"An upgrade to {seen.interrupted_upgrade} has not ended: {seen.unfinished.at_work}."]
    if seen.rollback_failed:
        return [
            f"An upgrade to {seen.interrupted_upgrade} failed, and going back from it has not ended: "
            f"run `upgrade --roll-back`. Why it failed: {seen.rollback_failed}"
        ]
    return [f"An upgrade to {seen.interrupted_upgrade} was interrupted: run `upgrade` again, or `upgrade --roll-back`."]


def about_server(seen: Observed) -> list[str]:
    current, found = seen.deployment, []
    if seen.rival is not None:
        found.append(f"The endpoint is used by deployment {seen.rival.name} of another project ({seen.rival.owner}).")
    for other in seen.duplicates:
        found.append(f"A second server works on the same data: deployment {other.name} ({other.id}).")
    if current is None:
        return [*found, "No server runs: the project has no such deployment."]
    if current.public:
        found.append("The deployment is public: anyone can read and delete experiments.")
    if not current.is_started:
        return [*found, f"The deployment is {current.state}{_in_brackets(current.status_text)}, not started."]
    if not current.url:
        return [*found, "The platform tells no URL of the deployment."]
    if seen.health is None or not seen.health.healthy:
        message = seen.health.message if seen.health else "it was not asked"
        if seen.health is not None and seen.health.status == "unauthorised":
            return [
                *found,
                f"Whether the API works was not seen: the endpoint turned the login session away ({message}).",
            ]
        return [*found, f"The API does not answer from its database: {message}."]
    return found


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def about_token(seen: Observed, now: datetime) -> list[str]:
    if seen.deployment is None:
        return []
    ours = [known for known in seen.token.stored if known.deployment_id == seen.deployment.id]
    ended = [known.account for known in ours if known.expires and known.expires <= now]
    return [f"The token stored for {', '.join(ended)} has expired."] if ended else []


def about_records(seen: Observed) -> list[str]:
    """What this machine's records do not tell of the tokens. They are no proof of what is stored now: another
    administrator may have stored something since."""
    if not seen.token.listed and not seen.token.stored:
        return []
    if not seen.token.stored and not seen.token.previous:
        return ["Whether the stored token is of this deployment is not known here: it was stored elsewhere."]
    if seen.deployment is None:
        return []
    found, make_sure = [], "`rotate-token --if-needed` makes sure of it."
    if earlier := [known.account for known in seen.token.stored if known.deployment_id != seen.deployment.id]:
        names = ", ".join(earlier)
        found.append(
            f"The token on record here for {names} is of an earlier deployment; what is stored now is not known. "
            + make_sure
        )
    if seen.token.previous:
        names = ", ".join(known.account for known in seen.token.previous)
        found.append(
            f"The token that was stored from here for {names} is of before a change to the deployment. {make_sure}"
        )
    return found


def about_unfinished(seen: Observed) -> list[str]:
    known = seen.unfinished
    if known.restart is not None:
        return [
            f"A restart that was begun at {known.restart:%Y-%m-%d %H:%M} UTC has not ended; `rotate-token` ends it."
        ]
    if known.left:
        return [f"A rotation has not ended: {', '.join(known.left)} has not got the new token. `rotate-token` goes on."]
    if known.unproved:
        return ["A rotation has not ended: the gc job was not proved with the new token. `rotate-token` proves it."]
    return []


def about_collection(collection: GcStatus) -> list[str]:
    if collection.jobs == 0:
        return ["There is no garbage collection job."]
    found = []
    if collection.jobs > 1:
        found.append(f"There are {collection.jobs} garbage collection jobs; there must be one.")
    last = collection.last
    if last is not None and last.passed is False and not collection.outdated:
        found.append(f"The last garbage collection {_how(last)}: {last.message or last.state}.")
    return found


def _how(last: LastRun) -> str:
    return "left some of its work" if last.outcome == INCOMPLETE else "failed"


def outdated(collection: GcStatus, last: LastRun) -> str:
    return (
        f"The last garbage collection {_how(last)} ({last.message or last.state}). It began before the token was "
        f"renewed at {collection.renewed:%Y-%m-%d %H:%M} UTC, so it does not tell how things are now; the next one "
        "will."
    )


def warnings(seen: Observed, stages: Sequence[StageView], now: datetime) -> list[str]:
    found = [text for stage in stages for text in stage.warnings]
    if seen.unfinished.at_work:
        found.append(f"This installation is being worked on: {seen.unfinished.at_work}.")
        found += about_unfinished(seen)
    if seen.project is None:
        return found
    found += about_records(seen)
    if seen.collection.outdated and seen.collection.last is not None:
        found.append(outdated(seen.collection, seen.collection.last))
    last = seen.collection.last
    if last is not None and last.passed is None:
        found.append(f"The last garbage collection has finished, result unknown: {last.message}.")
    for known in seen.token.stored:
        if known.expires is not None and known.expires > now and (text := token_expiry.warning(known.expires, now)):
            found.append(f"{text.rstrip('.')} ({known.account}).")
    found += missed.warnings(_missed_collection(seen))
    found += status_backups.warnings(seen.backups, now)
    if seen.made is not None and seen.made.edited:
        found.append(f"The project's files were changed after the upload: {', '.join(seen.made.edited[:3])}.")
    return list(dict.fromkeys(found))
