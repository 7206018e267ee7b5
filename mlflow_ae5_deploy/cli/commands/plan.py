"""plan: what install would do. The session refuses every write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, opened, reporter_for
from mlflow_ae5_deploy.cli.stages_run import finish
from mlflow_ae5_deploy.common.errors import EXIT_CHANGES_PENDING, EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.engine.context import RunOptions

NAME = "plan"
HELP = "Show what install would do, and write nothing."

ExitCode = Annotated[bool, typer.Option("--exit-code", help="End with 30 when install would change something.")]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    release: options.Release = None,
    create_account: options.CreateAccount = False,
    exit_code: ExitCode = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    database: options.Database = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """A forecast: later stages are planned on what is there now."""
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, release, database, traceback)
    reporter = reporter_for(choices)

    def wishes(loaded: LoadedSettings) -> RunOptions:
        return RunOptions(create_account=create_account or loaded.settings.account.create, dry=True)

    try:
        with opened(choices, reporter, verb=NAME, wishes=wishes) as context:
            result = run(STAGES, context, on_stage=reporter.stage_begins, on_result=reporter.stage_ends)
            finish(NAME, choices, reporter, context, result, create=create_account)
    finally:
        reporter.close()
    if result.error is not None:
        return result.error.exit_code
    return EXIT_CHANGES_PENDING if exit_code and result.pending else EXIT_DONE
