"""Runs the stages in order: observe, plan, then either show the plan or act on it and prove the result.

The preview of `plan` is a forecast: a stage whose ground is laid by an earlier one says so. `install` observes each
stage again when its turn comes. Both are this one loop; what keeps a plan from writing is the session behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mlflow_ae5_deploy.common.errors import Conflict, DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Decision, RunResult, StageResult
from mlflow_ae5_deploy.engine.stage import Checked, Stage

_log = logging.getLogger(__name__)

OnStage = Callable[[Stage], None]
OnResult = Callable[[StageResult], None]


def run(
    stages: Sequence[Stage],
    context: Context,
    *,
    on_stage: OnStage | None = None,
    on_result: OnResult | None = None,
    framed: bool = True,
) -> RunResult:
    """Every DeployError ends the run and is part of the result; anything else is a bug and is raised.

    framed: begin and end are written to the journal; not where the stages are part of something that does so itself.
    """
    began = context.clock.monotonic()
    results: list[StageResult] = []
    failure: DeployError | None = None
    if framed:
        context.journal.write("begin", account=context.account, host=context.access.target.options.hostname)
    unfit = next((stage for stage in stages if isinstance(stage, Checked) and not _fit(stage, context)), None)
    try:
        for stage in stages if unfit is None else [unfit]:
            if on_stage is not None:
                on_stage(stage)
            _log.info("stage %d (%s): begin", stage.number, stage.name)
            result, failure = _run_stage(stage, context)
            _log.info("stage %d (%s): %s, %.1f s", stage.number, stage.name, result.outcome, result.seconds)
            results.append(result)
            if on_result is not None:
                on_result(result)
            if failure is not None:
                break
    except KeyboardInterrupt:
        if framed:
            context.journal.write("interrupted")
        raise
    requests, writes = context.access.costs()
    outcome = "done" if failure is None else failure.kind
    if framed:
        context.journal.write("end", outcome=outcome, what=failure.what if failure else "", writes=writes)
    return RunResult(tuple(results), failure, context.clock.monotonic() - began, requests, writes)


def _fit(stage: Checked, context: Context) -> bool:
    try:
        stage.check(context)
    except DeployError:
        return False
    return True


def _run_stage(stage: Stage, context: Context) -> tuple[StageResult, DeployError | None]:
    began = context.clock.monotonic()
    decision = Decision()

    def result(outcome: str, reason: str) -> StageResult:
        return StageResult(
            stage.number,
            stage.name,
            outcome,
            reason,
            decision.actions,
            decision.warnings,
            context.clock.monotonic() - began,
        )

    try:
        if isinstance(stage, Checked):
            stage.check(context)
        state = stage.observe(context)
        decision = stage.plan(state, context)
        if decision.no_change is not None:
            return result("unchanged", decision.no_change.reason), None
        if context.options.dry:
            return result("planned", f"{len(decision.actions)} to do"), None
        weighty = [action for action in decision.actions if action.needs_consent]
        if weighty and not context.options.consent(weighty):
            return result("declined", weighty[0].reason), _declined(stage, decision)
        for action in decision.actions:
            context.journal.write("intent", stage=stage.number, action=action.verb, target=action.target)
            stage.apply(action, state, context)
        seen = stage.verify(context)
        return result("changed", seen or "done"), None
    except DeployError as error:
        context.journal.write("failed", stage=stage.number, kind=error.kind, what=error.what)
        return result("failed", error.what), error


def _declined(stage: Stage, decision: Decision) -> Conflict:
    weighty = [action for action in decision.actions if action.needs_consent]
    meaning = "\n".join(f"- {line}" for action in weighty for line in action.consequences)
    return Conflict(
        f"{weighty[0].phrase.capitalize()} was not agreed to: {weighty[0].reason}.",
        where=f"stage {stage.number} ({stage.name})",
        remedy="Nothing was changed at this stage. If you want it, run this again with "
        f"{'--replace' if stage.name == 'upload' else '--yes'}.",
        detail=f"It would mean:\n{meaning}",
    )
