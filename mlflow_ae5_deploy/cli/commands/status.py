"""status: the health of the installation, on one screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import given_token, reading
from mlflow_ae5_deploy.cli.options import ReleaseOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, EXIT_NOT_INSTALLED, PlatformError, StageFailed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.status.run import Status

NAME = "status"
NOT_HEALTHY = StageFailed.exit_code

Watch = Annotated[float | None, typer.Option("--watch", min=0.5, help="Repeat every so many seconds, until Ctrl-C.")]


def command(options: ReleaseOptions, watch: Watch = None) -> int:
    """Exits 0 if healthy, 20 if not, 32 if nothing is installed; with --watch, as the last observation says."""
    from mlflow_ae5_deploy.render.status import show

    with reading(options, NAME, create_account=False) as context:
        if watch is not None:
            return _watch(options, context, watch)
        status = _status(options, context)
        show(options.reporter, status)
        return _exit_code(status)


def _status(options: ReleaseOptions, context: Context) -> Status:
    from mlflow_ae5_deploy.engine.context import StageOutputs
    from mlflow_ae5_deploy.operations.status.run import status
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    context.outputs = StageOutputs()
    return status(context, STAGES, given_token(options))


def _exit_code(status: Status) -> int:
    if not status.state.installed:
        return EXIT_NOT_INSTALLED
    return EXIT_DONE if status.healthy else NOT_HEALTHY


def _watch(options: ReleaseOptions, context: Context, seconds: float) -> int:
    """Show one screen after another; where stdout is no terminal, one block (or one line of JSON) after another.

    An unreachable platform does not end it.
    """
    from mlflow_ae5_deploy.render.status import show

    code, reporter = EXIT_DONE, options.reporter
    try:
        while True:
            try:
                status = _status(options, context)
            except PlatformError as error:
                code = error.exit_code
                reporter.error(error)
            else:
                if sys.stdout.isatty() and not options.json:
                    reporter.out.clear()
                code = _exit_code(status)  # before it is shown: its reader may interrupt at once
                show(reporter, status, compact=True)
                reporter.line()
            context.clock.sleep(seconds)
    except KeyboardInterrupt:
        return code
