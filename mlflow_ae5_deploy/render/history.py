"""Runs in the journal, newest first, for people and as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.durations import lasting
from mlflow_ae5_deploy.operations.history import DONE, INTERRUPTED, NOTED, UNFINISHED
from mlflow_ae5_deploy.render.format import Mark

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.history import Entry
    from mlflow_ae5_deploy.render.console import Reporter

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HEADS = ("", "when (UTC)", "verb", "took", "result", "changes")
_RESULTS = {
    DONE: (Mark.OK, "done"),
    NOTED: (Mark.SKIPPED, "not recorded"),
    INTERRUPTED: (Mark.WARNING, "interrupted"),
    UNFINISHED: (Mark.WARNING, "unfinished: killed, or still running"),
    "PartlyDone": (Mark.WARNING, "partly done"),
    "NotConfirmed": (Mark.SKIPPED, "not confirmed"),
}


def show_history(reporter: Reporter, entries: Sequence[Entry], total: int) -> None:
    """entries: newest first. With --verbose, the changes and errors of each."""
    if not entries:
        reporter.line("No operations recorded on this machine.")
        return
    several = len({entry.who for entry in entries}) > 1
    rows = [_row(entry, who=several) for entry in entries]
    if reporter.verbose:
        for entry, row in zip(entries, rows, strict=True):
            _show_details(reporter, entry, row)
    else:
        heads = (*_HEADS, *(("who",) if several else ()))
        reporter.table(heads, rows, right=("took", "changes"), folds=("verb", "result", "who"))
    reporter.line()
    if len(entries) < total:
        reporter.hanging("", f"The last {len(entries)} of {total} runs; `history -n 0` shows all.")
    if not reporter.verbose:
        reporter.hanging("", "`history -v` shows the changes and errors of each run.")


def _row(entry: Entry, *, who: bool) -> tuple[str, ...]:
    mark, result = _result(entry)
    return (
        mark.sign,
        f"{entry.began:%Y-%m-%d %H:%M}" if entry.began else "unknown",
        entry.verb,
        lasting(entry.seconds) if entry.seconds is not None else "-",
        result,
        str(entry.changes),
        *((entry.who,) if who else ()),
    )


def _result(entry: Entry) -> tuple[Mark, str]:
    if entry.outcome in _RESULTS:
        return _RESULTS[entry.outcome]
    return Mark.FAILED, f"failed ({_CAPITAL.sub(' ', entry.outcome).lower()})"


def _show_details(reporter: Reporter, entry: Entry, row: Sequence[str]) -> None:
    mark, result = _result(entry)
    when, took = f"{row[1]} UTC" if entry.began else "unknown time", f", took {row[3]}" if entry.seconds else ""
    reporter.marked(mark, f"{when}  {entry.verb}: {result}{took} ({entry.who})")
    for line in entry.changed:
        reporter.hanging(f"    {Mark.CHANGE.sign} ", line)
    for line in entry.trouble:
        reporter.hanging(f"    {Mark.WARNING.sign} ", line)


def entry_data(entry: Entry) -> dict[str, Any]:
    return {
        "began": entry.began.isoformat() if entry.began else None,
        "ended": entry.ended.isoformat() if entry.ended else None,
        "seconds": entry.seconds,
        "who": entry.who,
        "verb": entry.verb,
        "outcome": entry.outcome,
        "changed": entry.changed,
        "trouble": entry.trouble,
    }
