"""A log, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_ae5_deploy.jobs.logs import OnLine
from mlflow_ae5_deploy.operations.logs import LogSource
from mlflow_ae5_deploy.render.console import Reporter


def show_log(reporter: Reporter, show: OnLine, part: str, source: LogSource, lines: Sequence[str]) -> None:
    """part: the requested one, where the source may be another."""
    if source.part and source.part != part:
        reporter.note("The application has printed nothing yet. These are the platform's events (--part events):")
    reporter.document("logs", source=source.data(), lines=lines)
    for line in lines if not reporter.json_mode else ():
        show(line)
