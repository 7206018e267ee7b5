"""status: how the installation is, on one screen."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, reporter_for
from mlflow_ae5_deploy.cli.locked_run import looking
from mlflow_ae5_deploy.common.errors import EXIT_DONE, EXIT_NOT_INSTALLED, PlatformError, StageFailed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.status import Status
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "status"
HELP = "Show how the installation is: server, token, garbage collection, drift. 0 healthy, 20 not, 32 nothing there."

NOT_HEALTHY = StageFailed.exit_code

Watch = Annotated[
    float | None, typer.Option("--watch", min=0.5, help="Look again every so many seconds, until Ctrl-C.")
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    release: options.Release = None,
    watch: Watch = None,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Reads only. With --watch the exit code is that of the last look."""
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, release, traceback=traceback)
    reporter = reporter_for(choices)
    try:
        with looking(choices, reporter, verb=NAME) as context:
            context.options = replace(context.options, create_account=context.settings.account.create)
            if watch is None:
                return _tell(choices, reporter, _look(choices, context))
            return _watch(choices, reporter, context, watch)
    finally:
        reporter.close()


def _look(choices: SharedOptions, context: Context) -> Status:
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.engine.context import StageOutputs
    from mlflow_ae5_deploy.operations.status import status
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    given = choices.environ.get("MLFLOW_TRACKING_TOKEN")
    context.outputs = StageOutputs()
    return status(context, STAGES, Secret(given) if given and not choices.sandbox else None)


def _tell(choices: SharedOptions, reporter: Reporter, seen: Status, *, compact: bool = False) -> int:
    from mlflow_ae5_deploy.render.status import show, status_data

    if choices.json_mode:
        reporter.data(status_data(seen), compact=compact)
    show(reporter, seen)
    return _code(seen)


def _code(seen: Status) -> int:
    if not seen.installed:
        return EXIT_NOT_INSTALLED
    return EXIT_DONE if seen.healthy else NOT_HEALTHY


def _watch(choices: SharedOptions, reporter: Reporter, context: Context, seconds: float) -> int:
    """One screen after another; where nobody watches, one block (or one line of JSON) after another.

    A platform that cannot be asked for a while ends nothing.
    """
    code = EXIT_DONE
    try:
        while True:
            try:
                seen = _look(choices, context)
            except PlatformError as error:
                code = error.exit_code
                reporter.error(error)
            else:
                if sys.stdout.isatty() and not choices.json_mode:
                    reporter.out.clear()
                code = _code(seen)  # before it is told: whoever reads it may interrupt at once
                _tell(choices, reporter, seen, compact=True)
                reporter.line()
            context.clock.sleep(seconds)
    except KeyboardInterrupt:
        return code
