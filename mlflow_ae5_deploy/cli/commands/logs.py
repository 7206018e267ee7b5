"""logs: what the server or a run of a job has printed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.context import reading
from mlflow_ae5_deploy.cli.options import TargetOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.jobs.logs import OnLine
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "logs"
_LONGEST = 24 * 3600.0  # seconds a run is followed

Run = Annotated[
    str | None, typer.Option("--run", help="The id of a run, or `latest`: its log instead of the server's.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on until the run ends, the deployment is gone, or Ctrl-C.")
]
Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines from the end; 0 means all.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Print control and invisible characters as they are; secrets stay masked.")
]
Part = Annotated[
    str,
    typer.Option(
        "--part",
        autocompletion=completion.one_of(completion.PARTS),
        help="Of the server: app, events (what the platform did) or proxy.",
    ),
]


def command(
    options: TargetOptions,
    run: Run = None,
    follow: Follow = False,
    lines: Lines = 100,
    part: Part = "app",
    raw: Raw = False,
) -> int:
    """Reads only. Secrets are masked, and characters that a terminal would act upon are shown as escapes."""
    from mlflow_ae5_deploy.operations.logs import PARTS

    if part not in PARTS:
        raise Usage(f"--part takes {', '.join(PARTS)}, not {part!r}.", where="--part")
    if follow and options.json:
        raise Usage("--follow and --json exclude each other: a log that goes on is no document.")
    if raw and options.json:
        raise Usage("--raw and --json exclude each other.", remedy="JSON is exact without it.")
    reporter = options.reporter
    show = reporter.raw if raw else reporter.foreign
    try:
        with reading(options, NAME) as context:
            if run is not None:
                return _run(reporter, show, context, run, follow=follow, lines=lines)
            return _deployment(reporter, show, context, part, follow=follow, lines=lines)
    except KeyboardInterrupt:
        if not follow:
            raise
        return EXIT_DONE  # how one stops following


def _run(reporter: Reporter, show: OnLine, context: Context, desired: str, *, follow: bool, lines: int) -> int:
    from mlflow_ae5_deploy.jobs.gc import judge
    from mlflow_ae5_deploy.jobs.logs import follow_run, read_log
    from mlflow_ae5_deploy.jobs.saved_logs import SavedRun
    from mlflow_ae5_deploy.operations.logs import run_of

    found = run_of(context, desired)
    if isinstance(found, SavedRun):
        run = found.run
        reporter.note(f"run {run.id} of {run.name}, {run.state}; its log was kept on this machine")
        _show(reporter, show, {"kind": "run", "id": run.id, "name": run.name, "state": run.state}, found.log, lines)
        return EXIT_DONE
    run = found
    reporter.note(f"run {run.id} of {run.name}, {run.state}")
    if follow:
        ended, text = follow_run(context, run.id, show, seconds=_LONGEST, last=lines)
        reporter.note(f"run {run.id}: {judge(ended, text).message}")
        return EXIT_DONE
    text = read_log(context, run)
    _show(reporter, show, {"kind": "run", "id": run.id, "name": run.name, "state": run.state}, text, lines)
    return EXIT_DONE


def _deployment(reporter: Reporter, show: OnLine, context: Context, part: str, *, follow: bool, lines: int) -> int:
    from mlflow_ae5_deploy.jobs.logs import follow_deployment
    from mlflow_ae5_deploy.operations.logs import deployment_of, part_of

    found = deployment_of(context)
    reporter.note(f"deployment {found.name} ({found.id}), {found.state}, {part}")
    if follow:
        read = functools.partial(_part, context, found.id, part)
        follow_deployment(context, found.id, read, show, last=lines)
    logs = context.platform.logs(found.id)
    text = part_of(logs, part)
    if part == "app" and not text.strip() and logs.events.strip():
        reporter.note("The application has printed nothing yet; this is what the platform did (--part events):")
        part, text = "events", logs.events
    source = {"kind": "deployment", "id": found.id, "name": found.name, "state": found.state, "part": part}
    _show(reporter, show, source, text, lines)
    return EXIT_DONE


def _part(context: Context, deployment_id: str, part: str) -> str:
    from mlflow_ae5_deploy.operations.logs import part_of

    return part_of(context.platform.logs(deployment_id), part)


def _show(reporter: Reporter, show: OnLine, source: dict[str, str], text: str, lines: int) -> None:
    from mlflow_ae5_deploy.jobs.logs import lines_of

    desired = lines_of(text)[-lines:]
    for line in desired if not reporter.json_mode else ():
        show(line)
    if reporter.json_mode:
        document: dict[str, Any] = {"schema": 1, "verb": NAME, "outcome": "done", "source": source, "lines": desired}
        reporter.data(document)
