"""Runs in the journal, for people and as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.history import Entry
    from mlflow_ae5_deploy.render.console import Reporter

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS = {
    "done": "done",
    "interrupted": "interrupted",
    "noted": "how it ended is not recorded",
    "partly done": "partly done",
}


def show_entry(reporter: Reporter, entry: Entry) -> None:
    when = f"{entry.began:%Y-%m-%d %H:%M:%S} UTC" if entry.began else "(unknown time)"
    took = f", {entry.seconds:.1f} s" if entry.seconds else ""
    style = {"done": "green", "noted": None}.get(entry.outcome, "red")
    reporter.hanging(f"{when}  ", f"{entry.verb:<14} {_outcome(entry)}{took}  {entry.who}", style)
    for line in entry.changed:
        reporter.hanging("    + ", line)
    for line in entry.trouble:
        reporter.hanging("    ! ", line)


def _outcome(entry: Entry) -> str:
    if entry.outcome == "done" and not entry.changed:
        return "done, nothing changed"
    if entry.outcome == "unfinished":
        return "unfinished: killed, or still running"
    words = _CAPITAL.sub(" ", entry.outcome).lower()
    return _WORDS.get(words, f"failed ({words})")


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
