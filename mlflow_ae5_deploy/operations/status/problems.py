"""What is wrong with an installation. Pure.

Healthy means: the server and its database are reachable by those it is shared with; consumers and garbage collection
have the secrets they need; the last collection, backup, check of a snapshot and drill succeeded. Drift is no error: a
changed setting that is not installed yet does not make a server unhealthy. Another release or job than configured is a
warning, because the next `install` replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from mlflow_ae5_deploy.common.durations import moment
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.records import StoredToken
from mlflow_ae5_deploy.jobs.contract import OUTCOME_INCOMPLETE
from mlflow_ae5_deploy.operations import missed
from mlflow_ae5_deploy.operations.health_problem import CODES, ERROR, HealthProblem
from mlflow_ae5_deploy.operations.status import backups
from mlflow_ae5_deploy.operations.status.drift import StageDrift
from mlflow_ae5_deploy.operations.status.state import GcStatus, InstallationState, LastRun
from mlflow_ae5_deploy.resources import scheduled_job, token_expiry
from mlflow_ae5_deploy.resources.project import ReplaceProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob

_GC = "garbage collection"
_RESET_GC = (
    "Read its log with `logs --run ID`, and save it. Run `schedule-gc`, which resets the job to your configuration and "
    "deletes the logs of its runs, then `schedule-gc --run-now`."
)

_HANGS = "Read the server's log with `logs`. If it hangs, restart it with `rotate-token --restart`."

# Verbs whose run is itself the unfinished operation, or finishes it: an upgrade or a restore; a restart or a rotation.
_REPLACE_DATA = frozenset({"restore", "uninstall", "upgrade"})
_REPLACE_SERVER = _REPLACE_DATA | {"install", "rotate-token"}

_IN_PROGRESS = "run-in-progress"
# What such a run may not have done yet, or has undone for now; it holds the lock, which their remedies need.
_UNTIL_DONE = frozenset(
    {
        "not-installed",
        "no-server",
        "server-not-started",
        "server-public",
        "second-server",
        "secrets-missing",
        "not-shared",
        "token-expired",
        "token-missing",
        "token-not-known",
        "token-outdated",
        "gc-missing",
        "gc-duplicate",
        "gc-paused",
        "job-differs",
        "release-differs",
        "schedule-missing",
    }
)
_UPLOAD = 6  # the stage that warns of an interrupted upgrade only, which is observed
_WAIT = "Wait until that run ends."


def problems(state: InstallationState, drift: Sequence[StageDrift], now: datetime) -> list[HealthProblem]:
    """A run in progress, then errors, then warnings. Without an error the installation is healthy."""
    found = dict.fromkeys(_problems(state, drift, now))
    if state.unfinished.running and state.unfinished.verb in _REPLACE_SERVER:
        found = {replace(item, remedy=_WAIT) if item.code in _UNTIL_DONE else item: None for item in found}
    return sorted(found, key=lambda problem: (problem.code != _IN_PROGRESS, problem.severity != ERROR))


def _problems(state: InstallationState, drift: Sequence[StageDrift], now: datetime) -> Iterator[HealthProblem]:
    # Stage 14 warns of paused jobs only, which are observed.
    observed = {scheduled_job.STAGE, *((_UPLOAD,) if state.interrupted_upgrade else ())}
    texts = [text for stage in drift if stage.number not in observed for text in stage.warnings]
    yield from (HealthProblem("configuration", text) for text in texts)
    yield from paused_gc(state.gc)
    if state.unfinished.running:
        yield HealthProblem(_IN_PROGRESS, f"Another run is in progress: {state.unfinished.running}.")
    elif state.unfinished.install_since is not None:
        text = f"An `install` was interrupted {moment(state.unfinished.install_since, now)}."
        yield HealthProblem("install-interrupted", text)
    if state.unfinished.interrupted:
        code = "upgrade-interrupted" if state.unfinished.interrupted_verb == "upgrade" else "restore-interrupted"
        yield HealthProblem(code, state.unfinished.interrupted, state.unfinished.interrupted_remedy)
    if state.interrupted_upgrade:
        yield _interrupted_upgrade(state)
    elif state.project is None:
        why = "the account has no such project" if state.account_exists else "the account does not exist"
        yield HealthProblem("not-installed", f"Nothing is installed: {why}.")
    elif state.interrupted_restore is not None and state.unfinished.verb not in _REPLACE_DATA:
        restore = state.interrupted_restore
        yield HealthProblem("restore-interrupted", restore.message, restore.remedy)
    if state.project is None:
        return
    # A restore or an upgrade stops the server, and starts it at its end.
    unfinished = state.interrupted_restore is not None or state.interrupted_upgrade or state.unfinished.interrupted
    hidden = "no-server" if unfinished else ""
    yield from (problem for problem in server_problems(state) if problem.code != hidden)
    others = _of_a_project(state, drift, now)
    # An interrupted upgrade may be the cause of any other error.
    yield from (problem for problem in others if not state.interrupted_upgrade or _is_apart(problem))


def _is_apart(problem: HealthProblem) -> bool:
    """From an interrupted upgrade."""
    return problem.severity != ERROR and problem.code != "release-differs"


def _of_a_project(state: InstallationState, drift: Sequence[StageDrift], now: datetime) -> Iterator[HealthProblem]:
    """Except those of its server."""
    yield from drift_problems(drift)
    yield from token_problems(state, now)
    yield from unverified_tokens(state, now)
    yield from gc_problems(state.gc, now, differs=any(change.purpose == _GC for change in _other_jobs(drift)))
    last = state.gc.last
    if last is not None and state.gc.outdated:
        yield outdated_failure(state.gc, last, now)
    if last is not None and last.passed is None:
        text = f"The last garbage collection finished, result unknown: {last.message}."
        yield HealthProblem("result-unknown", text, f"Read its log with `logs --run {last.id}`.")
    yield from expiring_tokens(state, now)
    yield from missed.problems([state.gc.missed] if state.gc.missed else [])
    yield from backups.problems(state.backups, now)
    yield from unfinished_problems(state, now)
    if state.missing_secrets:
        text = f"Secrets of the account are missing: {', '.join(state.missing_secrets)}."
        yield HealthProblem("secrets-missing", text)
    unshared = [f"{kind} {name}" for kind, name in state.desired_shared if (kind, name) not in state.shared]
    if unshared and state.deployment is not None:
        yield HealthProblem("not-shared", f"Not shared with {', '.join(unshared)}, although configured.")
    if state.build is not None and state.build.edited:
        text = f"The project's files were changed after the upload: {', '.join(state.build.edited[:3])}."
        yield HealthProblem("project-edited", text)


def drift_problems(drift: Sequence[StageDrift]) -> list[HealthProblem]:
    """Differences from the configuration that the next `install` reverts at a cost."""
    found = []
    for change in (change for stage in drift for change in stage.changes):
        if isinstance(change, ReplaceProject) and change.release:
            text = f"The installed release is not the configured one; `install` would replace it: {change.release}."
            found.append(HealthProblem("release-differs", text))
    for job in _other_jobs(drift):
        text = f"The {job.purpose} job differs from your configuration: {'; '.join(job.differences)}."
        reset = (
            "To reset it, run `schedule-gc`, which deletes the logs of its runs. To keep it, change the settings `gc`."
        )
        remedy = reset if job.purpose == _GC else ""
        found.append(HealthProblem("job-differs", text, remedy))
    return found


def _other_jobs(drift: Iterable[StageDrift]) -> list[DeleteJob]:
    """Scheduled jobs that are not as configured."""
    changes = (change for stage in drift for change in stage.changes)
    return [change for change in changes if isinstance(change, DeleteJob) and change.differences]


def _interrupted_upgrade(state: InstallationState) -> HealthProblem:
    code, release = "upgrade-interrupted", state.interrupted_upgrade
    if state.unfinished.verb in _REPLACE_DATA:
        text = f"An upgrade to {release} has not finished: {state.unfinished.running}."
        return HealthProblem(code, text, "Wait until it ends.")
    if state.rollback_failed:
        why = state.rollback_failed.rstrip(".")
        text = f"An upgrade to {release} failed ({why}), and its rollback has not finished."
        return HealthProblem(code, text, "Run `upgrade --roll-back`.")
    return HealthProblem(code, f"An upgrade to {release} was interrupted.", state.upgrade_ways_out)


# shared with doctor -----------------------------------------------------------------------------------------------


def server_problems(state: InstallationState) -> list[HealthProblem]:
    current, found = state.deployment, []
    if state.rival is not None:
        text = f"Deployment {state.rival.name} of another project uses the endpoint (owner {state.rival.owner})."
        found.append(HealthProblem("endpoint-taken", text))
    for other in state.duplicates:
        text = f"A second server uses the same data: deployment {other.name} ({other.id})."
        found.append(HealthProblem("second-server", text, subject=other.id))
    if current is None:
        return [*found, HealthProblem("no-server", "No server runs: the project has no such deployment.")]
    if current.public:
        text = "The deployment is public: anyone can read and delete experiments."
        found.append(HealthProblem("server-public", text))
    if current.is_starting:
        return [*found, HealthProblem("server-starting", "The server is starting.")]
    if not current.is_started:
        shown = current.status_text if current.status_text.casefold() != current.state else ""
        text = f"The deployment is {current.state}{f' ({shown})' if shown else ''}, not started."
        return [*found, HealthProblem("server-not-started", text)]
    if not current.url:
        return [*found, HealthProblem("no-url", "The platform reports no URL for the deployment.")]
    if state.health is None:
        return [*found, HealthProblem("api-not-checked", "The MLflow API was not checked.")]
    if state.health.status == "unauthorised":
        text = f"The MLflow API was not checked: the endpoint rejected the login session ({state.health.message})."
        found.append(HealthProblem("api-not-checked", text))
    elif not state.health.answered:
        text = f"The MLflow API does not answer: {state.health.message}."
        found.append(HealthProblem("api-unhealthy", text, _HANGS))
    elif not state.health.healthy:
        found.append(HealthProblem("api-unhealthy", f"The MLflow API is not healthy: {state.health.message}."))
    return found


def token_problems(state: InstallationState, now: datetime) -> list[HealthProblem]:
    if state.deployment is None:
        return []
    current = [token for token in _in_use(state) if token.deployment_id == state.deployment.id]
    expired = [token for token in current if token.expires and token.expires <= now]
    found = [HealthProblem("token-missing", f"The token file {file} {why}.") for file, why in state.token.lost.items()]
    if expired:
        found.append(HealthProblem("token-expired", f"The token of {_accounts(expired)} has expired."))
    return found


def expiring_tokens(state: InstallationState, now: datetime) -> list[HealthProblem]:
    found = []
    for token in _in_use(state):
        text = token_expiry.warning(token.expires, now) or ""
        if text and token.expires is not None and token.expires > now:
            found.append(HealthProblem("token-expiring", f"{text.rstrip('.')} ({token.account})."))
    return found


def _in_use(state: InstallationState) -> tuple[StoredToken, ...]:
    """Tokens that this machine has stored, without that of the service account where another machine has replaced it.

    A garbage collection has then used another one.
    """
    last = state.gc.last
    return state.token.stored[1 if last is not None and last.own_token is False else 0 :]


def unverified_tokens(state: InstallationState, now: datetime) -> list[HealthProblem]:
    """Why this machine does not know that the stored tokens work. Another administrator may have stored others."""
    token = state.token
    if not token.stored and not token.previous:
        text = "Another machine stored the token; whether it is current is not visible from here."
        return [HealthProblem("token-not-known", text)] if token.listed else []
    if state.deployment is None:
        return []
    found = []
    if len(_in_use(state)) < len(token.stored) and state.gc.last is not None and state.gc.last.began is not None:
        text = (
            f"Another machine stored a newer token for {token.stored[0].account}: the garbage collection that started "
            f"{moment(state.gc.last.began, now)} did not use the one of this machine."
        )
        found.append(HealthProblem("token-not-known", text))
    if token.rewritten:
        text = (
            f"Another machine or program wrote the token file {', '.join(token.rewritten)}; which token is current "
            "is not visible from here."
        )
        found.append(HealthProblem("token-not-known", text))
    if earlier := [one for one in _in_use(state) if one.deployment_id != state.deployment.id]:
        text = (
            f"The token that this machine stored for {_accounts(earlier)} is of an earlier deployment; "
            "whether it was replaced is not visible from here."
        )
        found.append(HealthProblem("token-outdated", text))
    if token.previous:
        text = (
            f"The token that this machine stored for {_accounts(token.previous)} is older than the last change to "
            "the deployment."
        )
        found.append(HealthProblem("token-outdated", text))
    return found


def _accounts(tokens: Iterable[StoredToken]) -> str:
    return ", ".join(token.account for token in tokens)


def unfinished_problems(state: InstallationState, now: datetime) -> list[HealthProblem]:
    unfinished = state.unfinished
    if unfinished.verb in _REPLACE_SERVER:
        return []
    if unfinished.restart_since is not None:
        text = f"A restart has not finished; it was started {moment(unfinished.restart_since, now)}."
        return [HealthProblem("restart-interrupted", text)]
    if unfinished.accounts_remaining:
        reason = f"no new token for {', '.join(unfinished.accounts_remaining)} yet"
    elif unfinished.gc_untested:
        reason = "the gc job was not tested with the new token"
    else:
        return []
    return [HealthProblem("rotation-interrupted", f"A token rotation has not finished: {reason}.")]


def gc_problems(gc: GcStatus, now: datetime, *, differs: bool = False) -> list[HealthProblem]:
    """differs: the job is not as configured, which may be why it fails."""
    if gc.jobs == 0:
        return [HealthProblem("gc-missing", "There is no garbage collection job.")]
    found = []
    if gc.jobs > 1:
        text = f"There are {counted(gc.jobs, 'garbage collection jobs')}; there must be one."
        found.append(HealthProblem("gc-duplicate", text))
    last = gc.last
    if last is not None and last.passed is False and not gc.outdated:
        when = f", started {moment(last.began, now)}," if last.began else ""
        text = f"The last garbage collection{when} {_failure(last)}: {last.message or last.state}."
        remedy = _RESET_GC if differs else CODES["gc-failed"].remedy
        found.append(HealthProblem("gc-failed", text, remedy.replace("--run ID", f"--run {last.id}")))
    return found


def _failure(last: LastRun) -> str:
    return "is incomplete" if last.outcome == OUTCOME_INCOMPLETE else "failed"


def paused_gc(gc: GcStatus) -> list[HealthProblem]:
    return [HealthProblem("gc-paused", scheduled_job.paused_words(_GC))] if gc.paused else []


def outdated_failure(gc: GcStatus, last: LastRun, now: datetime) -> HealthProblem:
    renewed = f" at {moment(gc.renewed, now)}" if gc.renewed else ""
    text = (
        f"The last garbage collection {_failure(last)} ({last.message or last.state}), before the token was "
        f"renewed{renewed}."
    )
    return HealthProblem("gc-not-retested", text)
