"""The way back: old data, old project, old endpoint, proved. What was noted on disk says what is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow_ae5_deploy.errors import (
    BackupPlaceFailed,
    Conflict,
    DeployError,
    JobFailed,
    NotBack,
    NotFound,
    StageFailed,
    WentBack,
)
from mlflow_ae5_deploy.operations import restart
from mlflow_ae5_deploy.operations.restart import Definition
from mlflow_ae5_deploy.operations.upgrade import steps
from mlflow_ae5_deploy.operations.upgrade.changes import release_words
from mlflow_ae5_deploy.operations.upgrade.record import Record, note, pending
from mlflow_ae5_deploy.operations.upgrade.steps import Crew
from mlflow_ae5_deploy.platform.records import Project
from mlflow_ae5_deploy.release.recognise import content_digest_of
from mlflow_ae5_deploy.runbook import maintenance
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.job_run import Verdict
from mlflow_ae5_deploy.runbook.project_replacing import remove_project, upload_project
from mlflow_ae5_deploy.runbook.starting import await_serving, start

_GC_STAGE = 14


def after(context: Context, trouble: DeployError, definition: Definition | None, crew: Crew) -> DeployError:
    """Go back because of `trouble`; the error to end with. definition: with values that are not kept on disk."""
    context.journal.write("failed", kind=trouble.kind, what=trouble.what)
    crew.tell(f"it failed: {trouble.what}")
    try:
        record = note(context, _required(context), trouble=trouble.what)
        go_back(context, replace(record, definition=definition), crew)
    except DeployError as again:
        return NotBack(
            f"The upgrade failed: {trouble.what} Going back was tried and failed as well: {again.what}",
            where=again.where or trouble.where,
            remedy=_remedy(context),
            detail=f"Upgrade:\n{steps.detail_of(trouble)}\n\nGoing back:\n{steps.detail_of(again)}",
        )
    return WentBack(
        f"The upgrade failed: {trouble.what} Everything is as it was before: {release_words(record.former)}, its data "
        "and its endpoint, verified.",
        where=trouble.where,
        detail="\n".join(text for text in (_advice(trouble), trouble.detail) if text),
    )


def _advice(trouble: DeployError) -> str:
    """What a stage or a job advises is for a run that goes on, or for data that is not back: neither is so here."""
    stale = isinstance(trouble, StageFailed | JobFailed) and not isinstance(trouble, BackupPlaceFailed)
    return "" if stale else trouble.remedy


def on_request(context: Context, crew: Crew) -> Record:
    """`upgrade --back`: finish what a run that was cut off, or failed to go back, has left."""
    record = _required(context)
    record = note(context, record, trouble=record.trouble or "it was asked to go back")
    trouble: DeployError | None = None
    try:
        go_back(context, record, crew)
    except DeployError as error:
        trouble = error
    if trouble is not None:
        raise NotBack(
            f"Going back failed: {trouble.what}",
            where=trouble.where,
            remedy=_remedy(context),
            detail=steps.detail_of(trouble),
        )
    return record


def _remedy(context: Context) -> str:
    """Where the data of before is, while it has not been brought back."""
    record = pending(context)
    if record is None or record.snapshot is None or record.restored:
        return NotBack.usual_remedy
    return f"{NotBack.usual_remedy} The data as it was before is in snapshot {record.snapshot}."


def _required(context: Context) -> Record:
    record = pending(context)
    if record is None:
        raise NotFound(
            "No upgrade was begun from this machine that could be taken back.",
            where=str(context.folder),
            remedy="A finished upgrade is not undone: `restore` brings an earlier snapshot back, and "
            "`install --release` an earlier release.",
        )
    return record


def go_back(context: Context, record: Record, crew: Crew) -> None:
    """Raises the DeployError that stood in the way; called again, it goes on."""
    context.journal.write("intent", action="go back", target=f"to {record.former}")
    crew.tell(f"going back to {record.former}")
    steps.stop_servers(context)
    if record.touched and not record.restored:
        record = _bring_data_back(context, record, crew)
    project, record = _bring_project_back(context, record, crew)
    if record.definition is None:
        crew.run([stage for stage in crew.stages if stage.number == _GC_STAGE])
        steps.schedule_as_before(context, record, project)
    else:
        crew.tell("the server is started as it was")
        _start(context, record.definition, project)
        steps.run_stages(crew, first=9)
        steps.share_as_before(context, record)
        steps.schedule_as_before(context, record, project)
        steps.prove(context, crew)
    context.memory.note_upgrade(None)
    context.journal.write("effect", action="go back", target=f"to {record.former}")


def _bring_data_back(context: Context, record: Record, crew: Crew) -> Record:
    """By a job of the project that is there: the new one, since the schema is only touched once that is uploaded."""
    project = maintenance.required_project(context)
    if record.snapshot is None:
        raise StageFailed("No snapshot to go back to was noted.", stage=7, where=str(context.folder))
    crew.tell(f"snapshot {record.snapshot} is restored")
    task = maintenance.restore("--snapshot", record.snapshot, "--replace", "--no-upgrade", "--same-artifacts")

    def restored(_verdict: Verdict) -> None:
        note(context, record, restored=True)
        context.journal.write("effect", action="restore", target=f"snapshot {record.snapshot}")

    verdict = maintenance.run(context, project, task, seconds=crew.wait, on_success=restored, take_ended=True)
    crew.tell(verdict.said)
    return replace(record, restored=True)


def _bring_project_back(context: Context, record: Record, crew: Crew) -> tuple[Project, Record]:
    name = context.settings.project.name
    project = context.look.project(name)
    if project is not None and project.id in (record.old_project, record.returned):
        return project, record
    archive = Path(record.archive)
    if not archive.is_file():
        raise StageFailed(
            "The former project's archive, which was kept on this machine, is gone.", stage=6, where=record.archive
        )
    crew.tell("the former project is uploaded again")
    digest = content_digest_of(archive.read_bytes())
    if project is not None:
        remove_project(context, project)
    project = upload_project(
        context, name, archive, lambda found: digest is not None and content_digest_of(found) == digest
    )
    return project, note(context, record, returned=project.id)


def _start(context: Context, definition: Definition, project: Project) -> None:
    if lost := sorted(name for name, value in definition.variables.items() if value is None):
        raise Conflict(
            f"The former values of {', '.join(lost)} were not kept, because they look like credentials.",
            where=f"deployment {definition.name}",
            remedy="Give them to the server as secrets (server.secrets) and run `install`, which starts it.",
        )
    known = {revision.name for revision in context.look.revisions(project)}
    wanted = restart.wanted_by(context, definition)
    if wanted.revision not in known:
        wanted = replace(wanted, revision="latest")
    variables = {name: value for name, value in definition.variables.items() if value is not None}
    await_serving(context, start(context, wanted, project, variables))
