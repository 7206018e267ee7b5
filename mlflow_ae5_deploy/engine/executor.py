"""Apply changes: of the stages in order, or of one operation. Decides nothing.

A plan assumes the changes of earlier stages; `install` observes each stage when its turn comes. Both are this one
loop; what keeps a plan from writing is the session behind it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mlflow_ae5_deploy.common.errors import DeployError, Locked, NotConfirmed
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.engine.stage import AnyStage, Diff, NoChange, RunResult, StageResult

_log = logging.getLogger(__name__)

OnStage = Callable[[AnyStage], None]
OnResult = Callable[[StageResult], None]
_FOLLOWS = "the {} requires it"  # "the": the scrubber masks other words behind `token: `
C = TypeVar("C", bound=Change)


@contextlib.contextmanager
def recorded(context: Context) -> Iterator[None]:
    """Write `begin`, and `end` with the outcome or `interrupted`, to the journal."""
    journal, started = context.journal, context.clock.worked()

    def end(outcome: str, what: str) -> None:
        seconds = round(context.clock.worked() - started, 1)
        journal.write("end", outcome=outcome, what=what, writes=context.access.costs()[1], seconds=seconds)

    journal.write("begin", account=context.account, host=context.access.target.options.hostname)
    try:
        yield
    except DeployError as error:
        end(error.kind, error.what)
        raise
    except KeyboardInterrupt:
        journal.write("interrupted")
        raise
    end("done", "")


@contextlib.contextmanager
def applying(change: Change, journal: Journal, **more: Any) -> Iterator[None]:
    """Note the change in the journal before and after it. more: further fields."""
    _log.info("change: %s", change.sentence)
    journal.write("intent", **more, **change.record())
    yield
    journal.write("done", **more, **change.record())


def execute(changes: Iterable[C], apply: Callable[[C], object], journal: Journal) -> None:
    for change in changes:
        with applying(change, journal):
            apply(change)


def require_consent(
    context: Context, changes: Sequence[Change], *, where: str, remedy: str = "Nothing was changed."
) -> None:
    """Where a change needs consent, show all and ask. Raises NotConfirmed when the answer is no."""
    needing_consent = [change for change in changes if change.needs_consent]
    if not needing_consent or context.options.consent(changes):
        return
    what = f"Not confirmed: {needing_consent[0].phrase}."
    if len(needing_consent) > 1:
        what = f"Not confirmed: {len(changes)} changes."
    if not context.options.interactive:  # else a person has just said no
        options = {context.options.consent_options.get(type(change), "--yes") for change in needing_consent}
        remedy += f" Re-run with {options.pop() if len(options) == 1 else '--yes'} to confirm."
    declined = NotConfirmed(what, where=where, remedy=remedy)
    declined.document["changes"] = [change.data() for change in needing_consent]
    raise declined


def run(
    stages: Sequence[AnyStage],
    context: Context,
    *,
    on_stage: OnStage | None = None,
    on_result: OnResult | None = None,
    preflight: bool = True,
) -> RunResult:
    """Run the stages. A DeployError is part of the result, and ends the run. The caller records begin and end.

    Only a partly done stage does not end it; an error of a later one is then that of the run. preflight: of all stages,
    before the first one; False in the middle of an operation.
    """
    started = context.clock.worked()
    results: list[StageResult] = []
    failure: DeployError | None = None
    unfit = _unfit(stages, context) if preflight else None
    for stage in stages if unfit is None else [unfit[0]]:
        if on_stage is not None:
            on_stage(stage)
        _log.info("stage %d (%s): begin", stage.number, stage.name)
        result, error = _run_stage(stage, context, unfit[1] if unfit else None)
        failure = error or failure
        _log.info("stage %d (%s): %s, %.1f s", stage.number, stage.name, result.outcome, result.seconds)
        results.append(result)
        if on_result is not None:
            on_result(result)
        if error is not None and not result.partly:
            break
    requests, writes = context.access.costs()
    return RunResult(tuple(results), failure, context.clock.worked() - started, requests, writes)


def _following(change: Change, context: Context) -> Change:
    """In a plan that replaces project or deployment. Its own reason would describe the state after the deletion."""
    if context.cached.hides_projects and change.of_project:
        return replace(change, reason=_FOLLOWS.format("replacement of the project"))
    if context.outputs.restart_planned and change.of_deployment:
        return replace(change, reason=_FOLLOWS.format("restart"))
    return change


def _unfit(stages: Sequence[AnyStage], context: Context) -> tuple[AnyStage, DeployError] | None:
    """The first stage that cannot work from this machine, and why."""
    for stage in stages:
        try:
            stage.preflight(context)
        except DeployError as error:
            return stage, error
    return None


def _run_stage(stage: AnyStage, context: Context, unfit: DeployError | None) -> tuple[StageResult, DeployError | None]:
    started = context.clock.worked()
    diff: Diff = NoChange("")
    failed: list[tuple[Change, DeployError]] = []

    def result(outcome: str, reason: str) -> StageResult:
        seconds = context.clock.worked() - started
        return StageResult(stage.number, stage.name, outcome, reason, diff.changes, diff.warnings, seconds)

    try:
        if unfit is not None:
            raise unfit
        # not by `compare`: it would be one frame more below all that a stage does, in every traceback
        state = stage.observe(context)
        stage.check(state, context)
        diff = stage.diff(state)
        if isinstance(diff, NoChange):
            return result("unchanged", diff.reason), None
        if context.options.dry:
            diff = replace(diff, changes=tuple(_following(change, context) for change in diff.changes))
            stage.assume(diff.changes, state, context)
            return result("planned", counted(len(diff.changes), "changes")), None
        where = f"stage {stage.number} ({stage.name})"
        try:
            changes = (*diff.changes, *stage.consent_ahead(diff.changes, context))
            require_consent(context, changes, where=where, remedy="Nothing was changed at this stage.")
        except NotConfirmed as declined:
            return replace(result("declined", declined.what), changes=changes), declined
        for change in diff.changes:
            try:
                with applying(change, context.journal, stage=stage.number):
                    stage.apply(change, state, context)
            except DeployError as error:
                if isinstance(error, Locked) or not stage.can_fail(change, state):
                    raise
                context.journal.write("failed", stage=stage.number, kind=error.kind, what=error.what)
                failed.append((change, error))
        left = stage.partly_done(failed, state, context) if failed else None
        verified = stage.verify(context) or ""
        if left is not None:
            return replace(result("failed", left.what), partly=True), left
        return result("changed", verified), None
    except DeployError as error:
        context.journal.write("failed", stage=stage.number, kind=error.kind, what=error.what)
        return result("failed", error.what), error
