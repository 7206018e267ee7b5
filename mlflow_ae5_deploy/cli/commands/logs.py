"""logs: the log of the server or of a job's run."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.context import reading
from mlflow_ae5_deploy.cli.options import TargetOptions, choice, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Interrupted, Usage

NAME = "logs"

RunId = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        autocompletion=completion.one_of(("latest", "gc", "backup", "check", "drill")),
        help="Show the log of this run: an id, latest, or the latest of a scheduled job: gc, backup, check, drill.",
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Follow until Ctrl-C, the end of the run, or of the deployment.")
]
Lines = Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="Show the last N lines; 0 shows all.")]
Raw = Annotated[bool, typer.Option("--raw", help="Print control characters as they are.")]
Part = Annotated[
    str,
    choice(
        "--part",
        completion.PARTS,
        metavar="PART",
        help="Part of the server's log: app, events (of the platform) or proxy.",
    ),
]


@examples(
    {
        "logs --follow": "Follow the log of the server",
        "logs --run gc": "Show the log of the latest garbage collection",
        "logs --part events -n 0": "Show all events of the platform",
    }
)
def command(
    options: TargetOptions,
    run: RunId = None,
    follow: Follow = False,
    lines: Lines = 100,
    part: Part = "app",
    raw: Raw = False,
) -> int:
    """Secrets are masked. Control characters are shown as escapes."""
    from mlflow_ae5_deploy.jobs.logs import lines_of, without_json
    from mlflow_ae5_deploy.operations import logs

    if follow and options.json:
        raise Usage("--follow and --json exclude each other.", remedy="Leave one out.")
    if raw and options.json:
        raise Usage("--raw and --json exclude each other.", remedy="Leave --raw out: JSON is exact without it.")
    reporter = options.reporter
    with_report = run is None or options.verbose > 0  # the server's log has none

    try:
        with reading(options, NAME, start=False) as context:
            source = logs.source_of(context, run, part)
            reporter.note(source.title)
            if follow and source.saved is None:
                show = reporter.raw if raw else without_json(reporter.foreign, reporter.phase, with_report=with_report)
                reporter.note(logs.follow(context, source, show, last=lines))
                return EXIT_DONE
            source, text = logs.read(context, source)
            found = lines_of(text)
            if not (raw or options.json):
                found = []
                keep = without_json(found.append, lambda _phase: None, with_report=with_report)
                for line in lines_of(text):
                    keep(line)
            if source.part and source.part != part:
                reporter.note(
                    "The application has printed nothing yet. These are the platform's events (--part events):"
                )
            reporter.document("logs", source=source.data(), lines=found[-lines:])
            for line in found[-lines:] if not options.json else ():
                (reporter.raw if raw else reporter.foreign)(line)
            if result := logs.result_of(source.item, text):
                reporter.note(result)
    except (KeyboardInterrupt, Interrupted):
        if not follow:  # else this is how to stop following
            raise
    return EXIT_DONE
