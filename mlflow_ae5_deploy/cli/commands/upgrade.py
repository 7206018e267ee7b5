"""upgrade: to another release, with automatic rollback."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import writing
from mlflow_ae5_deploy.cli.options import ReleaseWriteOptions, Wait, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage
from mlflow_ae5_deploy.common.text import capitalized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.upgrade.shared import UpgradeRun
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "upgrade"

Rehearse = Annotated[bool, typer.Option("--rehearse", help="Only migrate a copy of the data, and report the result.")]
NoRehearsal = Annotated[bool, typer.Option("--no-rehearsal", help="Skip the rehearsal.")]
RollBack = Annotated[
    bool, typer.Option("--roll-back", help="Roll back an interrupted upgrade, or retry a failed rollback.")
]


@examples(
    {
        "upgrade --rehearse": "Test the migration on a copy, without downtime",
        "upgrade --release 1.2.0": "Upgrade to this release",
        "upgrade --roll-back": "Roll back an interrupted upgrade",
    }
)
def command(
    options: ReleaseWriteOptions,
    rehearse: Rehearse = False,
    no_rehearsal: NoRehearsal = False,
    roll_back: RollBack = False,
    wait: Wait = 14400.0,
) -> int:
    """Rehearses, backs up, stops, replaces, migrates, starts and verifies.

    To resume after an interruption, run it again.
    """
    modes = {"--rehearse": rehearse, "--no-rehearsal": no_rehearsal, "--roll-back": roll_back}
    given = [name for name, chosen in modes.items() if chosen]
    if len(given) > 1:
        raise Usage(f"{' and '.join(given)} exclude each other.", remedy="Leave one out.")
    mode = next((f" {name}" for name in ("--rehearse", "--roll-back") if name in given), "")
    with writing(options, NAME + mode) as context:
        run = _upgrade_run(context, options.reporter, wait)
        document = _roll_back(run, options.reporter) if roll_back else _upgrade(run, options.reporter, given)
        if run.left is not None:
            raise run.left
        if document["outcome"] in ("upgraded", "unchanged"):
            _compare_release(options, context)
    if options.json:
        warnings = [*context.outputs.warnings, *document.get("warnings", ())]
        options.reporter.data(document | {"warnings": warnings})
    return EXIT_DONE


def _compare_release(options: ReleaseWriteOptions, context: Context) -> None:
    """The next `install` takes the configured release, not the one of --release."""
    from mlflow_ae5_deploy.cli.context import load_settings
    from mlflow_ae5_deploy.render.upgrade import show_not_configured

    if options.release is None:
        return
    configured = load_settings(replace(options, release=None)).settings.release.source
    installed = context.settings.release.source
    if configured != installed:
        show_not_configured(options.reporter, installed, configured, options.profile)


def _roll_back(run: UpgradeRun, reporter: Reporter) -> dict[str, Any]:
    from mlflow_ae5_deploy.operations.upgrade import rollback
    from mlflow_ae5_deploy.render.format import Mark
    from mlflow_ae5_deploy.render.upgrade import upgrade_data

    record = rollback.on_request(run)
    reporter.marked(Mark.OK, rollback.result_words(record, run.downtime))
    if saved := rollback.saved_copy_words(record):
        reporter.hanging("  ", saved)
    missing = rollback.missing_jobs_words(record)
    return upgrade_data("rolled back", None, None, None) | {
        "saved_copy": record.saved_copy or None,
        "warnings": [missing] if missing else [],
    }


def _upgrade(run: UpgradeRun, reporter: Reporter, given: Sequence[str]) -> dict[str, Any]:
    from mlflow_ae5_deploy.cli.next_steps import program
    from mlflow_ae5_deploy.operations.upgrade import apply, plan
    from mlflow_ae5_deploy.operations.upgrade.shared import UpgradeStep
    from mlflow_ae5_deploy.render.format import Mark
    from mlflow_ae5_deploy.render.upgrade import show_changes, show_passed, show_rehearsal, show_upgraded, upgrade_data

    context, interrupted = run.context, run.context.state.upgrade
    if interrupted is not None:
        plan.require_resumable(context, interrupted)
    run.run_between(1, 5)
    first = (
        UpgradeStep.STOP
        if interrupted is not None
        else UpgradeStep.SNAPSHOT
        if "--no-rehearsal" in given
        else UpgradeStep.REHEARSE
    )
    run.steps = [UpgradeStep.REHEARSE] if "--rehearse" in given else [step for step in UpgradeStep if step >= first]
    if interrupted is not None:  # there may be no project just now
        plan.require_same_release(context, interrupted)
        reporter.line(f"Resuming the interrupted upgrade to {interrupted.release} ({interrupted.phase}).")
        done = apply.resume(run)
        show_upgraded(reporter, done, interrupted.release, program())
        return upgrade_data("upgraded", None, None, done)
    planned, rehearsed = plan.observe(context), None
    show_changes(reporter, planned)
    if planned.nothing_to_do and "--rehearse" not in given:
        reporter.marked(Mark.OK, "Unchanged: the project has the content of this release.")
        return upgrade_data("unchanged", planned, None, None)
    if "--rehearse" not in given:
        plan.check(context, planned)
    if "--no-rehearsal" not in given:
        rehearsed = apply.rehearse(run, planned)
        show_rehearsal(reporter, rehearsed)
    if rehearsed is not None and "--rehearse" in given:
        show_passed(reporter, rehearsed)
        return upgrade_data("rehearsed", planned, rehearsed, None)
    apply.agree(context, planned, rehearsed)
    done = apply.upgrade(run, planned)
    show_upgraded(reporter, done, planned.release[1], program())
    return upgrade_data("upgraded", planned, rehearsed, done)


def _upgrade_run(context: Context, reporter: Reporter, wait: float) -> UpgradeRun:
    from mlflow_ae5_deploy.cli.stages import run_stages
    from mlflow_ae5_deploy.operations.upgrade.shared import UpgradeRun
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    def show_step(text: str, step: str) -> None:
        reporter.doing(text, step)
        reporter.line(capitalized(f"{step}: {text}" if step else text))

    return UpgradeRun(context, STAGES, partial(run_stages, context, reporter), show_step, reporter.check, wait)
