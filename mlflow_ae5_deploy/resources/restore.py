"""What keeps a restore from being begun, found out before anything is stopped or replaced for it; and what is known of
one that was begun and has not ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import SchemaMismatch, StageFailed, TargetInUse, TargetNotEmpty
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.engine.records import RestoreRecord
from mlflow_ae5_deploy.jobs import one_off, runner, tasks
from mlflow_ae5_deploy.jobs.interrupted import left
from mlflow_ae5_deploy.resources import backup_destination
from mlflow_ae5_deploy.resources.interrupted import started_restore
from mlflow_ae5_deploy.resources.secrets import SecretState

DATABASE = "MLFLOW_BACKEND_STORE_URI"
_TOO = " Unless database and artifacts are empty, add --replace, too: it keeps aside what they hold."


class CheckRestore(Change):
    """What is done before a server is stopped, see `look_first`. name: of the snapshot; empty for an undo."""

    verb, resource = "check", "snapshot"

    @property
    def target(self) -> str:
        return super().target if self.name else "what is kept aside"


class RestoreSnapshot(Change):
    verb, resource = "restore", "snapshot"


@dataclass(frozen=True, kw_only=True)
class UndoRestore(Change):
    """name: of the saved copy; empty for that of the last restore."""

    verb, resource = "restore", "saved copy"
    consequences: tuple[Consequence, ...] = (Consequence(Impact.DATA, "what is there now is kept aside in its stead"),)

    @property
    def target(self) -> str:
        return f"what is kept aside as {self.name}" if self.name else "what the last restore kept aside"


def learn(context: Context, project: Project, job_result: JobResult, previous: RestoreRecord | None = None) -> None:
    """Record what a job of the command Restore reports of the data. previous: the record of the restore before.

    Where the job has left no report, such as a killed one, the started restore stays unfinished.
    """
    if "interrupted_restore" not in job_result.report:
        return
    message, state = job_result.report.get("interrupted_restore"), context.state
    started = started_restore(state)
    if message:
        started = started or RestoreRecord(None, project.id, context.clock.now())
        state.restore = replace(started, message=scrub(str(message)))
        state.save()
        return
    run = left(context, project, tasks.restore())
    if run is not None and (run.run.is_active or (run.job_result and runner.succeeded(run.job_result))):
        return  # it may still start, or the next restore takes its result for its own
    if run is not None:
        one_off.clear(context, project, runner.one_off_spec(context, tasks.restore()).name)
    if started is not None:
        state.restore = previous if previous is not None and previous.status == "done" else None
        state.save()


def refuse_in_use(desired: RestoreRequest, servers: Sequence[Deployment]) -> None:
    if not servers or desired.stop_server:
        return
    names = ", ".join(f"`{item.name}` ({item.id}, {item.state})" for item in servers)
    raise TargetInUse(
        f"A server of this installation runs on the data that would be restored: deployment {names}.",
        where="stage 7 (recovery)",
        remedy="Nothing was changed. Add --stop-server to have it stopped first; what it has written since the "
        "snapshot is then not served any more." + ("" if desired.replace or desired.undo else _TOO),
    )


def refuse_occupied(desired: RestoreRequest, servers: Sequence[Deployment], secrets: Sequence[SecretState]) -> None:
    """A database that is being served holds something: no need to stop the server to find that out."""
    served = any(secret.name == DATABASE and secret.state == "same" for secret in secrets)
    if servers and served and not desired.replace and not desired.undo:
        raise TargetNotEmpty(
            "The server that runs uses the database that would be restored, so that is not empty.",
            where=f"deployment {servers[0].name}",
            remedy="Nothing was changed. `--replace` keeps what is there aside; `restore --undo` brings it back.",
        )


def checking(desired: RestoreRequest) -> CheckRestore:
    if desired.undo:
        return CheckRestore(reason="the server is only stopped if there is something")
    return CheckRestore(name=desired.snapshot, reason="the server is only stopped for one that is whole")


def restoring(desired: RestoreRequest) -> RestoreSnapshot | UndoRestore:
    if desired.undo:
        return UndoRestore(name=desired.saved_copy or "", reason="--undo was given")
    if not desired.replace:
        return RestoreSnapshot(name=desired.snapshot, reason="it was asked for")
    moved = "database and artifacts that are there are kept aside; `restore --undo` brings them back"
    meaning = (Consequence(Impact.DATA, moved),)
    return RestoreSnapshot(name=desired.snapshot, reason="--replace was given", consequences=meaning)


def look_first(context: Context, project: Project, desired: RestoreRequest, *, replaced: bool = False) -> None:
    """Have the project's job say whether it would restore, and raise what speaks against it, but for the server's
    running.

    replaced: a new release is about to take the project's place, and may know a schema that this one does not.
    """
    backup_destination.store(context)
    task = tasks.restore(*desired.job_words, "--dry-run")
    job_result = runner.attempt(context, project, task, seconds=desired.wait)
    if replaced and job_result.exit_code == SchemaMismatch.exit_code:
        return
    runner.require(task, job_result)
    refuse_what_the_job_would(job_result)


def refuse_what_the_job_would(job_result: JobResult) -> None:
    """The server is not stopped for a restore that would then be refused, but for the reason that it runs."""
    found = job_result.report.get("would_refuse")
    refusals = [item for item in (found if isinstance(found, list) else []) if isinstance(item, dict)]
    others = [item for item in refusals if item.get("exit_code") != TargetInUse.exit_code]
    if others:
        raise TargetNotEmpty(
            f"The restore would be refused: {'; '.join(scrub(str(item.get('error'))) for item in others)}.",
            where=f"run {job_result.run_id}",
            remedy=scrub(str(others[0].get("hint") or "")) or "Mend that first. Nothing was changed.",
        )


def require_repository(context: Context, job_result: JobResult) -> None:
    """The job must have worked on the database that is configured, and not on one whose secret it still had."""
    dialects = job_result.report.get("dialect")
    used = dialects.get("target") if isinstance(dialects, dict) else None
    desired = parse_store_uri(context.values.store_uri(context.settings.server.backend_store_uri).reveal()).dialect
    if used is not None and used != desired:
        raise StageFailed(
            f"The job restored into {used}, and {desired} is configured: it did not see the new {DATABASE} yet.",
            stage=7,
            where=DATABASE,
            remedy="AE5 may take minutes to hand a changed secret to jobs. Wait, then run this again. What is in "
            f"{used} now, the next restore there leaves alone or keeps aside.",
        )


def conclude(context: Context) -> None:
    """The restore was proved, so it is over. A job's record that a run which was cut off has left is of no use now, and
    must not be taken for the answer to a later request."""
    state, project = context.state, context.cached.project(context.settings.project.name)
    if state.restore is None or project is None:
        return
    state.restore = replace(state.restore, verified=True)
    state.save()
    one_off.clear(context, project, runner.one_off_spec(context, tasks.restore()).name)
