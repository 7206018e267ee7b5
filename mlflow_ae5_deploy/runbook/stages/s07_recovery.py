"""Stage 7: data is restored before the server first starts, when that is asked for.

The secrets that say where the data is are set first, because the job that restores reads them. What was restored is
remembered with the project's id, so that a run that was cut off later does not restore again, and one on a platform
that was built anew does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.plan import Changes, Diff, NoChange
from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.jobs import other_machines, runner, tasks
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.deployment import STOPPED, StopDeployment, restart_consequences, stop
from mlflow_ae5_deploy.resources.interrupted_upgrade import ended_by_restore, interrupted_upgrade
from mlflow_ae5_deploy.resources.restore import (
    CheckRestore,
    InterruptedRestore,
    RestoreSnapshot,
    UndoRestore,
    checking,
    interrupted_restore,
    learn,
    look_first,
    refuse_in_use,
    refuse_interrupted_restore,
    refuse_occupied,
    require_repository,
    restoring,
    servers_of,
)
from mlflow_ae5_deploy.resources.secrets import MADE, SecretState, SetSecrets, setting

_WHILE_DOWN = (
    "The server was stopped for this. Run the same restore again, which goes on; where none is half done, `install` "
    "starts the server on the data that is there."
)


@dataclass(frozen=True)
class RestoreState:
    """restore: that was asked for. servers: deployments of the project, which serve the data. done: what memory says of
    a restore into this very project, see Memory.note_recovery. half: of one that is not asked for now, and has not
    ended."""

    restore: RestoreRequest | None
    project: Project | None = None
    secrets: tuple[SecretState, ...] = ()
    servers: tuple[Deployment, ...] = ()
    done: dict[str, Any] | None = None
    half: InterruptedRestore | None = None


class RecoveryStage(Stage[RestoreState]):
    number = 7
    name = "recovery"
    promise = "database and artifacts are restored before the server first starts, if asked for"

    def observe(self, context: Context) -> RestoreState:
        restore, project = context.options.recovery, context.cached.project(context.settings.project.name)
        if restore is None:
            going = project is not None and context.cached.is_going(project)  # then stage 6 has looked already
            return RestoreState(None, project, half=None if going else interrupted_restore(context, project))
        destination = backup_destination.observe(context)
        servers = servers_of(context)
        known = context.state.recovery()
        half = interrupted_upgrade(context)
        overtaken = half is not None and half.touched  # an upgrade has changed since what was restored then
        ours = known is not None and project is not None and known.get("project_id") == project.id and not overtaken
        # Keys are made in stage 8 only: until then the saved key file can still be put in its place.
        secrets = tuple(secret for secret in server_secrets.observe(context) if secret.state != MADE)
        secrets = (*secrets, *((destination,) if destination is not None else ()))
        return RestoreState(restore, project, secrets, servers, known if ours else None)

    def check(self, state: RestoreState, context: Context) -> None:
        if state.restore is None:
            refuse_interrupted_restore(state.half, self.number)
            return
        if state.project is not None:
            runner.require_command(context, state.project, "Restore")
        if _already(state.restore, state) is None:
            refuse_in_use(state.restore, state.servers)
            refuse_occupied(state.restore, state.servers, state.secrets)

    def diff(self, state: RestoreState) -> Diff:
        restore = state.restore
        if restore is None:
            return NoChange("no restore was asked for")
        if (already := _already(restore, state)) is not None:
            return already
        stops = [
            StopDeployment(
                name=item.name,
                id=item.id,
                reason="a server must not run on data that is restored",
                consequences=restart_consequences(item),
            )
            for item in state.servers
        ]
        first = [checking(restore)] if stops else []
        return Changes((*first, *stops, *setting(state.secrets), restoring(restore)))

    def apply(self, change: Change, state: RestoreState, context: Context) -> None:
        restore, project = state.restore, state.project
        if restore is None or project is None:
            raise StageFailed("There is no project whose job could restore.", stage=self.number)
        match change:
            case StopDeployment():
                other_machines.refuse_meanwhile(context, project)
                context.state.forget_token()
                stop(context, next(server for server in state.servers if server.id == change.id))
            case CheckRestore():
                look_first(context, project, restore)
            case SetSecrets():
                of_server = [item for item in state.secrets if item.name != backup_destination.VARIABLE]
                server_secrets.store(context, of_server, server_runs=False)
                backup_destination.store(context)
            case RestoreSnapshot() | UndoRestore():
                context.outputs.no_server = STOPPED
                try:
                    self._restore(restore, project, context)
                except DeployError as error:
                    if state.servers or context.outputs.taken_down:
                        error.remedy = f"{_WHILE_DOWN} {error.remedy}".rstrip()
                    raise

    def _restore(self, desired: RestoreRequest, project: Project, context: Context) -> None:
        note = {
            "asked": desired.asked,
            "snapshot": None,
            "project_id": project.id,
            "state": "begun",
            "ended": False,
            "when": context.clock.now().isoformat(timespec="seconds"),
        }
        before = context.state.recovery() or {}
        begun = before.get("state") == "begun" and all(before.get(key) == note[key] for key in ("asked", "project_id"))
        context.state.note_recovery(note)

        def done(job_result: JobResult) -> None:
            snapshot = str(job_result.report.get("snapshot") or desired.snapshot)
            context.state.note_recovery({**note, "snapshot": snapshot, "state": "done"})
            target = "what was kept aside" if desired.undo else f"snapshot {snapshot}"
            context.journal.effect("bring back" if desired.undo else "restore", target)

        task = tasks.restore(*desired.job_words)
        job_result = runner.attempt(context, project, task, seconds=desired.wait, on_success=done, take_ended=begun)
        if not runner.succeeded(job_result):
            learn(context, project, job_result, before)
        runner.require(task, job_result)
        try:
            require_repository(context, job_result)
        except DeployError:
            context.state.note_recovery(note)  # it was not what was asked for
            raise
        context.outputs.recovered = job_result
        if not desired.undo:
            ended_by_restore(context)

    def verify(self, context: Context) -> str | None:
        return context.outputs.recovered.message if context.outputs.recovered else None


def _already(restore: RestoreRequest, state: RestoreState) -> NoChange | None:
    """Why there is nothing to restore any more, if so."""
    done = state.done
    if done is None or done.get("state") != "done" or not _same(restore, done):
        return None
    if not done.get("ended"):
        return NoChange(f"{_told(done)} by the run that was cut off; going on")
    if state.servers and not restore.replace and not restore.undo:
        return NoChange(f"{_told(done)}, and a server has run on it since; `--replace --stop-server` goes back to it")
    return None


def _same(desired: RestoreRequest, done: dict[str, Any]) -> bool:
    if desired.undo or _was_undo(done):
        return desired.asked == done.get("asked")
    return desired.snapshot in ("latest", done.get("snapshot")) or desired.asked == done.get("asked")


def _was_undo(done: dict[str, Any]) -> bool:
    return str(done.get("asked")).startswith("--undo")


def _told(done: dict[str, Any]) -> str:
    what = "what was kept aside was brought back" if _was_undo(done) else None
    return f"{what or 'snapshot ' + str(done.get('snapshot')) + ' was restored'} at {done.get('when')}"
