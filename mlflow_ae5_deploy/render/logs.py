"""A log, for people and as JSON."""

from __future__ import annotations

from mlflow_ae5_deploy.jobs.logs import OnLine, lines_of
from mlflow_ae5_deploy.operations.logs import LogSource
from mlflow_ae5_deploy.render.console import Reporter


def show_log(reporter: Reporter, show: OnLine, part: str, source: LogSource, text: str, *, lines: int) -> None:
    """part: the requested one, where the source may be another. lines: from the end; 0 means all."""
    if source.part and source.part != part:
        reporter.note("The application has printed nothing yet. These are the platform's events (--part events):")
    shown = lines_of(text)[-lines:]
    reporter.document("logs", source=source.data(), lines=shown)
    for line in shown if not reporter.json_mode else ():
        show(line)
