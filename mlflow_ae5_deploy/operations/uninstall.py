"""Delete an installation. The account and a copy of the project's archive are kept; so is data outside the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.common.errors import Conflict, NotFound, PartlyDone, PlatformError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import execute, require_consent
from mlflow_ae5_deploy.jobs import one_off
from mlflow_ae5_deploy.operations.uninstall_plan import GiveUpUpgrade, Kept, UninstallState, diff, kept, observe
from mlflow_ae5_deploy.operations.upgrade.staging_project import delete_staging_project
from mlflow_ae5_deploy.resources.deployment import StopDeployment, stop
from mlflow_ae5_deploy.resources.project import DeleteProject, delete_project_and_runs, keep_archive
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, DeleteRuns
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets
from mlflow_ae5_deploy.resources.token import sign_in

ShowPlan = Callable[[Sequence[Change], Sequence[Kept]], None]
"""Called with the changes and what is kept, before the question."""


@dataclass
class UninstallResult:
    """What was deleted and kept. failed: consumers whose secrets could not be deleted, with the reason."""

    changes: list[Change]
    kept: list[Kept]
    secrets: tuple[str, ...]
    """Of the service account, before any was deleted."""
    archive: Path | None = None
    """The project's, on this machine."""
    failed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def unchanged(self) -> bool:
        return not self.changes and not self.failed


def confirm(context: Context, show_plan: ShowPlan, *, purge: bool, force: bool) -> UninstallState | None:
    """Ask before the lock is taken, so that no other run waits for the answer. None: there is nothing to delete."""
    state = observe(context, purge=purge, force=force)
    changes = diff(state, purge=purge)
    if changes:
        show_plan(changes, kept(context, state, purge=purge))
        require_consent(context, changes, where="uninstall")
    context.cached.forget()
    return state if changes else None


def uninstall(
    context: Context, confirmed: UninstallState | None, show_plan: ShowPlan, *, purge: bool, force: bool
) -> UninstallResult:
    """Delete what exists. confirmed: what a person has agreed to delete already; None: ask now."""
    state = observe(context, purge=purge, force=force)
    changes = diff(state, purge=purge)
    result = UninstallResult(changes, kept(context, state, purge=purge), state.secrets)
    troubles = [consumer for consumer in state.consumers if consumer.trouble]
    if not changes and not troubles:
        context.state.forget_deployment()
        return result
    if confirmed is not None:
        _require_same(changes, diff(confirmed, purge=purge))
    else:
        show_plan(changes, result.kept)
        require_consent(context, changes, where="uninstall")
    if state.project is not None:
        try:
            result.archive = keep_archive(context, state.project, "removed")
        except NotFound as error:
            result.warnings.append(f"The project has no archive to save: {error.what}")
    context.state.forget_deployment()  # before the first effect: its token is not to be used again
    delete_staging_project(context)  # of an interrupted rehearsal of an upgrade
    execute(changes, lambda change: _apply(change, state, result, context), context.journal)
    for consumer in troubles:
        _record_failure(context, consumer.username, consumer.trouble, result)
    context.cached.forget()
    return result


def require(result: UninstallResult) -> None:
    """Raise PartlyDone where secrets of a consumer are still there."""
    if result.failed:
        raise PartlyDone(
            f"Could not delete the secrets of {counted(len(result.failed), 'consumers')}.",
            where="consumers",
            detail="\n".join(f"- {line}" for line in result.failed),
        )


def _require_same(changes: Sequence[Change], confirmed: Sequence[Change]) -> None:
    """Fewer changes need no question, and neither do more records of runs (see `identity`)."""
    identities = {change.identity for change in confirmed}
    if new := [change for change in changes if change.identity not in identities]:
        raise Conflict(
            "There is more to delete than you confirmed: the installation has changed.",
            where="uninstall",
            remedy="Nothing was changed. Run this again to see the new plan.",
            detail="\n".join(f"- {change.phrase}" for change in new),
        )


def _apply(change: Change, state: UninstallState, result: UninstallResult, context: Context) -> None:
    match change:
        case GiveUpUpgrade():
            context.journal.effect("end", f"the interrupted upgrade to {change.name}")
        case DeleteJob():
            job = next(job for job in state.jobs if job.id == change.id)
            if job.schedule is not None:
                context.platform.pause_job(job.id)  # so that no run starts before it is deleted
            one_off.delete_job(context, job)
        case DeleteRuns():
            one_off.delete_runs(context, state.runs)
        case StopDeployment():
            stop(context, next(item for item in state.deployments if item.id == change.id))
        case DeleteProject() if state.project is not None:
            delete_project_and_runs(context, state.project)  # also runs that have started since the plan
        case DeleteSecrets() if not change.name:
            _delete_secrets(context, context.platform, context.account, change.names)
        case DeleteSecrets():
            try:
                _delete_secrets(context, sign_in(context, change.name), change.name, change.names)
            except PlatformError as error:
                _record_failure(context, change.name, error.what, result)
        case _:
            raise AssertionError(change)


def _record_failure(context: Context, account: str, trouble: str, result: UninstallResult) -> None:
    context.journal.write("failed", account=account, what=trouble)
    result.failed.append(f"{account}: {trouble}")


def _delete_secrets(context: Context, platform: Client, account: str, names: Sequence[str]) -> None:
    for name in names:
        platform.delete_secret(name)
        context.state.forget_secret(account, name)
    context.journal.effect("delete", "secrets", ", ".join(names), account=account)
