"""install: make all 14 stages true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.changing import LockWait, Yes, asking
from mlflow_ae5_deploy.cli.wiring import Choices, opened, reporter_for
from mlflow_ae5_deploy.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.report.console import Reporter
    from mlflow_ae5_deploy.runbook.context import Context, Wishes
    from mlflow_ae5_deploy.runbook.model import RunResult, Stage

NAME = "install"
HELP = "Install the tracking server: run the 14 stages, each changing only what is not yet so."

Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a project of the same name that has other content (downtime).")
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    release: options.Release = None,
    create_account: options.CreateAccount = False,
    replace: Replace = False,
    yes: Yes = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    database: options.Database = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Make all 14 stages true."""
    choices = Choices(config, profile, sandbox, json, hostname, username, session, release, database, traceback)
    reporter = reporter_for(choices)
    try:
        return _install(choices, reporter, create=create_account, replace=replace, yes=yes, lock_wait=lock_wait)
    finally:
        reporter.close()


def _install(choices: Choices, reporter: Reporter, *, create: bool, replace: bool, yes: bool, lock_wait: float) -> int:
    from mlflow_ae5_deploy.runbook.context import Wishes
    from mlflow_ae5_deploy.runbook.lock import InstallationLock
    from mlflow_ae5_deploy.runbook.runner import run
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    def wishes(loaded: LoadedSettings) -> Wishes:
        return Wishes(
            create_account=create or loaded.settings.account.create,
            consent=asking(reporter, agreed=replace or yes),
        )

    with opened(choices, reporter, verb=NAME, wishes=wishes) as context:
        lock = InstallationLock(context.folder, context.clock, verb=NAME)
        with lock.held(lock_wait):
            context.memory.refresh()  # whoever held the lock before may have remembered something

            def begins(stage: Stage) -> None:
                lock.at_stage(f"{stage.number} {stage.name}")
                reporter.stage_begins(stage)

            result = run(STAGES, context, on_stage=begins, on_result=reporter.stage_ends)
        finish(NAME, choices, reporter, context, result)
    return result.error.exit_code if result.error else EXIT_DONE


def finish(verb: str, choices: Choices, reporter: Reporter, context: Context, result: RunResult) -> None:
    """Summary, or the error; as text or JSON."""
    from mlflow_ae5_deploy.cli.closing import installed_facts, next_steps
    from mlflow_ae5_deploy.report.summary import run_data

    installed = installed_facts(context)
    steps = next_steps(verb, choices, result)
    if choices.json_mode:
        reporter.data(run_data(verb, result, installed, steps))
    reporter.run_ends(verb, result, installed, steps)
    if result.error is not None:
        last = result.stages[-1]
        reporter.error(result.error, stage=f"stage {last.number} ({last.name})")
