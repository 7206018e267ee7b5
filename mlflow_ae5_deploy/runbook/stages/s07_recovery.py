"""Stage 7: data is restored before the server first starts, when that is asked for.

The secrets that say where the data is are set first, because the job that restores reads them. What was restored is
remembered with the project's id, so that a run that was cut off later does not restore again, and one on a platform
that was built anew does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.jobs import other_machines, runner, tasks
from mlflow_ae5_deploy.resources import backup_destination, server_secrets
from mlflow_ae5_deploy.resources.deployment import STOPPED, restart_consequences, stop
from mlflow_ae5_deploy.resources.interrupted_upgrade import ended_by_restore, half_upgraded
from mlflow_ae5_deploy.resources.restore import (
    CHECK,
    InterruptedRestore,
    checking,
    half_restored,
    learn,
    look_first,
    refuse_half_restored,
    refuse_in_use,
    refuse_occupied,
    require_place,
    servers_of,
)
from mlflow_ae5_deploy.resources.secrets import MADE, SET, SecretState, setting

STOP, RESTORE = "stop", "restore"
_WHILE_DOWN = (
    "The server was stopped for this. Run the same restore again, which goes on; where none is half done, `install` "
    "starts the server on the data that is there."
)


@dataclass(frozen=True)
class RestoreState:
    """servers: deployments of the project, which serve the data. done: what memory says of a restore into this very
    project, see Memory.note_recovery. half: of one that is not asked for now, and has not ended."""

    wanted: RestoreRequest | None
    project: Project | None = None
    secrets: tuple[SecretState, ...] = ()
    servers: tuple[Deployment, ...] = ()
    done: dict[str, Any] | None = None
    half: InterruptedRestore | None = None


class RecoveryStage:
    number: ClassVar[int] = 7
    name: ClassVar[str] = "recovery"
    promise: ClassVar[str] = "database and artifacts are restored before the server first starts, if asked for"

    def observe(self, context: Context) -> RestoreState:
        wanted, project = context.options.recovery, context.cached.project(context.settings.project.name)
        if wanted is None:
            going = project is not None and context.cached.is_going(project)  # then stage 6 has looked already
            return RestoreState(None, project, half=None if going else half_restored(context, project))
        place = backup_destination.observe(context)
        servers = servers_of(context)
        known = context.memory.recovery()
        half = half_upgraded(context)
        overtaken = half is not None and half.touched  # an upgrade has changed since what was restored then
        ours = known is not None and project is not None and known.get("project_id") == project.id and not overtaken
        # Keys are made in stage 8 only: until then the saved key file can still be put in its place.
        secrets = tuple(fact for fact in server_secrets.observe(context) if fact.state != MADE)
        secrets = (*secrets, *((place,) if place is not None else ()))
        return RestoreState(wanted, project, secrets, servers, known if ours else None)

    def plan(self, facts: RestoreState, context: Context) -> Decision:
        wanted, done = facts.wanted, facts.done
        if wanted is None:
            refuse_half_restored(facts.half, self.number)
            return Decision.nothing("no restore was asked for")
        if facts.project is not None:
            runner.require_command(context, facts.project, "Restore")
        if done is not None and done.get("state") == "done" and _same(wanted, done):
            if not done.get("ended"):
                return Decision.nothing(f"{_told(done)} by the run that was cut off; going on")
            if facts.servers and not wanted.replace and not wanted.undo:
                return Decision.nothing(
                    f"{_told(done)}, and a server has run on it since; `--replace --stop-server` goes back to it"
                )
        refuse_in_use(wanted, facts.servers)
        refuse_occupied(wanted, facts.servers, facts.secrets)
        stops = [checking(wanted)] if facts.servers else []
        stops += [
            Action(
                STOP,
                f"deployment {item.name} ({item.id})",
                "a server must not run on data that is restored",
                restart_consequences(item),
            )
            for item in facts.servers
        ]
        return Decision.do(*stops, *setting(facts.secrets), _action(wanted))

    def apply(self, action: Action, facts: RestoreState, context: Context) -> None:
        wanted = facts.wanted
        if wanted is None or facts.project is None:
            raise StageFailed("There is no project whose job could restore.", stage=self.number)
        if action.verb == STOP:
            other_machines.refuse_meanwhile(context, facts.project)
            for server in facts.servers:
                if server.id in action.target:
                    context.memory.forget_token()
                    stop(context, server)
        elif action.verb == CHECK:
            look_first(context, facts.project, wanted)
        elif action.verb == SET:
            server_secrets.store(
                context, [fact for fact in facts.secrets if fact.name != backup_destination.VARIABLE], server_runs=False
            )
            backup_destination.store(context)
        else:
            context.outputs.no_server = STOPPED
            try:
                self._restore(wanted, facts.project, context)
            except DeployError as error:
                if facts.servers or context.outputs.taken_down:
                    error.remedy = f"{_WHILE_DOWN} {error.remedy}".rstrip()
                raise

    def _restore(self, wanted: RestoreRequest, project: Project, context: Context) -> None:
        note = {
            "asked": wanted.asked,
            "snapshot": None,
            "project_id": project.id,
            "state": "begun",
            "ended": False,
            "when": context.clock.now().isoformat(timespec="seconds"),
        }
        before = context.memory.recovery() or {}
        begun = before.get("state") == "begun" and all(before.get(key) == note[key] for key in ("asked", "project_id"))
        context.memory.note_recovery(note)

        def done(verdict: JobResult) -> None:
            snapshot = str(verdict.facts.get("snapshot") or wanted.snapshot)
            context.memory.note_recovery({**note, "snapshot": snapshot, "state": "done"})
            target = "what was kept aside" if wanted.undo else f"snapshot {snapshot}"
            context.journal.write("effect", action="bring back" if wanted.undo else "restore", target=target)

        task = tasks.restore(*wanted.job_words)
        verdict = runner.attempt(context, project, task, seconds=wanted.wait, on_success=done, take_ended=begun)
        if not runner.succeeded(verdict):
            learn(context, project, verdict, before)
        runner.require(task, verdict)
        try:
            require_place(context, verdict)
        except DeployError:
            context.memory.note_recovery(note)  # it was not what was asked for
            raise
        context.outputs.recovered = verdict
        if not wanted.undo:
            ended_by_restore(context)

    def verify(self, context: Context) -> str | None:
        return context.outputs.recovered.said if context.outputs.recovered else None


def _same(wanted: RestoreRequest, done: dict[str, Any]) -> bool:
    if wanted.undo or _was_undo(done):
        return wanted.asked == done.get("asked")
    return wanted.snapshot in ("latest", done.get("snapshot")) or wanted.asked == done.get("asked")


def _was_undo(done: dict[str, Any]) -> bool:
    return str(done.get("asked")).startswith("--undo")


def _told(done: dict[str, Any]) -> str:
    what = "what was kept aside was brought back" if _was_undo(done) else None
    return f"{what or 'snapshot ' + str(done.get('snapshot')) + ' was restored'} at {done.get('when')}"


def _action(wanted: RestoreRequest) -> Action:
    if wanted.undo:
        return Action(
            RESTORE,
            f"what is kept aside as {wanted.kept}" if wanted.kept else "what the last restore kept aside",
            "--undo was given",
            ("what is there now is kept aside in its stead",),
        )
    if wanted.replace:
        return Action(
            RESTORE,
            f"snapshot {wanted.snapshot}",
            "--replace was given",
            ("database and artifacts that are there are kept aside; `restore --undo` brings them back",),
        )
    return Action(RESTORE, f"snapshot {wanted.snapshot}", "it was asked for")
