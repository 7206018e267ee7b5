"""The way forward: rehearse, back up, stop, back up the rest, replace, migrate, start, prove.

Each step is noted before it is begun, and finds out for itself whether it is done already, so a run that was cut off
is gone on with by the next. Until the server is stopped nothing of the installation has changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.errors import Conflict, DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import require_consent
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs import runner, tasks
from mlflow_ae5_deploy.operations import backup, restart
from mlflow_ae5_deploy.operations.upgrade import plan, rollback, shared_steps
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan
from mlflow_ae5_deploy.operations.upgrade.shared_steps import UpgradeContext
from mlflow_ae5_deploy.operations.upgrade.staging_project import beside
from mlflow_ae5_deploy.operations.upgrade.state import MIGRATING, REPLACING, SAVING, UpgradeProject, UpgradeState, note
from mlflow_ae5_deploy.operations.verify import Verification
from mlflow_ae5_deploy.release.provenance import same_content
from mlflow_ae5_deploy.resources.deployment import STOPPED
from mlflow_ae5_deploy.resources.interrupted_upgrade import STARTING, STOPPING
from mlflow_ae5_deploy.resources.project import keep_archive, remove_project, upload_project


@dataclass(frozen=True)
class UpgradeResult:
    """downtime: seconds from the stop of the former server to the proof of the new one; None if none ran before."""

    snapshot: str
    migration: JobResult
    proof: Verification
    kept_archive: str
    downtime: float | None


def rehearse(context: Context, found: UpgradePlan, crew: UpgradeContext) -> JobResult:
    """Run the new release's migrations on a copy of the data. Nothing of the installation is changed."""
    _require_rehearsable(found)
    crew.tell(f"the new release is uploaded beside, as {found.project.name}.rehearsal, and migrates a copy of the data")
    with beside(context) as side:
        return runner.run(context, side, tasks.rehearsal(), seconds=crew.wait)


def _require_rehearsable(found: UpgradePlan) -> None:
    if not found.rehearsable:
        raise Conflict(
            f"The new release does not know {tasks.REHEARSE}, and its job would migrate in earnest.",
            where=found.release[1],
            remedy="`upgrade --no-rehearsal` does without; there is a snapshot to go back to all the same.",
        )


def agree(context: Context, found: UpgradePlan, rehearsed: JobResult | None) -> None:
    """Raises Conflict unless the person agrees."""
    schema = rehearsed.message if rehearsed else "what becomes of the schema was not rehearsed"
    was, becomes = (plan.release_words(name) for name in found.release)
    change = UpgradeProject(
        name=found.project.name,
        id=found.project.id,
        reason=f"{was} becomes {becomes}, MLflow {found.mlflow[0]} becomes {found.mlflow[1]}; {schema}",
    )
    require_consent(context, [change], where=f"project {found.project.name}")


def upgrade(context: Context, found: UpgradePlan, crew: UpgradeContext) -> UpgradeResult:
    """From the first backup to the proof. Raises RolledBack or RollbackFailed for what fails after the stop."""
    crew.tell("a snapshot is made while the server runs, and read back as a whole")
    _save(context, crew, "--all")
    record = _begin(context, found)
    return go_on(context, record, crew)


def _begin(context: Context, found: UpgradePlan) -> UpgradeState:
    server = found.server
    revisions = context.cached.revisions(found.project)
    definition = None
    if server is not None:
        shared = context.cached.collaborators(server.id)
        definition = restart.define(server, shared, revisions, context.settings.deployment.endpoint)
    return UpgradeState(
        target=plan.built_of(context).content_digest,
        desired=found.release[1],
        previous=found.release[0],
        old_project=found.project.id,
        archive=str(keep_archive(context, found.project)),
        phase=STOPPING,
        began=context.clock.now().isoformat(timespec="seconds"),
        definition=definition,
        jobs=shared_steps.jobs_of(context, found.project),
    )


