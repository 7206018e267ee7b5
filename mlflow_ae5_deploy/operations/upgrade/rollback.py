"""The way back: old data, old project, old endpoint, proved. What was noted on disk says what is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import (
    Conflict,
    DeployError,
    JobFailed,
    NotFound,
    RepositoryFailed,
    RollbackFailed,
    RolledBack,
    SnapshotDamaged,
    StageFailed,
)
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying, require_consent
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.operations import restart
from mlflow_ae5_deploy.operations.restart import DeploymentDefinition
from mlflow_ae5_deploy.operations.upgrade import restore_data, shared_steps
from mlflow_ae5_deploy.operations.upgrade.plan import release_words
from mlflow_ae5_deploy.operations.upgrade.restore_data import RestoreSource
from mlflow_ae5_deploy.operations.upgrade.shared_steps import UpgradeContext
from mlflow_ae5_deploy.operations.upgrade.state import RollBackUpgrade, UpgradeState, note, pending
from mlflow_ae5_deploy.release.provenance import content_digest_of
from mlflow_ae5_deploy.resources.deployment import await_serving, start
from mlflow_ae5_deploy.resources.project import remove_project, upload_project

_GC_STAGE = 14


def after(
    context: Context, trouble: DeployError, definition: DeploymentDefinition | None, crew: UpgradeContext
) -> DeployError:
    """Go back because of `trouble`; the error to end with. definition: with values that are not kept on disk."""
    context.journal.write("failed", kind=trouble.kind, what=trouble.what)
    crew.tell(f"it failed: {trouble.what}")
    way: RestoreSource | None = None
    try:
        record = note(context, _required(context), trouble=trouble.what)
        way = restore_data.look(context, record, crew)
        record = _go_back(context, replace(record, definition=definition), way, crew)
    except DeployError as again:
        return RollbackFailed(
            f"The upgrade failed: {trouble.what} Going back was tried and failed as well: {again.what}",
            where=again.where or trouble.where,
            remedy=_remedy(context, way, again),
            detail=f"Upgrade:\n{shared_steps.detail_of(trouble)}\n\nGoing back:\n{shared_steps.detail_of(again)}",
        )
    return RolledBack(
        f"The upgrade failed: {trouble.what} {back_words(record)}",
        where=trouble.where,
        remedy=" ".join(text for text in (RolledBack.usual_remedy, kept_words(record)) if text),
        detail="\n".join(text for text in (_advice(trouble), trouble.detail) if text),
    )


def back_words(record: UpgradeState) -> str:
    previous = release_words(record.previous)
    if record.definition is None:
        return f"Release and data are as they were before: {previous}. No server ran before, so none was verified."
    return f"Everything is as it was before: {previous}, its data and its endpoint, verified."


def kept_words(record: UpgradeState) -> str:
    """Of what the restore has put aside; empty where it has not."""
    if not record.saved_copy:
        return ""
    return (
        f"What was there instead, with all that was written since snapshot {record.snapshot}, is kept aside as "
        f"{record.saved_copy}: `restore --list-saved` names it, `restore --drop-saved` removes it."
    )


def _advice(trouble: DeployError) -> str:
    """What a stage or a job advises is for a run that goes on, or for data that is not back: neither is so here."""
    stale = isinstance(trouble, StageFailed | JobFailed) and not isinstance(trouble, RepositoryFailed)
    return "" if stale else trouble.remedy


def on_request(context: Context, crew: UpgradeContext) -> UpgradeState:
    """`upgrade --roll-back`: finish what a run that was cut off, or failed to go back, has left."""
    record = _required(context)
    try:
        way = restore_data.look(context, record, crew)
    except DeployError as trouble:
        raise _rollback_failed("Going back was not begun", context, None, trouble) from None
    _agree(context, record, way)
    try:
        record = note(context, record, trouble=record.trouble or "it was asked to go back")
        return _go_back(context, record, way, crew)
    except DeployError as trouble:
        raise _rollback_failed("Going back failed", context, way, trouble) from None


def _rollback_failed(message: str, context: Context, way: RestoreSource | None, trouble: DeployError) -> RollbackFailed:
    return RollbackFailed(
        f"{message}: {trouble.what}",
        where=trouble.where,
        remedy=_remedy(context, way, trouble),
        detail=shared_steps.detail_of(trouble),
    )


def _agree(context: Context, record: UpgradeState, way: RestoreSource) -> None:
    """Raises Conflict unless the person agrees."""
    data_words = "database and artifacts stay as they are"
    if way.needed:
        data_words = (
            f"database and artifacts come back from snapshot {record.snapshot}, made when the upgrade had stopped the "
            "server; what was written since is kept aside and not served any more: `restore --list-saved` names it"
        )
    started = "the former server has been started again" if record.definition else "`install` starts one"
    meaning = (
        Consequence(Impact.DATA, data_words),
        Consequence(Impact.DOWNTIME, f"there is no server until {started}"),
        Consequence(Impact.TOKENS, "every token issued so far is invalidated"),
    )
    where = f"project {context.settings.project.name}"
    require_consent(context, [replace(_rolling_back(record), consequences=meaning)], where=where)


def _rolling_back(record: UpgradeState) -> RollBackUpgrade:
    reason = f"the upgrade to {record.desired} of {record.began[:16].replace('T', ' ')} UTC has not ended"
    return RollBackUpgrade(name=release_words(record.previous), id=record.old_project, reason=reason)


def _remedy(context: Context, way: RestoreSource | None, trouble: DeployError) -> str:
    """What to do, and where the data of before is, while it is not back. way: None where the look failed."""
    if way is None and isinstance(trouble, NotFound | StageFailed):
        return trouble.remedy
    record = pending(context)
    if record is None or record.snapshot is None or record.restored or not record.touched:
        return RollbackFailed.usual_remedy
    if way is not None and way.seen and not isinstance(trouble, NotFound | SnapshotDamaged):
        return f"{RollbackFailed.usual_remedy} The data as it was before is in snapshot {record.snapshot}."
    return (
        f"{RollbackFailed.usual_remedy} It needs snapshot {record.snapshot}: `backup list` shows whether that is there."
    )


def _required(context: Context) -> UpgradeState:
    record = pending(context)
    if record is None:
        raise NotFound(
            "No upgrade was begun from this machine that could be taken back.",
            where=str(context.folder),
            remedy="A finished upgrade is not undone: `restore` brings an earlier snapshot back, and "
            "`install --release` an earlier release.",
        )
    return record


def _go_back(context: Context, record: UpgradeState, way: RestoreSource, crew: UpgradeContext) -> UpgradeState:
    """Raises the DeployError that stood in the way; called again, it goes on."""
    with applying(_rolling_back(record), context.journal):
        crew.tell(f"going back to {record.previous}")
        shared_steps.stop_servers(context)
        if way.needed and way.here:  # the new project, as a rule: what it has made of the schema it understands
            record = restore_data.bring_back(context, record, runner.required_project(context), crew)
        project, record = _bring_project_back(context, record, crew)
        if way.needed and not way.here:
            record = restore_data.bring_back(context, record, project, crew)
        if record.definition is None:
            crew.run([stage for stage in crew.stages if stage.number == _GC_STAGE])
            shared_steps.schedule_as_before(context, record, project)
        else:
            crew.tell("the server is started as it was")
            _start(context, record.definition, project)
            shared_steps.run_stages(crew, first=9)
            shared_steps.share_as_before(context, record)
            shared_steps.schedule_as_before(context, record, project)
            shared_steps.prove(context, crew)
        context.state.note_upgrade(None)
        context.journal.effect("roll back", "to", record.previous)
        return record


def _bring_project_back(context: Context, record: UpgradeState, crew: UpgradeContext) -> tuple[Project, UpgradeState]:
    name = context.settings.project.name
    project = context.cached.project(name)
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


def _start(context: Context, definition: DeploymentDefinition, project: Project) -> None:
    if lost := sorted(name for name, value in definition.variables.items() if value is None):
        raise Conflict(
            f"The former values of {', '.join(lost)} were not kept, because they look like credentials.",
            where=f"deployment {definition.name}",
            remedy="Give them to the server as secrets (server.secrets) and run `install`, which starts it.",
        )
    known = {revision.name for revision in context.cached.revisions(project)}
    desired = restart.desired_by(context, definition)
    if desired.revision not in known:
        desired = replace(desired, revision="latest")
    variables = {name: value for name, value in definition.variables.items() if value is not None}
    await_serving(context, start(context, desired, project, variables))
