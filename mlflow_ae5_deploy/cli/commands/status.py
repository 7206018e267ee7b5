"""status: how the installation is, on one screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import given_token, reading
from mlflow_ae5_deploy.cli.options import ReleaseOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, EXIT_NOT_INSTALLED, PlatformError, StageFailed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.status import Status

NAME = "status"

NOT_HEALTHY = StageFailed.exit_code

Watch = Annotated[
    float | None, typer.Option("--watch", min=0.5, help="Look again every so many seconds, until Ctrl-C.")
]


def command(
    options: ReleaseOptions,
    watch: Watch = None,
) -> int:
    """Reads only. With --watch the exit code is that of the last look."""
    with reading(options, NAME, create_account=False) as context:
        if watch is None:
            return _show(options, _observe(options, context))
        return _watch(options, context, watch)


def _observe(options: ReleaseOptions, context: Context) -> Status:
    from mlflow_ae5_deploy.engine.context import StageOutputs
    from mlflow_ae5_deploy.operations.status import status
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    context.outputs = StageOutputs()
    return status(context, STAGES, given_token(options))


def _show(options: ReleaseOptions, state: Status, *, compact: bool = False) -> int:
    from mlflow_ae5_deploy.render.status import show, status_data

    if options.json:
        options.reporter.data(status_data(state), compact=compact)
    show(options.reporter, state)
    return _code(state)


def _code(state: Status) -> int:
    if not state.installed:
        return EXIT_NOT_INSTALLED
    return EXIT_DONE if state.healthy else NOT_HEALTHY


def _watch(options: ReleaseOptions, context: Context, seconds: float) -> int:
    """One screen after another; where nobody watches, one block (or one line of JSON) after another.

    A platform that cannot be asked for a while ends nothing.
    """
    code, reporter = EXIT_DONE, options.reporter
    try:
        while True:
            try:
                state = _observe(options, context)
            except PlatformError as error:
                code = error.exit_code
                reporter.error(error)
            else:
                if sys.stdout.isatty() and not options.json:
                    reporter.out.clear()
                code = _code(state)  # before it is told: whoever reads it may interrupt at once
                _show(options, state, compact=True)
                reporter.line()
            context.clock.sleep(seconds)
    except KeyboardInterrupt:
        return code
