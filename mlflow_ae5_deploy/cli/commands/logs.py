"""logs: the log of the server or of a job's run."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.context import reading
from mlflow_ae5_deploy.cli.options import TargetOptions, choice
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

NAME = "logs"

RunId = Annotated[str | None, typer.Option("--run", help="Show the log of this run: an id, or `latest`.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Follow until the run ends, the deployment is gone, or Ctrl-C.")
]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines from the end; 0 means all.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Print control and invisible characters as they are; secrets stay masked.")
]
Part = Annotated[
    str,
    choice("--part", completion.PARTS, metavar="PART", help="Of the server: app, events (of the platform) or proxy."),
]


def command(
    options: TargetOptions,
    run: RunId = None,
    follow: Follow = False,
    lines: Lines = 100,
    part: Part = "app",
    raw: Raw = False,
) -> int:
    """Reads only. Secrets are masked, and control characters are shown as escapes."""
    from mlflow_ae5_deploy.operations import logs
    from mlflow_ae5_deploy.render.logs import show_log

    if follow and options.json:
        raise Usage("--follow and --json exclude each other: a log that grows is no document.")
    if raw and options.json:
        raise Usage("--raw and --json exclude each other.", remedy="JSON is exact without it.")
    reporter = options.reporter
    show = reporter.raw if raw else reporter.foreign
    try:
        with reading(options, NAME) as context:
            source = logs.source_of(context, run, part)
            reporter.note(source.title)
            if follow and source.saved is None:
                reporter.note(logs.follow(context, source, show, last=lines))
                return EXIT_DONE
            show_log(reporter, show, part, *logs.read(context, source), lines=lines)
    except KeyboardInterrupt:
        if not follow:  # else this is how to stop following
            raise
    return EXIT_DONE
