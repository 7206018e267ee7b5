"""Shared by the verbs that run stages: under the lock, with the verification of a restore and the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.cli.context import consent, locked, opened
from mlflow_ae5_deploy.cli.options import ReleaseOptions, ReleaseWriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, DeployError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlflow_ae5_deploy.engine.change import Change
    from mlflow_ae5_deploy.engine.context import Context, RestoreRequest
    from mlflow_ae5_deploy.engine.stage import AnyStage, RunResult
    from mlflow_ae5_deploy.operations.verify import Verification
    from mlflow_ae5_deploy.render.changes import StageLines
    from mlflow_ae5_deploy.render.console import Reporter

_RESTORE_STAGE = "recovery"


def run_all(
    verb: str,
    options: ReleaseWriteOptions,
    *,
    create_account: bool,
    consent_options: Mapping[type[Change], str] | None = None,
    agreed_to: Collection[type[Change]] = (),
    restore: RestoreRequest | None = None,
    replace_keys: bool = False,
    recorded_as: str = "",
) -> int:
    """After a restore `verify` follows the last stage; if it passes, the restore has ended.

    consent_options: see RunOptions. agreed_to: see consent. recorded_as: in the journal, where that is
    not just the verb.
    """
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded, run
    from mlflow_ae5_deploy.render.changes import StageLines
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    reporter = options.reporter
    lines = StageLines(reporter, whole=() if restore is None else (_RESTORE_STAGE,))
    ask = consent(options, agreed_to, before=lines.flush)
    run_options = RunOptions(
        consent=ask, consent_options=consent_options or {}, restore=restore, replace_keys=replace_keys
    )
    verification: Verification | None = None
    name = recorded_as or verb
    with opened(options, name, run_options, create_account=create_account) as context:
        with locked(options, name, context) as lock:
            if restore is not None:
                from mlflow_ae5_deploy.operations.restore_dry_run import refuse_empty_undo

                refuse_empty_undo(context, restore)

            def begins(stage: AnyStage) -> None:
                lock.at_stage(f"{stage.number} {stage.name}")
                reporter.stage_begins(stage)

            failure: DeployError | None = None
            try:
                with recorded(context):
                    result = run(STAGES, context, on_stage=begins, on_result=lines.add)
                    failure = result.error
                    if restore is not None and (failure is None or result.only_partly):
                        lock.at_stage("verify")
                        lines.flush()
                        verification = _verify(options, context)
                        failure = _failure_of(verification) or failure
                    if failure is not None:
                        raise failure
            except DeployError as error:
                if error is not failure:  # nothing that `finish` shows
                    raise
        return finish(verb, options, context, result, lines, failure, verification)


def run_stages(context: Context, reporter: Reporter, stages: Sequence[AnyStage], preflight: bool = True) -> RunResult:
    """Run some of the stages, and show each. preflight: see `run`."""
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.render.changes import StageLines

    lines = StageLines(reporter)
    result = run(stages, context, on_stage=reporter.stage_begins, on_result=lines.add, preflight=preflight)
    lines.flush()
    return result


def _verify(options: ReleaseWriteOptions, context: Context) -> Verification:
    from mlflow_ae5_deploy.cli.commands.verify import verify_server
    from mlflow_ae5_deploy.resources.restore import mark_verified

    options.reporter.line()
    verification = verify_server(options, context)
    if verification.passed:
        mark_verified(context)
    return verification


def finish(
    verb: str,
    options: ReleaseOptions,
    context: Context,
    result: RunResult,
    lines: StageLines,
    failed: DeployError | None,
    verification: Verification | None = None,
    *,
    create_account: bool = False,
) -> int:
    """Summary, or the error; as text or JSON. failed: of a stage, or of the verification."""
    from mlflow_ae5_deploy.cli.next_steps import installed_state, next_steps
    from mlflow_ae5_deploy.engine.stage import NOT_DONE
    from mlflow_ae5_deploy.render.install import error_data, run_data, show_run

    reporter = options.reporter
    installed = installed_state(context)
    steps = next_steps(options, result, create_account=create_account)
    if options.json:
        document = run_data(verb, result, installed, steps, context.outputs.warnings)
        if context.options.restore is not None:
            document |= restore_data(context, verification)
        if failed is not None:
            document |= {"outcome": "failed", "error": error_data(failed)}
        reporter.data(document)
    restoring = context.options.restore is not None
    if result.error is not None or result.changed or result.pending or restoring:
        lines.flush()  # else the headline says that all are unchanged
    if result.error is None or result.only_partly:
        headline = (lambda: _show_restore(reporter, context, result, failed=failed is not None)) if restoring else None
        show_run(reporter, verb, result, installed, steps, headline, failed=failed is not None)
    if failed is None:
        return EXIT_DONE
    last = [f"stage {stage.number} ({stage.name})" for stage in result.stages if stage.outcome in NOT_DONE][-1:]
    reporter.error(failed, stage="".join(last) if failed is result.error else "")
    return failed.exit_code


def _show_restore(reporter: Reporter, context: Context, result: RunResult, *, failed: bool) -> None:
    """Whether the requested restore was made, by this run or by an interrupted one before. failed: see show_run."""
    from mlflow_ae5_deploy.jobs.contract import read
    from mlflow_ae5_deploy.jobs.reports import RestoreReport
    from mlflow_ae5_deploy.render.backup import show_not_restored, show_restored

    request, record = context.options.restore, context.state.restore
    if context.outputs.restored is not None:
        show_restored(reporter, read(RestoreReport, context.outputs.restored["report"]), failed=failed)
    elif request is not None and record is not None:
        if any(stage.name == _RESTORE_STAGE and stage.warnings for stage in result.stages):
            show_not_restored(reporter, request, record, context.clock.now())
        else:
            outcome = "undone" if record.was_undo else "done"
            report = RestoreReport(outcome=outcome, snapshot=record.snapshot or "", saved_copy=record.saved_copy)
            show_restored(reporter, report, failed=failed)


def restore_data(context: Context, verification: Verification | None) -> dict[str, Any]:
    """The stage's key `recovery` has the restore job's report; null where nothing was left to restore."""
    return {
        "recovery": context.outputs.restored,
        "verification": {"passed": verification.passed} | verification.data() if verification else None,
    }


def _failure_of(verification: Verification) -> DeployError | None:
    from mlflow_ae5_deploy.operations.verify import require

    try:
        require(verification)
    except DeployError as error:
        return error
    return None
