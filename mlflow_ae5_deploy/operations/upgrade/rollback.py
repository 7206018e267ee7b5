"""Roll back: stop, restore the data, return the project, start, verify."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlflow_ae5_deploy.common.errors import (
    DeployError,
    JobFailed,
    NotFound,
    RepositoryFailed,
    RollbackFailed,
    RolledBack,
    SnapshotDamaged,
    StageFailed,
)
from mlflow_ae5_deploy.common.text import as_sentence
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.executor import applying, require_consent
from mlflow_ae5_deploy.engine.records import DeploymentDefinition, UpgradeRecord
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.operations.restart_as_it_was import refuse_lost_variables
from mlflow_ae5_deploy.operations.upgrade import restore_data
from mlflow_ae5_deploy.operations.upgrade.plan import release_words
from mlflow_ae5_deploy.operations.upgrade.restore_data import RestoreSource
from mlflow_ae5_deploy.operations.upgrade.shared import (
    UpgradeRun,
    forget_stop,
    share_as_before,
    stop_servers,
    verify,
)
from mlflow_ae5_deploy.release.provenance import content_digest_of
from mlflow_ae5_deploy.resources.deployment import TOKENS, await_serving, start
from mlflow_ae5_deploy.resources.project import remove_project, upload_project


class RollBackUpgrade(Change):
    """name: of the previous release. id: of the project that is brought back."""

    verb, resource = "roll back", "to"

    @property
    def target(self) -> str:
        return f"{self.resource} {self.name}"


def after(run: UpgradeRun, failure: DeployError) -> DeployError:
    """Roll back because of `failure`; the error to end with."""
    run.context.journal.write("failed", kind=failure.kind, what=failure.what)
    run.report(f"failed: {failure.what}")
    source: RestoreSource | None = None
    try:
        run.note(failure=failure.what)
        source = restore_data.observe(run)
        record = _roll_back(run, source)
    except DeployError as second:
        return RollbackFailed(
            f"The upgrade failed: {failure.what} The rollback failed as well: {second.what}",
            where=second.where or failure.where,
            remedy=_remedy(run, source, second),
            detail=f"{_detail('Upgrade', failure)}\n\n{_detail('Rollback', second)}",
        )
    # The remedy of a stage or job assumes that the run goes on or the data is still changed: not after a rollback.
    outdated = (failure.of_job or isinstance(failure, StageFailed | JobFailed)) and not isinstance(
        failure, RepositoryFailed
    )
    advice = "" if outdated else failure.remedy
    remedy = (result_words(record, run.downtime), RolledBack.usual_remedy, saved_copy_words(record))
    return RolledBack(
        f"The upgrade failed: {failure.what}",
        where=failure.where,
        remedy=" ".join(text for text in remedy if text),
        detail="\n".join(text for text in (advice, failure.detail) if text),
    )


def on_request(run: UpgradeRun) -> UpgradeRecord:
    """`upgrade --roll-back`, of an interrupted run or a failed rollback."""
    record = run.record
    source: RestoreSource | None = None
    what = "The rollback was not started"
    try:
        source = restore_data.observe(run)
    except DeployError as error:
        failure = error
    else:
        _agree(run, source)
        forget_stop(run)
        what = "The rollback failed"
        try:
            run.note(failure=record.failure or "a rollback was requested")
            return _roll_back(run, source)
        except DeployError as error:
            failure = error
    raise RollbackFailed(
        f"{what}: {failure.what}",
        where=failure.where,
        remedy=_remedy(run, source, failure),
        detail=failure.detail,
    )


def _roll_back(run: UpgradeRun, source: RestoreSource) -> UpgradeRecord:
    """Run the steps that are not done yet; the record as it was at the end."""
    with applying(_change(run.record), run.context.journal):
        run.report(f"roll back to {run.record.previous_release}")
        stop_servers(run.context)
        if source.needed and source.here:  # as a rule the new project: it understands its own changes of the schema
            restore_data.restore(run, runner.required_project(run.context))
        _return_project(run)
        if source.needed and not source.here:
            restore_data.restore(run, run.required_project())
        _start_as_before(run)
        record = run.record
        run.end()
        run.context.journal.effect("roll back", "to", record.previous_release)
        return record


def _return_project(run: UpgradeRun) -> None:
    context, record, name = run.context, run.record, run.context.settings.project.name
    run.project = context.cached.project(name)
    if run.project is not None and run.project.id in (record.project_id, record.restored_project):
        return
    archive = Path(record.archive)
    if not archive.is_file():
        raise StageFailed(
            "The archive of the previous project is not on this machine any more.", stage=6, where=record.archive
        )
    run.report("upload the previous project again")
    digest = content_digest_of(archive.read_bytes())
    if run.project is not None:
        remove_project(context, run.project)
    run.project = upload_project(
        context, name, archive, lambda content: digest is not None and content_digest_of(content) == digest
    )
    run.note(restored_project=run.project.id)


def _start_as_before(run: UpgradeRun) -> None:
    definition = run.record.definition
    if definition is None:
        missing = ""
        try:
            run.run_between(14, 14)
        except DeployError as error:  # data and project are back: this must not keep the rollback from ending
            missing = error.what
        run.note(jobs_missing=missing)
        return
    run.report("start the server as it was")
    _start(run, definition)
    run.run_between(9, 14)
    share_as_before(run)
    verify(run)


def _start(run: UpgradeRun, definition: DeploymentDefinition) -> None:
    context, project = run.context, run.required_project()
    refuse_lost_variables(definition)
    desired = definition.spec
    if desired.revision not in {revision.name for revision in context.cached.revisions(project)}:
        desired = replace(desired, revision="latest")
    await_serving(context, start(context, desired, project, definition.saved_variables))


# words --------------------------------------------------------------------------------------------------------------


def _change(record: UpgradeRecord) -> RollBackUpgrade:
    reason = f"the upgrade to {record.release} of {record.started:%Y-%m-%d %H:%M} UTC has not finished"
    return RollBackUpgrade(name=release_words(record.previous_release), id=record.project_id, reason=reason)


def _agree(run: UpgradeRun, source: RestoreSource) -> None:
    """Raise NotConfirmed unless the person agrees."""
    record = run.record
    data = "database and artifacts are not touched"
    if source.needed:
        data = (
            f"database and artifacts are restored from snapshot {record.snapshot}, made just before the migration; "
            "later writes are moved to a saved copy (`restore --list-saved` names it)"
        )
    started = "the previous one has been started again" if record.definition else "`install` starts one"
    consequences = (
        Consequence(Impact.DATA, data),
        Consequence(Impact.DOWNTIME, f"there is no server until {started}"),
        TOKENS,
    )
    change = replace(_change(record), consequences=consequences)
    require_consent(run.context, [change], where=f"project {run.context.settings.project.name}")


def result_words(record: UpgradeRecord, downtime: float | None) -> str:
    """downtime: in seconds, where it was observed."""
    previous = release_words(record.previous_release)
    if record.definition is None:
        text = f"Rolled back to {previous}: data as before. No server ran before, so none was verified."
        return " ".join(part for part in (text, missing_jobs_words(record)) if part)
    down = f" Downtime {downtime:.0f} s." if downtime is not None else ""
    return (
        f"Rolled back to {previous}: data and endpoint are as before, verified.{down} All earlier tokens are invalid."
    )


def missing_jobs_words(record: UpgradeRecord) -> str:
    """Why the scheduled jobs are not there; empty if they are."""
    if not record.jobs_missing:
        return ""
    return f"The scheduled jobs are not as before: {as_sentence(record.jobs_missing)} An install creates them."


def saved_copy_words(record: UpgradeRecord) -> str:
    """Of the data that the restore has moved; empty where it has moved none."""
    if not record.saved_copy:
        return ""
    return (
        f"The data of the failed upgrade, with all writes since snapshot {record.snapshot}, is saved as "
        f"{record.saved_copy}: `restore --list-saved` names it, `restore --drop-saved` deletes it."
    )


def _remedy(run: UpgradeRun, source: RestoreSource | None, failure: DeployError) -> str:
    """What to do, and where the previous data is. source: None if not found."""
    if source is None and isinstance(failure, NotFound | StageFailed):
        return failure.remedy
    record, usual = run.context.state.upgrade, RollbackFailed.usual_remedy
    if record is None or record.snapshot is None or record.restored or not record.schema_touched:
        return usual
    if source is not None and source.seen and not isinstance(failure, NotFound | SnapshotDamaged):
        return f"{usual} The previous data is in snapshot {record.snapshot}."
    return f"{usual} It needs snapshot {record.snapshot}: `backup list` shows whether that is there."


def _detail(title: str, error: DeployError) -> str:
    return "\n".join(text for text in (f"{title}: {error.where}" if error.where else title, error.detail) if text)
