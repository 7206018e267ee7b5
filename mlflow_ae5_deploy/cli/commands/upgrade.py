"""upgrade: from one release to the next, and back by itself when anything fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import writing
from mlflow_ae5_deploy.cli.options import ReleaseWriteOptions, Wait
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.engine.job_result import JobResult
    from mlflow_ae5_deploy.engine.plan import RunResult
    from mlflow_ae5_deploy.engine.stage import AnyStage
    from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan
    from mlflow_ae5_deploy.operations.upgrade.shared_steps import UpgradeContext
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "upgrade"

Rehearse = Annotated[
    bool, typer.Option("--rehearse", help="Only migrate a copy of the data on the platform, and tell time and result.")
]
NoRehearsal = Annotated[bool, typer.Option("--no-rehearsal", help="Do not rehearse first.")]
Back = Annotated[
    bool,
    typer.Option("--roll-back", help="Go back from an upgrade that was cut off, or failed to go back; asks first."),
]


def command(
    options: ReleaseWriteOptions,
    rehearse: Rehearse = False,
    no_rehearsal: NoRehearsal = False,
    back: Back = False,
    wait: Wait = 14400.0,
) -> int:
    """Interrupted, run it again: it goes on; or go back with --roll-back."""
    chosen = [
        name
        for name, given in (("--rehearse", rehearse), ("--no-rehearsal", no_rehearsal), ("--roll-back", back))
        if given
    ]
    if len(chosen) > 1:
        raise Usage(f"{' and '.join(chosen)} exclude each other.", remedy="Leave one out.")
    with writing(options, NAME) as context:
        document = _upgrade(context, options.reporter, wait, chosen[0] if chosen else "")
    if options.json:
        options.reporter.data(document)
    return EXIT_DONE


def _upgrade(context: Context, reporter: Reporter, wait: float, how: str) -> dict[str, Any]:
    from mlflow_ae5_deploy.operations.upgrade import apply, plan, state
    from mlflow_ae5_deploy.operations.upgrade import rollback as back
    from mlflow_ae5_deploy.render.upgrade import show_changes, show_upgraded, upgrade_data

    shared = _upgrade_context(context, reporter, wait)
    if how == "--roll-back":
        rolled_back = back.on_request(context, shared)
        reporter.line(back.back_words(rolled_back), style="bold")
        if kept := back.kept_words(rolled_back):
            reporter.line(kept)
        return upgrade_data("back", None, None, None) | {"saved_copy": rolled_back.saved_copy or None}
    interrupted = state.pending(context)
    if interrupted is not None:
        state.require_forward(context, interrupted)
    result = shared.run([stage for stage in shared.stages if stage.number < 6])
    if result.error is not None:
        raise result.error
    if interrupted is not None:  # there may be no project just now
        plan.require_target(context, interrupted.target, interrupted.desired, interrupted.phase)
        reporter.line(f"An upgrade to {interrupted.desired} was cut off ({interrupted.phase}); going on with it.")
        done = apply.go_on(context, interrupted, shared)
        show_upgraded(reporter, done, interrupted.desired)
        return upgrade_data("upgraded", None, None, done)
    found = plan.look(context)
    show_changes(reporter, found)
    if found.settled and how != "--rehearse":
        reporter.line("This release is installed already.", style="bold")
        return upgrade_data("unchanged", found, None, None)
    rehearsed = _rehearse(context, reporter, shared, found, how)
    if how == "--rehearse":
        return upgrade_data("rehearsed", found, rehearsed, None)
    apply.agree(context, found, rehearsed)
    done = apply.upgrade(context, found, shared)
    show_upgraded(reporter, done, found.release[1])
    return upgrade_data("upgraded", found, rehearsed, done)


def _rehearse(
    context: Context, reporter: Reporter, shared: UpgradeContext, found: UpgradePlan, how: str
) -> JobResult | None:
    """Raises what would keep the upgrade from starting at all."""
    from mlflow_ae5_deploy.operations.upgrade import apply, plan
    from mlflow_ae5_deploy.render.upgrade import show_rehearsal

    if how != "--rehearse":
        plan.check(context, found)
    if how == "--no-rehearsal":
        return None
    job_result = apply.rehearse(context, found, shared)
    show_rehearsal(reporter, job_result)
    return job_result


def _upgrade_context(context: Context, reporter: Reporter, wait: float) -> UpgradeContext:
    from mlflow_ae5_deploy.cli.stages import follow
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.operations.upgrade.shared_steps import UpgradeContext
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    def run_stages(stages: Sequence[AnyStage]) -> RunResult:
        return run(stages, context, on_stage=reporter.stage_begins, on_result=reporter.stage_ends, framed=False)

    def show(text: str) -> None:
        reporter.doing(text)
        reporter.line(f"> {text[:1].upper()}{text[1:]}")

    follow(context, reporter)
    return UpgradeContext(STAGES, run_stages, show, reporter.check, wait)
