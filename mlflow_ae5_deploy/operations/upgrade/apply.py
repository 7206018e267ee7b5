"""Upgrade: rehearse, save, stop, save the rest, replace, migrate, start, verify.

From the stop to the start, the phase of a step is on disk before the step begins. A run that resumes goes through all
steps again, and each finds out for itself what is left to do; `verify` is always repeated. The rehearsal and the first
snapshot are not recorded: an interrupted run begins with them again. Until the server is stopped nothing of the
installation has changed.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Project
from mlflow_ae5_deploy.common.durations import lasting
from mlflow_ae5_deploy.common.errors import Conflict, DeployError
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import require_consent
from mlflow_ae5_deploy.engine.records import UpgradeRecord
from mlflow_ae5_deploy.jobs import job_errors, runner, tasks
from mlflow_ae5_deploy.jobs.contract import REHEARSE
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations import backup, restart_as_it_was
from mlflow_ae5_deploy.operations.upgrade import plan, rollback
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan
from mlflow_ae5_deploy.operations.upgrade.shared import (
    UpgradeRun,
    UpgradeStep,
    forget_stop,
    share_as_before,
    stop_servers,
    verify,
)
from mlflow_ae5_deploy.operations.upgrade.staging_project import staging_project
from mlflow_ae5_deploy.operations.verify import Verification
from mlflow_ae5_deploy.release.provenance import has_content
from mlflow_ae5_deploy.resources import other_schedules, server_secrets
from mlflow_ae5_deploy.resources.before_replacing import data_in_files
from mlflow_ae5_deploy.resources.deployment import STOPPED, TOKENS
from mlflow_ae5_deploy.resources.project import keep_archive, remove_project, upload_project
from mlflow_ae5_deploy.resources.secrets import setting


@dataclass(frozen=True, kw_only=True)
class UpgradeProject(Change):
    verb, resource = "upgrade", "project"
    consequences: tuple[Consequence, ...] = (
        TOKENS,
        Consequence(Impact.DATA, "the project is deleted and uploaded again"),
        Consequence(Impact.DATA, "a snapshot is made and read back first; any failure rolls back to it"),
        Consequence(
            Impact.DATA, "if the new server fails its checks, what clients have written to it is moved to a saved copy"
        ),
    )


@dataclass(frozen=True)
class UpgradeResult:
    snapshot: str
    migration: JobResult[UpgradeReport] | None
    verification: Verification | None
    kept_archive: str
    downtime: float | None  # seconds from the stop of the previous server to the verified new one; None if none ran


def rehearse(run: UpgradeRun, planned: UpgradePlan) -> JobResult[UpgradeReport]:
    """Run the new release's migrations on a copy of the data."""
    if not planned.rehearsable:
        raise Conflict(
            f"The new release does not know {REHEARSE}: its job would migrate the real database.",
            where=planned.release[1],
            remedy="Run `upgrade --no-rehearsal`. A failure still rolls back to a snapshot.",
        )
    run.report("rehearse: migrate a copy of the data with the new release", UpgradeStep.REHEARSE)
    with staging_project(run.context) as project:
        task = tasks.rehearsal()
        rehearsed = runner.attempt(run.context, project, task, seconds=run.wait)
        job_errors.require(task, rehearsed)
        return rehearsed


def down_for(rehearsed: JobResult[UpgradeReport] | None) -> str:
    """What the server is down for, as far as the rehearsal tells."""
    migration = "not rehearsed"
    if rehearsed is not None:
        report = rehearsed.report
        if report.is_current:
            return "the server is down for a last snapshot and the start (no migration needed)"
        seconds = report.migration_seconds
        migration = "duration unknown" if seconds is None else f"{lasting(seconds)} on a copy"
    return f"the server is down for a last snapshot, the migration ({migration}) and the start"


def agree(context: Context, planned: UpgradePlan, rehearsed: JobResult[UpgradeReport] | None) -> None:
    """Raise NotConfirmed unless the person agrees, also to what would be asked while the server is down."""
    change = UpgradeProject(
        name=planned.project.name,
        id=planned.project.id,
        reason=planned.summary,
        consequences=(
            Consequence(Impact.DOWNTIME, down_for(rehearsed)),
            *data_in_files(context),
            *other_schedules.consequences(context, planned.project),
            *UpgradeProject.consequences,
        ),
    )
    secrets = [found for found in setting(server_secrets.observe(context)) if found.needs_consent]
    require_consent(context, [change, *secrets], where=f"project {planned.project.name}")


