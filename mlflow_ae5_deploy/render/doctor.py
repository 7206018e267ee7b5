"""The findings of `doctor`, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from mlflow_ae5_deploy.common.text import counted, whole_commands
from mlflow_ae5_deploy.operations.doctor.findings import (
    ERROR,
    GROUPS,
    INFO,
    OK,
    SEVERITIES,
    SKIPPED,
    WARNING,
    Finding,
)
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.format import Mark

_MARKS = {OK: Mark.OK, WARNING: Mark.WARNING, ERROR: Mark.FAILED, SKIPPED: Mark.SKIPPED}
_IN_FULL = "inside"  # a job of its own was run for these: they are all shown
_WIDTH = max(map(len, GROUPS))
_WIDEST = 24  # of the column of checks; the names of several checks with one finding may be longer


class DoctorReporter:
    """Shows each group when its last check is done. With --verbose: every check, at the end, after the log."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._found: list[Finding] = []

    def add(self, finding: Finding) -> None:
        if not self._reporter.verbose and self._found and self._found[0].group != finding.group:
            self.flush()
        self._found.append(finding)

    def flush(self) -> None:
        found, self._found = self._found, []
        for group, findings in groupby(found, lambda finding: finding.group):
            self._show_group(group, list(findings))

    def _show_group(self, group: str, findings: Sequence[Finding]) -> None:
        in_full = self._reporter.verbose or group == _IN_FULL
        fine = [finding for finding in findings if finding.severity == OK]
        if fine and not in_full:
            self._line(Mark.OK, group, f"{counted(len(fine), 'checks')} ok")
            group = ""
        shown = findings if in_full else [finding for finding in findings if finding.severity != OK]
        rows: list[tuple[str, Finding]] = []  # the checks, or empty for a number of skipped ones
        for _, equal in groupby(shown, lambda finding: (finding.severity, finding.message, finding.remedy)):
            same = list(equal)
            if same[0].severity == SKIPPED and len(same) > 1 and not self._reporter.verbose:
                rows.append(("", replace(same[0], message=f"{len(same)} checks skipped: {same[0].message}")))
            else:
                rows.append((", ".join(finding.check for finding in same), same[0]))
        width = max((len(name) for name, _ in rows if len(name) <= _WIDEST), default=0)
        for name, finding in rows:
            column, inline = (f"{name:<{width}}  ", "") if 0 < len(name) <= _WIDEST else ("", f"{name}  ".lstrip())
            self._line(_MARKS.get(finding.severity), group, inline + finding.message, column)
            if finding.remedy:
                self._line(None, "", whole_commands(finding.remedy))
            group = ""

    def _line(self, mark: Mark | None, group: str, text: str, name: str = "") -> None:
        """Without a mark: information, or the rest of the line above."""
        lead = f"{mark.sign if mark else ' '} {group:<{_WIDTH}} {name}"
        self._reporter.hanging(lead, text, mark.style if mark else None)


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {severity: sum(1 for finding in findings if finding.severity == severity) for severity in SEVERITIES}


def summary(findings: Sequence[Finding]) -> str:
    count = counts(findings)
    parts = [
        (count[OK], f"{count[OK]} ok"),
        (count[INFO], f"{count[INFO]} info"),
        (count[WARNING], counted(count[WARNING], "warnings")),
        (count[ERROR], counted(count[ERROR], "errors")),
        (count[SKIPPED], f"{count[SKIPPED]} skipped"),
    ]
    return ", ".join(text for number, text in parts if number)


def show_summary(reporter: Reporter, findings: Sequence[Finding], *, from_platform: bool) -> None:
    """from_platform: --from-platform was given."""
    count = counts(findings)
    outcome = "failed" if count[ERROR] else "passed"
    reporter.document("doctor", outcome, counts=count, findings=[finding.data() for finding in findings])
    reporter.line()
    mark = Mark.FAILED if count[ERROR] else Mark.WARNING if count[WARNING] else Mark.OK
    again = "doctor -v --from-platform" if from_platform else "doctor -v"
    hint = "" if reporter.verbose or not count[OK] else f" (`{again}` shows all)"
    reporter.marked(mark, f"{summary(findings)}{hint}")
