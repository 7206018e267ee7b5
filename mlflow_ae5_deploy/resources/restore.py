"""A restore as a resource: its changes, its refusals before anything is stopped, and its record in the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import DeployError, SchemaMismatch, StageFailed, TargetInUse, TargetNotEmpty
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import as_sentence, count
from mlflow_ae5_deploy.common.variable_names import DATABASE
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.records import RestoreRecord, SnapshotRecord
from mlflow_ae5_deploy.jobs import one_off, runner, tasks
from mlflow_ae5_deploy.jobs.interrupted_run import interrupted_run
from mlflow_ae5_deploy.jobs.job_errors import error_class, require
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.resources import backup_destination
from mlflow_ae5_deploy.resources.interrupted import InterruptedUpgrade
from mlflow_ae5_deploy.resources.secrets import SecretState

_REPLACE_TOO = " Unless database and artifacts are empty, also add --replace, which moves them to a saved copy."


# changes ----------------------------------------------------------------------------------------------------------


class CheckRestore(Change):
    """The dry run before a server is stopped. name: of the snapshot; empty for an undo."""

    verb, resource = "check", "snapshot"

    @property
    def target(self) -> str:
        return _snapshot(self.name) if self.name else "saved copy"


class RestoreSnapshot(Change):
    verb, resource = "restore", "snapshot"

    @property
    def target(self) -> str:
        return _snapshot(self.name)


@dataclass(frozen=True, kw_only=True)
class UndoRestore(Change):
    """name: of the saved copy; empty for that of the last restore."""

    verb, resource = "restore", "saved copy"
    consequences: tuple[Consequence, ...] = (
        Consequence(
            Impact.DATA,
            "the present data is moved to a saved copy, with everything written since the restore; "
            "`restore --list-saved` shows the saved copies",
        ),
    )

    @property
    def target(self) -> str:
        return super().target if self.name else "the saved copy of the last restore"


@dataclass(frozen=True)
class RecordedData:
    """What this machine knows of the data before a job looks. Other machines and schedules may have added to it."""

    upgrade: InterruptedUpgrade | None = None
    snapshot: SnapshotRecord | None = None  # the newest
    restore: RestoreRecord | None = None  # the last

    def snapshot_words(self, desired: RestoreRequest) -> str:
        """Of the snapshot that is to be restored; empty where nothing is recorded of it."""
        found = self.snapshot
        if found is None or not desired.names(found.id):
            return ""
        runs = f", {count(found.runs, 'runs')}" if found.runs is not None else ""
        words = f"{found.id}, {found.finished:%Y-%m-%d %H:%M} UTC{runs}"
        return f"the latest recorded here is {words}" if desired.snapshot == "latest" else words

    @property
    def saved_copy_words(self) -> str:
        last = self.restore
        if last is None or not last.saved_copy:
            return "no saved copy is recorded here (`restore --list-saved` shows all)"
        return f"the one recorded here is {last.saved_copy}, of the restore at {last.when:%Y-%m-%d %H:%M} UTC"


def _snapshot(name: str) -> str:
    return "the latest snapshot" if name == "latest" else f"snapshot {name}"


def check_change(desired: RestoreRequest) -> CheckRestore:
    if desired.undo:
        return CheckRestore(reason="the server is stopped only if there is a saved copy")
    return CheckRestore(name=desired.snapshot, reason="the server is stopped only if the snapshot is undamaged")


def restore_change(desired: RestoreRequest, recorded: RecordedData) -> RestoreSnapshot | UndoRestore:
    if desired.undo:
        copy = "" if desired.saved_copy else f"; {recorded.saved_copy_words}"
        return UndoRestore(name=desired.saved_copy or "", reason=f"in place of the present data{copy}")
    if not desired.replace:
        return RestoreSnapshot(name=desired.snapshot, reason="requested")
    moved = (
        "the present database and artifacts are moved to a saved copy; `restore --undo --stop-server` brings them back"
    )
    lost = (
        "everything written since the snapshot is no longer served; `restore --dry-run` shows what the snapshot holds"
    )
    given_up = (recorded.upgrade.given_up,) if recorded.upgrade is not None else ()
    consequences = (Consequence(Impact.DATA, lost), Consequence(Impact.DATA, moved), *given_up)
    words = recorded.snapshot_words(desired)
    reason = f"in place of the present data{f'; {words}' if words else ''}"
    return RestoreSnapshot(name=desired.snapshot, reason=reason, consequences=consequences)


# refusals ---------------------------------------------------------------------------------------------------------


def refuse_in_use(desired: RestoreRequest, servers: Sequence[Deployment]) -> None:
    if not servers or desired.stop_server:
        return
    names = ", ".join(f"`{item.name}` ({item.id}, {item.state})" for item in servers)
    command = " ".join(word for word in ("restore", desired.options, "--stop-server") if word)
    raise TargetInUse(
        f"A server of this installation runs on the data to be restored: deployment {names}.",
        where="stage 7 (recovery)",
        remedy=f"Nothing was changed. `{command}` stops it first; {_lost(desired)}"
        + ("" if desired.replace or desired.undo else _REPLACE_TOO),
    )


def _lost(desired: RestoreRequest) -> str:
    if desired.undo:
        return "the present data is then moved to a saved copy, with everything written since the restore."
    return "everything written since the snapshot is then no longer served."


def refuse_occupied(desired: RestoreRequest, servers: Sequence[Deployment], secrets: Sequence[SecretState]) -> None:
    """A served database is not empty: no need to stop the server to find that out."""
    served = any(secret.name == DATABASE and secret.state == "same" for secret in secrets)
    if servers and served and not desired.replace and not desired.undo:
        raise TargetNotEmpty(
            "The running server uses the database to be restored, so that database is not empty.",
            where=f"deployment {servers[0].name}",
            remedy=f"Nothing was changed. `restore {desired.again}` moves its data to a saved copy; "
            "`restore --undo --stop-server` brings it back.",
        )


def check_first(context: Context, project: Project, desired: RestoreRequest, *, replaced: bool = False) -> None:
    """Run the restore as a dry run, and raise if anything but the running server would refuse it.

    replaced: a new release is about to replace the project, and may know a schema that this one does not.
    """
    backup_destination.store(context)
    task = tasks.restore(*desired.job_words, "--dry-run")
    job_result = runner.attempt(context, project, task, seconds=desired.wait)
    if replaced and job_result.exit_code == SchemaMismatch.exit_code:
        return
    try:
        require(task, job_result)
    except DeployError as error:
        error.remedy = f"No data was changed, and the server was not stopped. {error.remedy}".rstrip()
        raise
    refusals = [item for item in job_result.report.would_refuse if item.exit_code != TargetInUse.exit_code]
    if refusals:
        raise error_class(refusals[0].exit_code)(
            f"The restore would be refused: {'; '.join(scrub(item.error) for item in refusals)}.",
            where=f"run {job_result.run_id}",
            remedy=as_sentence(scrub(refusals[0].hint)) or "Fix that first. Nothing was changed.",
        )


def require_database(context: Context, job_result: JobResult[RestoreReport]) -> None:
    """Raise StageFailed unless the job has used the configured database: a changed secret may reach jobs late."""
    used = job_result.report.dialect.target if job_result.report.dialect else ""
    desired = parse_store_uri(context.values.store_uri(context.settings.server.backend_store_uri).reveal()).dialect
    if used not in ("", desired):
        raise StageFailed(
            f"The job restored into {used}, but {desired} is configured: it did not see the new {DATABASE} yet.",
            stage=7,
            where=DATABASE,
            remedy="AE5 may take minutes to pass a changed secret to jobs. Wait, then run this again. The data in "
            f"{used} is safe: a later restore there refuses it, or moves it to a saved copy.",
        )


# the record in the state ------------------------------------------------------------------------------------------


def note_interrupted(
    context: Context, project: Project, job_result: JobResult[RestoreReport], previous: RestoreRecord | None = None
) -> None:
    """Record what a job of the command Restore reports of the data. previous: the record of the restore before.

    Where the job has left no report, such as a killed one, the started restore stays unfinished.
    """
    if not job_result.report.has_interrupted_restore:
        return
    message, state = job_result.report.interrupted_restore, context.state
    started = state.started_restore
    if message:
        started = started or RestoreRecord(None, project.id, context.clock.now())
        state.restore = replace(started, message=scrub(message))
        state.save()
        return
    left = interrupted_run(context, project, tasks.restore())
    if left is not None and (left.run.is_active or (left.job_result and left.job_result.succeeded)):
        return  # it may still start, or the next restore takes its result for its own
    if left is not None:
        delete_restore_job(context, project)
    if started is not None:
        state.restore = previous if previous is not None and previous.status == "done" else None
        state.save()


def delete_restore_job(context: Context, project: Project) -> None:
    one_off.clear(context, project, runner.one_off_spec(context, tasks.restore()).name)


def mark_verified(context: Context) -> None:
    """Record that the restored server was verified, and delete the job of an interrupted call: its result must not be
    taken for that of a later restore."""
    state, project = context.state, context.cached.project(context.settings.project.name)
    if state.restore is None or project is None:
        return
    state.restore = replace(state.restore, verified=True)
    state.save()
    delete_restore_job(context, project)
