"""The text of changes: what a stage did or would do, and what a person is asked about.

A change's own words are in its class (`phrase`, `reason`, `differences`, `consequences`; engine/change.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.common.text import capitalized
from mlflow_ae5_deploy.render.format import Mark

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.change import Change
    from mlflow_ae5_deploy.engine.stage import StageResult
    from mlflow_ae5_deploy.render.console import Reporter

_MOST = 10  # differences of a change
_FEW = 4  # unchanged stages that are named
_UNDER = " " * 22  # where the text of a stage begins
_MARKS = {
    "unchanged": Mark.OK,
    "changed": Mark.CHANGE,
    "planned": Mark.CHANGE,
    "declined": Mark.SKIPPED,
    "failed": Mark.FAILED,
}
_WITHOUT_CHANGES = {"declined": "not confirmed", "failed": "failed"}  # the error follows


class StageLines:
    """Shows stages as they end. Successive unchanged ones become one line, except with --verbose.

    whole: names of stages that always have a line of their own.
    """

    def __init__(self, reporter: Reporter, whole: Collection[str] = ()) -> None:
        self._reporter = reporter
        self._whole = whole
        self._unchanged: list[StageResult] = []

    def add(self, result: StageResult) -> None:
        notable = result.warnings or result.name in self._whole
        if result.outcome == "unchanged" and not notable and not self._reporter.verbose:
            self._unchanged.append(result)
            return
        self.flush()
        self._show(result)

    def flush(self) -> None:
        """Show the unchanged stages so far; to be called before a question, and at the end."""
        folded, self._unchanged = self._unchanged, []
        if len(folded) > 1:
            numbers = f"{folded[0].number}-{folded[-1].number}"
            names = f": {', '.join(result.name for result in folded)}" if len(folded) <= _FEW else ""
            self._reporter.hanging(f"{Mark.OK.sign} {numbers:<19} ", f"unchanged{names}", Mark.OK.style)
        elif folded:
            self._show(folded[0])

    def _show(self, result: StageResult) -> None:
        mark = Mark.WARNING if result.only_waits else _MARKS[result.outcome]
        lines = list(_lines(result, verbose=self._reporter.verbose))
        if result.outcome == "unchanged" and result.warnings:
            mark, lines = Mark.WARNING, []
        lead = f"{mark.sign} {result.number:>2} {result.name:<16} "
        for inner, line in lines:
            self._reporter.hanging(lead + inner, line, mark.style if lead != _UNDER else None)
            lead = _UNDER
        for warning in result.warnings:
            sign = f"{Mark.WARNING.sign} "
            self._reporter.hanging(lead if lead != _UNDER else _UNDER + sign, warning, Mark.WARNING.style)
            lead = _UNDER


def _lines(result: StageResult, *, verbose: bool) -> Iterable[tuple[str, str]]:
    """The lead of each line, and its text."""
    if result.outcome == "unchanged":
        yield "", result.reason
        return
    if result.outcome in _WITHOUT_CHANGES:
        yield "", _WITHOUT_CHANGES[result.outcome]
        return
    confirmed = result.outcome == "changed" and any(change.needs_consent for change in result.changes)
    for change in result.changes:
        yield "", change.headline
        if not confirmed:  # else they stand before the question
            yield from (("  ", line) for line in shortened(change.lines, verbose=verbose))
        if verbose:
            yield from (("  ", line) for line in change.details)
    if result.outcome == "planned":
        yield from (("- ", line) for line in consequences_of(result.changes))
    elif result.reason:
        yield "", result.reason


def shortened(lines: Sequence[str], *, verbose: bool) -> Sequence[str]:
    """Few enough for one screen. Removals come first and are all shown: they are what cannot be configured back."""
    ordered = sorted(lines, key=lambda line: not line.endswith(": removed"))
    if verbose or len(ordered) <= _MOST:
        return ordered
    removed = sum(line.endswith(": removed") for line in ordered)
    shown = ordered[: max(_MOST - 1, removed)]
    return [*shown, f"and {len(ordered) - len(shown)} more (-v shows all)"] if len(shown) < len(ordered) else shown


def consequences_of(changes: Iterable[Change]) -> list[str]:
    """Of all changes, each once."""
    return list(dict.fromkeys(item.text for change in changes for item in change.consequences))


def show_consequences(reporter: Reporter, changes: Sequence[Change]) -> None:
    """Show changes and their consequences before the question; on stderr."""
    with reporter.one_piece():
        for change in changes:
            if change.needs_consent:
                reporter.warning(capitalized(change.headline))
            else:
                reporter.note(f"{Mark.CHANGE.sign} {capitalized(change.headline)}")
            for line in shortened(change.lines, verbose=reporter.verbose):
                reporter.note(f"    {line}")
        reporter.note("  Consequences")
        for text in consequences_of(changes):
            reporter.note(f"  - {text}")


DIFFERS = "Differs from your configuration; the next `install` will revert it"


def show_drift(reporter: Reporter, lead: str, rows: Sequence[str], to_keep: Sequence[str]) -> None:
    """What differs from the configuration. rows: `setting: configured → actual`. to_keep: lines of YAML to add."""
    reporter.line()
    reporter.marked(Mark.WARNING, f"{lead}{':' if rows else '.'}")
    for row in rows:
        reporter.hanging("  ", row)
    if to_keep:
        reporter.line("To keep it, add this to the configuration:")
    for line in to_keep:
        reporter.copied(f"  {line}")


def question(changes: Sequence[Change]) -> str:
    """What a person is asked, after the consequences."""
    return f"{capitalized(changes[0].phrase)}?" if len(changes) == 1 else f"Make these {len(changes)} changes?"