def upgrade(run: UpgradeRun, planned: UpgradePlan) -> UpgradeResult:
    """From the first backup to the verified server. See `resume` for failures."""
    run.report("make a snapshot while the server runs, and read all of it back", UpgradeStep.SNAPSHOT)
    _make_snapshot(run, "--all")
    context, server = run.context, planned.server
    definition = None
    if server is not None:
        shared, revisions = context.cached.collaborators(server.id), context.cached.revisions(planned.project)
        definition = restart_as_it_was.define(server, shared, revisions, context.settings.deployment.endpoint)
    context.state.upgrade = UpgradeRecord(
        digest=plan.built_of(context).content_digest,
        release=planned.release[1],
        previous_release=planned.release[0],
        project_id=planned.project.id,
        archive=str(keep_archive(context, planned.project)),
        phase="stopping",
        started=context.clock.now(),
        options=_options(context.settings.release.source),
        definition=definition,
    )
    return resume(run)


def _options(source: str) -> str:
    """Of `upgrade`, for this release; empty where the source holds a credential."""
    options = f"--release {shlex.quote(source)}"
    return options if scrub(options) == options else ""


def resume(run: UpgradeRun) -> UpgradeResult:
    """Run the steps. Raises RolledBack or RollbackFailed for any failure."""
    context = run.context
    forget_stop(run)
    try:
        for step in STEPS:
            step(run)
    except DeployError as error:
        failure = error
    else:
        return _end(run)
    if context.state.upgrade is None:  # ended by a restore
        raise failure
    raise rollback.after(run, failure)


def _end(run: UpgradeRun) -> UpgradeResult:
    record = run.record
    run.end()
    run.context.journal.effect("upgrade", f"from {record.previous_release} to {record.release}")
    return UpgradeResult(str(record.snapshot), run.migration, run.verification, record.archive, run.downtime)


# the steps ----------------------------------------------------------------------------------------------------------


def _stop(run: UpgradeRun) -> None:
    if run.record.reached("replacing"):
        run.context.outputs.no_server = STOPPED
        return
    run.note(phase="stopping", stopped=run.record.stopped or run.context.clock.now())
    run.report("stop the server", UpgradeStep.STOP)
    stop_servers(run.context)


def _save(run: UpgradeRun) -> None:
    """A last snapshot: it has what was written since the first one."""
    if run.record.reached("replacing"):
        return
    run.note(phase="saving")
    run.report("make a last snapshot with the latest writes", UpgradeStep.SAVE)
    # The server is down: read a sample. Most of it was read a moment ago, and a restore reads everything again first.
    run.note(phase="replacing", snapshot=_make_snapshot(run, "--sample", "1%"))


def _replace(run: UpgradeRun) -> None:
    context, built, name = run.context, plan.built_of(run.context), run.context.settings.project.name
    run.project = context.cached.project(name)
    if run.project is not None and has_content(context.cached.archive(run.project), built):
        return
    run.report("replace the project with the new release", UpgradeStep.REPLACE)
    if run.project is not None:
        remove_project(context, run.project)
    run.project = upload_project(context, name, built.path, lambda archive: has_content(archive, built))


def _migrate(run: UpgradeRun) -> None:
    task, touched_before = tasks.database_upgrade(), run.record.schema_touched
    run.note(phase="migrating", schema_touched=True)
    run.report("migrate the schema, where the new release needs it", UpgradeStep.MIGRATE)
    result = runner.attempt(run.context, run.required_project(), task, seconds=run.wait)
    # Only the job itself can tell: a migration that breaks off may leave exit code and revision alone.
    unchanged = result.succeeded and result.outcome == "unchanged"
    if (unchanged or result.report.touched is False) and not touched_before:
        run.note(schema_touched=False)
    job_errors.require(task, result)
    run.migration = result


def _start(run: UpgradeRun) -> None:
    run.note(phase="starting")
    run.report("start the new release", UpgradeStep.START)
    run.run_between(8, 14)
    share_as_before(run)


STEPS = (_stop, _save, _replace, _migrate, _start, verify)


def _make_snapshot(run: UpgradeRun, *extent: str) -> str:
    """Make a snapshot and read `extent` of it back; its id."""
    with _project_that_backs_up(run) as project:
        made = backup.create(run.context, "--allow-external", seconds=run.wait, project=project)
        snapshot = made.report.snapshot
        backup.check(run.context, snapshot, *extent, seconds=run.wait, project=project)
    return snapshot


@contextlib.contextmanager
def _project_that_backs_up(run: UpgradeRun) -> Iterator[Project]:
    """The installed project, or a staging project if that cannot back up."""
    project = runner.required_project(run.context)
    if runner.knows(run.context, project, "Backup"):
        yield project
        return
    run.report("the installed release cannot back up: use the new one, from a staging project")
    with staging_project(run.context) as staging:
        yield staging