def go_on(context: Context, record: UpgradeState, crew: UpgradeContext) -> UpgradeResult:
    """From wherever the record says. Whatever fails leads back."""
    began, downtime = context.clock.monotonic(), record.definition is not None
    try:
        record = _stop_and_save(context, record, crew)
        project = _replace(context, crew)
        record, migration = _migrate(context, record, project, crew)
        record = note(context, record, phase=STARTING)
        shared_steps.run_stages(crew, first=8)
        shared_steps.share_as_before(context, record)
        shared_steps.schedule_as_before(context, record, project)
        proof = shared_steps.prove(context, crew)
    except DeployError as error:
        trouble = error
    else:
        context.state.note_upgrade(None)
        context.journal.effect("upgrade", f"from {record.previous} to {record.desired}")
        seconds = context.clock.monotonic() - began if downtime else None
        return UpgradeResult(str(record.snapshot), migration, proof, record.archive, seconds)
    latest = context.state.pending_upgrade()
    if latest is None:  # nothing was begun
        raise trouble
    raise rollback.after(context, trouble, record.definition, crew)


def _stop_and_save(context: Context, record: UpgradeState, crew: UpgradeContext) -> UpgradeState:
    """The server, and a last snapshot: what was written since the first one is in it."""
    if record.at_least(REPLACING):
        context.outputs.no_server = STOPPED
        return record
    record = note(context, record, phase=STOPPING)
    crew.tell("the server is stopped")
    shared_steps.stop_servers(context)
    record = note(context, record, phase=SAVING)
    crew.tell("what was written since is added to a last snapshot")
    return note(context, record, phase=REPLACING, snapshot=_save(context, crew, "--sample", "1%"))


def _save(context: Context, crew: UpgradeContext, *extent: str) -> str:
    """A snapshot that was read back; its id. Artifacts kept elsewhere are not in it: no upgrade touches them.

    extent: how much of it is read. While the server is down that is little: most of it was read a moment ago, and a
    restore reads everything once more before it touches anything.
    """
    with _one_that_backs_up(context, crew) as project:
        made = backup.create(context, "--allow-external", seconds=crew.wait, project=project)
        snapshot = str(made.report.get("snapshot"))
        backup.check(context, snapshot, *extent, seconds=crew.wait, project=project)
    return snapshot


def _replace(context: Context, crew: UpgradeContext) -> Project:
    built = plan.built_of(context)
    project = context.cached.project(context.settings.project.name)
    if project is not None and same_content(context.cached.archive(project), built).same:
        return project
    crew.tell("the project is replaced by the new release")
    if project is not None:
        remove_project(context, project)
    return upload_project(
        context, context.settings.project.name, built.path, lambda archive: same_content(archive, built).same
    )


def _migrate(
    context: Context, record: UpgradeState, project: Project, crew: UpgradeContext
) -> tuple[UpgradeState, JobResult]:
    task = tasks.database_upgrade()
    before = record.touched  # by a run that was cut off
    record = note(context, record, phase=MIGRATING, touched=True)
    crew.tell("the schema is brought to the new release")
    job_result = runner.attempt(context, project, task, seconds=crew.wait)
    # Only the job itself can tell. No exit code does, nor the revision: what breaks off half way may leave both alone.
    nothing = runner.succeeded(job_result) and job_result.outcome == "unchanged"
    if (nothing or job_result.report.get("touched") is False) and not before:
        record = note(context, record, touched=False)
    runner.require(task, job_result)
    return record, job_result


@contextlib.contextmanager
def _one_that_backs_up(context: Context, crew: UpgradeContext) -> Iterator[Project]:
    """The installed project; or, where that cannot back up, one beside it with the new release."""
    project = runner.required_project(context)
    if runner.knows(context, project, "Backup"):
        yield project
        return
    crew.tell("the installed release cannot back up, so the new one does it from beside")
    with beside(context) as side:
        yield side
