"""Interrupted restores and upgrades: how they show, and what must wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import Locked, StageFailed
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.engine.state import SavedState
from mlflow_ae5_deploy.jobs import tasks
from mlflow_ae5_deploy.jobs.interrupted_run import interrupted_run
from mlflow_ae5_deploy.jobs.tasks import JobRequest
from mlflow_ae5_deploy.resources.current_deployment import match_deployment

_MUST_WAIT = {
    "create": "a new snapshot could contain partly migrated data",
    "prune": "the snapshot for its rollback must stay",
}


# upgrade ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InterruptedUpgrade:
    release: str  # the new one
    schema_touched: bool  # the database is, or may be, partly migrated
    rolling_back: bool  # so it cannot be resumed any more
    options: str = ""  # of `upgrade`, to resume it; empty where they are not known
    snapshot: str = ""  # of the data before the migration; empty where that is not made yet

    @property
    def message(self) -> str:
        if self.rolling_back:
            return f"An upgrade to {self.release} failed, and its rollback has not finished"
        return f"An upgrade to {self.release} was interrupted"

    @property
    def remedy(self) -> str:
        return f"Nothing was changed. {self.ways_out}"

    @property
    def warning(self) -> str:
        """For a run that may start a server meanwhile."""
        return f"{self.message}; it has left the database unchanged. {self.ways_out}"

    @property
    def ways_out(self) -> str:
        if self.rolling_back:
            return "Run `upgrade --roll-back` to finish that."
        again = f"`upgrade {self.options}`" if self.options else "the same upgrade again"
        return f"Run {again} to finish it, or `upgrade --roll-back` to undo it."

    @property
    def data(self) -> str:
        """A sentence on the data."""
        if not self.schema_touched:
            return "The upgrade has not changed the database."
        return f"The database may be partly migrated; snapshot {self.snapshot} has the data from before."

    @property
    def given_up(self) -> Consequence:
        """By a restored snapshot, or an uninstall."""
        return self._consequence("is given up; instead,")

    @property
    def stays(self) -> Consequence:
        """While the project is replaced."""
        return self._consequence("stays unfinished:")

    def _consequence(self, becomes: str) -> Consequence:
        again = f"`upgrade {self.options}`" if self.options else "the same upgrade"
        ways_out = f"{again} finishes it, `upgrade --roll-back` undoes it"
        if self.rolling_back:
            ways_out = "`upgrade --roll-back` finishes its rollback"
        return Consequence(Impact.DATA, f"the interrupted upgrade to {self.release} {becomes} {ways_out}")


def interrupted_upgrade(state: SavedState) -> InterruptedUpgrade | None:
    record = state.upgrade
    if record is None:
        return None
    touched = record.schema_touched and not record.restored
    return InterruptedUpgrade(
        record.release, touched, bool(record.failure), options=record.options, snapshot=record.snapshot or ""
    )


def refuse_partly_migrated(upgrade: InterruptedUpgrade | None, restore: RestoreRequest | None, stage: int) -> None:
    """Raise StageFailed where a server would be started on a partly migrated database.

    A snapshot that is restored replaces that database; an undo may bring back the very same one.
    """
    if upgrade is None or not upgrade.schema_touched or (restore is not None and not restore.undo):
        return
    raise StageFailed(
        f"{upgrade.message}: the database may be partly migrated, so no server is started on it.",
        stage=stage,
        remedy=upgrade.remedy,
    )


def refuse_backup_during_upgrade(context: Context, task: JobRequest[Any]) -> None:
    """Raise Locked for a new snapshot or a pruning while an upgrade is interrupted."""
    upgrade = interrupted_upgrade(context.state)
    reason = _MUST_WAIT.get(task.words[0]) if task.command == "Backup" and task.words else None
    if upgrade is not None and reason is not None:
        where = f"project {context.settings.project.name}"
        raise Locked(f"{upgrade.message}: {reason}.", where=where, remedy=upgrade.remedy)


def end_upgrade_by_restore(context: Context) -> None:
    """Forget the upgrade: a restored snapshot is not partly migrated."""
    record = context.state.upgrade
    if record is not None:
        context.state.upgrade = None
        context.state.save()
        context.journal.effect("end", f"the interrupted upgrade to {record.release}")


# restore ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InterruptedRestore:
    """Database and artifacts are, or may be, partly restored."""

    message: str
    remedy: str


def servers_of(context: Context) -> tuple[Deployment, ...]:
    """Deployments of the project. The platform may start a failed one again."""
    chosen = match_deployment(context)
    return tuple(item for item in (chosen.current, *chosen.duplicates) if item is not None)


def interrupted_restore(context: Context, project: Project | None) -> InterruptedRestore | None:
    """A restore that has not ended, by the state and the platform's run records.

    A running server disproves it: none starts on such data.
    """
    if project is None or any(server.is_started for server in servers_of(context)):
        return None
    record = context.state.started_restore
    when = f" started at {record.when:%Y-%m-%d %H:%M} UTC" if record is not None else ""
    run = interrupted_run(context, project, tasks.restore())
    if run is not None and run.run.is_active:
        remedy = f"Wait until it ends, or run {_again(record)} to follow it."
        return InterruptedRestore(f"A restore{when} is still running on the platform.", remedy)
    if run is not None and run.job_result is not None:
        if run.job_result.report.has_interrupted_restore or run.job_result.succeeded:
            return _reported(run.job_result.report.interrupted_restore, record)
        return InterruptedRestore(f"A restore{when} was interrupted: {run.job_result.message}.", _resume(record))
    if record is None and run is None:
        return None
    message = record.message if record is not None else ""
    unknown = InterruptedRestore(f"A restore{when} was interrupted; its result is unknown.", _resume(record))
    return _reported(message, record) or unknown


def _reported(by_job: str, record: RestoreRecord | None) -> InterruptedRestore | None:
    """What the job itself has seen: only then is it known that an undo would bring back this restore's copy."""
    if not by_job:
        return None
    remedy = f"Run {_again(record)} to resume it"
    if record is None or not record.was_undo:
        remedy += ", or `restore --undo` to bring back the data from before it"
    return InterruptedRestore(_incomplete(by_job), f"{remedy}.")


def _incomplete(by_job: str) -> str:
    return f"Database and artifacts are incomplete: {scrub(by_job)}."


def started_restore_words(record: RestoreRecord) -> str:
    """The state of the data after a restore that has not ended, for a person who has just interrupted it."""
    return _incomplete(record.message) if record.message else "Database and artifacts may be incomplete."


def _resume(record: RestoreRecord | None) -> str:
    return f"Run {_again(record)} to resume it. `restore --dry-run` shows the present state."


def _again(record: RestoreRecord | None) -> str:
    if record is None or record.requested is None:
        return "the same `restore` again"
    return f"`{f'restore {record.options}'.strip()}` again"


def refuse_interrupted_restore(restore: InterruptedRestore | None, stage: int) -> None:
    if restore is not None:
        raise StageFailed(restore.message, stage=stage, remedy=f"Nothing was changed. {restore.remedy}")


def end_started_restore(state: SavedState) -> None:
    """Forget a started restore: a server runs on the data, or nothing is incomplete."""
    if state.started_restore is not None:
        state.restore = None
        state.save()
