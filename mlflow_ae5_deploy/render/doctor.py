"""The findings of `doctor`, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.operations.doctor.findings import ERROR, INFO, OK, SEVERITIES, SKIPPED, WARNING, Finding
from mlflow_ae5_deploy.render.console import Reporter

_MARKS = {OK: ("=", "green"), INFO: ("i", None), WARNING: ("?", "yellow"), ERROR: ("!", "red"), SKIPPED: ("-", "dim")}
_WIDTH = 23


def show(reporter: Reporter, finding: Finding) -> None:
    mark, style = _MARKS[finding.severity]
    word = "skipped: " if finding.severity == SKIPPED else ""
    reporter.hanging(f"{mark} {finding.check:<{_WIDTH}} ", f"{word}{finding.message}", style)
    if finding.remedy:
        reporter.hanging(f"{'':<{_WIDTH + 3}}", f"do this: {finding.remedy}")


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {severity: sum(1 for finding in findings if finding.severity == severity) for severity in SEVERITIES}


def summary(findings: Sequence[Finding]) -> str:
    count = counts(findings)
    parts = [
        f"{count[OK]} ok",
        f"{count[INFO]} info",
        counted(count[WARNING], "warnings"),
        counted(count[ERROR], "errors"),
    ]
    return f"{', '.join(parts)}, {count[SKIPPED]} skipped"


def show_summary(reporter: Reporter, findings: Sequence[Finding]) -> None:
    count = counts(findings)
    outcome = "failed" if count[ERROR] else "passed"
    reporter.document("doctor", outcome, counts=count, findings=[asdict(finding) for finding in findings])
    reporter.line()
    reporter.hanging("", summary(findings), "bold")
