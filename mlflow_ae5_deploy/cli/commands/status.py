"""status: the health of the installation, on one screen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.completion import MONITORING
from mlflow_ae5_deploy.cli.context import given_token, reading
from mlflow_ae5_deploy.cli.options import ReleaseOptions, choice, examples
from mlflow_ae5_deploy.common.errors import (
    EXIT_DONE,
    EXIT_NOT_INSTALLED,
    DeployError,
    PlatformError,
    StageFailed,
    Usage,
)

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.status.run import Status

NAME = "status"
NOT_HEALTHY = StageFailed.exit_code
FORMATS = ("text", *MONITORING)


Watch = Annotated[
    float | None,
    typer.Option("--watch", metavar="SECONDS", min=0.5, help="Repeat at this interval until Ctrl-C."),
]
Format = Annotated[
    str,
    choice(
        "--format",
        FORMATS,
        metavar="FORMAT",
        help="nagios prints one line and exits 0 (OK), 1 (warning), 2 (critical) or 3 (unknown). prometheus prints"
        " metrics and exits 0 even where the check fails: for a textfile collector, add"
        " > mlflow.prom.$$ && mv mlflow.prom.$$ mlflow.prom",
    ),
]
Notify = Annotated[
    bool,
    typer.Option("--notify", help="Notify the receivers in notify.urls of new problems and of their end, once each."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only print the first line.")]


@examples(
    {
        "status": "Show the health on one screen",
        "status --watch 30": "Repeat every 30 seconds",
        "status --notify --quiet": "Notify people of new problems, from cron",
    }
)
def command(
    options: ReleaseOptions,
    watch: Watch = None,
    format_: Format = "text",
    quiet: Quiet = False,
    notify: Notify = False,
) -> int:
    """Exits 0 if healthy, 20 if not, 32 if nothing is installed."""
    from mlflow_ae5_deploy.render.status import show, show_headline

    if format_ in MONITORING:
        if options.json or quiet or watch is not None:
            raise Usage(f"--format {format_} excludes --json, --quiet and --watch.", remedy="Leave those out.")
        return (_nagios if format_ == "nagios" else _prometheus)(options, notify=notify)
    if quiet and watch is not None:
        raise Usage("--quiet and --watch exclude each other.", remedy="Leave one out.")
    with _opened(options, notify=notify) as context:
        if watch is not None:
            return _watch(options, context, watch, notify=notify)
        status = _status(options, context, notify=notify)
        (show_headline if quiet else show)(options.reporter, status)
        return _exit_code(status)


@contextlib.contextmanager
def _opened(options: ReleaseOptions, *, notify: bool) -> Iterator[Context]:
    """With `notify` it raises Configuration where no message can be sent."""
    with reading(options, NAME, create_account=False) as context:
        if notify:
            from mlflow_ae5_deploy.operations.notify import require_receivers

            require_receivers(context)
        yield context


def _nagios(options: ReleaseOptions, *, notify: bool) -> int:
    """Where the check itself fails, cli/main.py writes the line."""
    from mlflow_ae5_deploy.render.status import nagios

    with _opened(options, notify=notify) as context:
        code, line = nagios(_status(options, context, notify=notify))
    options.reporter.copied(line)
    return code


def _prometheus(options: ReleaseOptions, *, notify: bool) -> int:
    """Where the check itself fails, cli/main.py writes the metrics."""
    from mlflow_ae5_deploy.render.prometheus import exposition

    with _opened(options, notify=notify) as context:
        text = exposition(_status(options, context, notify=notify), options.target)
    options.reporter.as_it_is(text)
    return EXIT_DONE


def _status(options: ReleaseOptions, context: Context, *, notify: bool) -> Status:
    if not notify:
        return _observe(options, context)
    from mlflow_ae5_deploy.operations.notify import about_failure, about_status

    try:
        found = _observe(options, context)
    except DeployError as error:
        about_failure(context, error)
        raise
    about_status(context, found)
    return found


def _observe(options: ReleaseOptions, context: Context) -> Status:
    from mlflow_ae5_deploy.engine.context import StageOutputs
    from mlflow_ae5_deploy.operations.status.run import status
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    context.outputs = StageOutputs()
    return status(context, STAGES, given_token(options))


def _exit_code(status: Status) -> int:
    if not status.state.installed:
        return EXIT_NOT_INSTALLED
    return EXIT_DONE if status.healthy else NOT_HEALTHY


def _watch(options: ReleaseOptions, context: Context, seconds: float, *, notify: bool) -> int:
    """Show one screen after another; where stdout is no terminal, one block (or one line of JSON) after another.

    An unreachable platform does not end it.
    """
    from mlflow_ae5_deploy.render.status import show

    code, reporter = EXIT_DONE, options.reporter
    try:
        while True:
            try:
                status = _status(options, context, notify=notify)
            except PlatformError as error:
                code = error.exit_code
                reporter.error(error)
            else:
                code = _exit_code(status)  # before it is shown: its reader may interrupt at once
                if sys.stdout.isatty() and not options.json:
                    with reporter.one_screen():
                        show(reporter, status)
                else:
                    show(reporter, status, compact=True)
                    reporter.line()
            context.clock.sleep(seconds)
    except KeyboardInterrupt:
        return code
