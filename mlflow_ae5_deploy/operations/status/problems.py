"""What is wrong with an installation, as sentences. Pure.

Healthy means: the server and its database are reachable by those it is shared with; consumers and garbage collection
have the secrets they need; the last collection, backup, check of a snapshot and drill succeeded. Drift is no problem: a
changed setting that is not installed yet does not make a server unhealthy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mlflow_ae5_deploy.engine.records import StoredToken
from mlflow_ae5_deploy.jobs.contract import OUTCOME_INCOMPLETE
from mlflow_ae5_deploy.operations import missed, status_backups
from mlflow_ae5_deploy.operations.status.drift import StageDrift
from mlflow_ae5_deploy.operations.status.state import GcStatus, InstallationState, LastRun
from mlflow_ae5_deploy.resources import token_expiry


def problems(state: InstallationState, now: datetime) -> list[str]:
    """None means healthy."""
    if state.interrupted_upgrade:
        return [_interrupted_upgrade(state), *(server_problems(state) if state.project else [])]
    if state.project is None:
        why = "the account has no such project" if state.account_exists else "the account does not exist"
        return [f"Nothing is installed: {why}."]
    sentences = server_problems(state) + token_problems(state, now) + gc_problems(state.collection)
    if state.interrupted_restore is not None and not state.unfinished.running:
        sentences.insert(0, f"{state.interrupted_restore.message} {state.interrupted_restore.remedy}")
    sentences += missed.problems(_missed(state.collection)) + status_backups.problems(state.backups)
    if not state.unfinished.running:  # a running operation will finish it: a warning
        sentences += unfinished_problems(state)
    if state.missing_secrets:
        sentences.append(f"Not set as secrets of the account: {', '.join(state.missing_secrets)}.")
    unshared = [f"{kind} {name}" for kind, name in state.desired_shared if (kind, name) not in state.shared]
    if unshared and state.deployment is not None:
        sentences.append(f"Not shared with {', '.join(unshared)}, although configured.")
    return sentences


def warnings(state: InstallationState, drift: Iterable[StageDrift], now: datetime) -> list[str]:
    """What an administrator should know of an installation, healthy or not."""
    sentences = [text for stage in drift for text in stage.warnings]
    if state.unfinished.running:
        sentences += [f"Another run is in progress: {state.unfinished.running}.", *unfinished_problems(state)]
    if state.project is None:
        return sentences
    sentences += unverified_tokens(state)
    last = state.collection.last
    if last is not None and state.collection.outdated:
        sentences.append(outdated_failure(state.collection, last))
    if last is not None and last.passed is None:
        sentences.append(f"The last garbage collection has finished, result unknown: {last.message}.")
    for token in state.token.stored:
        text = token_expiry.warning(token.expires, now)
        if text and token.expires is not None and token.expires > now:
            sentences.append(f"{text.rstrip('.')} ({token.account}).")
    sentences += missed.warnings(_missed(state.collection)) + status_backups.warnings(state.backups, now)
    if state.build is not None and state.build.edited:
        sentences.append(f"The project's files were changed after the upload: {', '.join(state.build.edited[:3])}.")
    return list(dict.fromkeys(sentences))


def _missed(collection: GcStatus) -> list[missed.Missed]:
    return [collection.missed] if collection.missed else []


def _interrupted_upgrade(state: InstallationState) -> str:
    release = state.interrupted_upgrade
    if state.unfinished.running:
        return f"An upgrade to {release} has not ended: {state.unfinished.running}."
    if state.rollback_failed:
        return (
            f"An upgrade to {release} failed, and its rollback has not finished: run `upgrade --roll-back`. "
            f"Why the upgrade failed: {state.rollback_failed}"
        )
    return f"An upgrade to {release} was interrupted: run `upgrade` again, or `upgrade --roll-back`."


# shared with doctor -----------------------------------------------------------------------------------------------


def server_problems(state: InstallationState) -> list[str]:
    current, sentences = state.deployment, []
    if state.rival is not None:
        sentences.append(
            f"The endpoint is used by deployment {state.rival.name} of another project ({state.rival.owner})."
        )
    for other in state.duplicates:
        sentences.append(f"A second server uses the same data: deployment {other.name} ({other.id}).")
    if current is None:
        return [*sentences, "No server runs: the project has no such deployment."]
    if current.public:
        sentences.append("The deployment is public: anyone can read and delete experiments.")
    if not current.is_started:
        detail = f" ({current.status_text})" if current.status_text else ""
        return [*sentences, f"The deployment is {current.state}{detail}, not started."]
    if not current.url:
        return [*sentences, "The platform reports no URL for the deployment."]
    if state.health is None:
        return [*sentences, "The MLflow API is not healthy: it was not checked."]
    if state.health.status == "unauthorised":
        sentences.append(
            f"The MLflow API was not checked: the endpoint rejected the login session ({state.health.message})."
        )
    elif not state.health.healthy:
        sentences.append(f"The MLflow API is not healthy: {state.health.message}.")
    return sentences


def token_problems(state: InstallationState, now: datetime) -> list[str]:
    if state.deployment is None:
        return []
    current = [token for token in state.token.stored if token.deployment_id == state.deployment.id]
    expired = [token for token in current if token.expires and token.expires <= now]
    return [f"The token stored for {_accounts(expired)} has expired."] if expired else []


def unverified_tokens(state: InstallationState) -> list[str]:
    """Why this machine does not know that the stored tokens work. Another administrator may have stored others."""
    token = state.token
    if not token.stored and not token.previous:
        stored_elsewhere = (
            "The token was stored from another machine; whether it is of this deployment is not known here."
        )
        return [stored_elsewhere] if token.listed else []
    if state.deployment is None:
        return []
    sentences, remedy = [], "Run `rotate-token --if-needed`."
    if earlier := [one for one in token.stored if one.deployment_id != state.deployment.id]:
        sentences.append(
            f"The token this machine stored for {_accounts(earlier)} is of an earlier deployment; "
            f"whether it was replaced since is not known here. {remedy}"
        )
    if token.previous:
        sentences.append(
            f"The token this machine stored for {_accounts(token.previous)} is older than a change to the deployment. "
            f"{remedy}"
        )
    return sentences


def _accounts(tokens: Iterable[StoredToken]) -> str:
    return ", ".join(token.account for token in tokens)


def unfinished_problems(state: InstallationState) -> list[str]:
    unfinished = state.unfinished
    if unfinished.restart_since is not None:
        started = f"{unfinished.restart_since:%Y-%m-%d %H:%M} UTC"
        return [f"A restart that was started at {started} has not finished. Run `rotate-token` to finish it."]
    if unfinished.accounts_left:
        reason = f"{', '.join(unfinished.accounts_left)} has not got the new token"
    elif unfinished.gc_untested:
        reason = "the gc job was not tested with the new token"
    else:
        return []
    return [f"A token rotation has not finished: {reason}. Run `rotate-token` to finish it."]


def gc_problems(collection: GcStatus) -> list[str]:
    if collection.jobs == 0:
        return ["There is no garbage collection job."]
    sentences = []
    if collection.jobs > 1:
        sentences.append(f"There are {collection.jobs} garbage collection jobs; there must be one.")
    last = collection.last
    if last is not None and last.passed is False and not collection.outdated:
        sentences.append(f"The last garbage collection {_failure(last)}: {last.message or last.state}.")
    return sentences


def _failure(last: LastRun) -> str:
    return "is incomplete" if last.outcome == OUTCOME_INCOMPLETE else "failed"


def outdated_failure(collection: GcStatus, last: LastRun) -> str:
    return (
        f"The last garbage collection {_failure(last)} ({last.message or last.state}), but before the token was "
        f"renewed at {collection.renewed:%Y-%m-%d %H:%M} UTC. The next run shows whether it works now."
    )
