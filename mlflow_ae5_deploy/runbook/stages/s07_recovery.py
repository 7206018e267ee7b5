"""Stage 7: data is restored before the server first starts, if requested.

The stage is named `recovery`, what it does is a restore. The secrets that locate the data are set first, because the
job that restores reads them. A restore is recorded with the project's id: after an interruption the next run does not
restore again; on a rebuilt platform (new project id) it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.jobs import job_errors, other_machines, runner, tasks
from mlflow_ae5_deploy.jobs.reports import RestoreReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.deployment import STOPPED, StopDeployment, restart_consequences, stop
from mlflow_ae5_deploy.resources.interrupted import (
    InterruptedRestore,
    end_upgrade_by_restore,
    interrupted_restore,
    interrupted_upgrade,
    refuse_interrupted_restore,
    servers_of,
)
from mlflow_ae5_deploy.resources.restore import (
    CheckRestore,
    RecordedData,
    RestoreSnapshot,
    UndoRestore,
    check_change,
    check_first,
    note_interrupted,
    refuse_in_use,
    refuse_occupied,
    require_database,
    restore_change,
)
from mlflow_ae5_deploy.resources.secrets import MADE, SecretState, SetSecrets, setting

_WHILE_DOWN = (
    "The server is stopped. Run the same restore again to resume it; if no restore is interrupted, `install` starts "
    "the server on the present data."
)


@dataclass(frozen=True)
class RestoreState:
    restore: RestoreRequest | None  # that was requested
    project: Project | None = None
    secrets: tuple[SecretState, ...] = ()
    servers: tuple[Deployment, ...] = ()  # of the project, which serve the data
    done: RestoreRecord | None = None  # the last restore into this very project
    interrupted: InterruptedRestore | None = (
        None  # an earlier restore that has not ended; looked for only if none is requested
    )
    recorded: RecordedData = field(default_factory=RecordedData)


class RecoveryStage(Stage[RestoreState]):
    number = 7
    name = "recovery"

    def observe(self, context: Context) -> RestoreState:
        restore, project = context.options.restore, context.cached.project(context.settings.project.name)
        if restore is None:
            hidden = project is not None and context.cached.is_hidden(project)  # then stage 6 has checked already
            return RestoreState(None, project, interrupted=None if hidden else interrupted_restore(context, project))
        destination = backup_destination.observe(context)
        servers = servers_of(context)
        record, upgrade = context.state.restore, interrupted_upgrade(context.state)
        outdated = upgrade is not None and upgrade.schema_touched  # its migration has changed the restored data since
        ours = record is not None and project is not None and record.project_id == project.id and not outdated
        recorded = RecordedData(upgrade, context.state.snapshot, context.state.restore)
        # Keys are made in stage 8 only: until then the saved key file can still be put in its place.
        secrets = tuple(secret for secret in server_secrets.observe(context) if secret.state != MADE)
        secrets = (*secrets, *((destination,) if destination is not None else ()))
        return RestoreState(restore, project, secrets, servers, record if ours else None, recorded=recorded)

    def check(self, state: RestoreState, context: Context) -> None:
        if state.restore is None:
            refuse_interrupted_restore(state.interrupted, self.number)
            return
        if state.project is not None:
            runner.require_command(context, state.project, "Restore")
        if _already_done(state.restore, state) is None:
            refuse_in_use(state.restore, state.servers)
            refuse_occupied(state.restore, state.servers, state.secrets)

    def diff(self, state: RestoreState) -> Diff:
        restore = state.restore
        if restore is None:
            return NoChange("no restore requested")
        if (already := _already_done(restore, state)) is not None:
            return already
        stops = [
            StopDeployment(
                name=item.name,
                id=item.id,
                reason="no server may run on data being restored",
                consequences=restart_consequences(item),
            )
            for item in state.servers
        ]
        first = [check_change(restore)] if stops else []
        return Changes((*first, *stops, *setting(state.secrets), restore_change(restore, state.recorded)))

    def apply(self, change: Change, state: RestoreState, context: Context) -> None:
        restore, project = state.restore, state.project
        if restore is None or project is None:
            raise StageFailed("There is no project to run the restore in.", stage=self.number)
        match change:
            case StopDeployment():
                other_machines.refuse_meanwhile(context, project)
                stop(context, next(server for server in state.servers if server.id == change.id))
            case CheckRestore():
                check_first(context, project, restore)
            case SetSecrets():
                of_server = [item for item in state.secrets if item.name != backup_destination.VARIABLE]
                server_secrets.store(context, of_server, server_runs=False)
                backup_destination.store(context)
            case RestoreSnapshot() | UndoRestore():
                context.outputs.no_server = STOPPED
                try:
                    self._restore(restore, project, context)
                except DeployError as error:
                    if state.servers or context.outputs.stopped_server:
                        error.remedy = f"{_WHILE_DOWN} {error.remedy}".rstrip()
                    raise
            case _:
                raise AssertionError(change)

    def _restore(self, desired: RestoreRequest, project: Project, context: Context) -> None:
        state, before = context.state, context.state.restore
        started = RestoreRecord(desired.requested, project.id, context.clock.now(), options=desired.options)
        resumed = (
            before is not None and replace(before, when=started.when, message="", options=desired.options) == started
        )
        state.restore = started
        state.save()

        def done(job_result: JobResult[RestoreReport]) -> None:
            snapshot = job_result.report.snapshot or desired.snapshot
            saved = job_result.report.saved_copy
            state.restore = replace(started, status="done", snapshot=snapshot, saved_copy=saved)
            state.save()
            if desired.undo:
                context.journal.effect("bring back", "saved copy")
            else:
                context.journal.effect("restore", "snapshot", snapshot)

        task = tasks.restore(*desired.job_words)

        def note(job_result: JobResult[RestoreReport]) -> None:
            note_interrupted(context, project, job_result, before)

        job_result = runner.attempt(
            context, project, task, seconds=desired.wait, on_success=done, on_stop=note, accept_ended=resumed
        )
        if not job_result.succeeded:
            note(job_result)
        job_errors.require(task, job_result)
        try:
            require_database(context, job_result)
        except DeployError:
            state.restore = started  # it went into another database: not done
            state.save()
            raise
        context.outputs.restored = {"message": job_result.message, "report": job_result.report.data}
        if not desired.undo:
            end_upgrade_by_restore(context)

    def verify(self, context: Context) -> str | None:
        return context.outputs.restored["message"] if context.outputs.restored else None


def _already_done(restore: RestoreRequest, state: RestoreState) -> NoChange | None:
    """Why nothing is left to restore, if so."""
    done = state.done
    if done is None or done.status != "done":
        return None
    if restore.requested != done.requested and (
        restore.undo or done.was_undo or not restore.names(done.snapshot or "")
    ):
        return None
    if not done.verified:
        return NoChange(f"{_in_words(done)} by the interrupted run; resuming")
    if state.servers and not restore.replace and not restore.undo:
        again = f"`restore {restore.again}` restores it again"
        return NoChange(
            f"{_in_words(done)}; a server has run since. {again}",
            ("not restored again: a server has run since the last restore",),
        )
    return None


def _in_words(done: RestoreRecord) -> str:
    what = "the saved copy was brought back" if done.was_undo else f"snapshot {done.snapshot} was restored"
    return f"{what} at {done.when:%Y-%m-%d %H:%M} UTC"
