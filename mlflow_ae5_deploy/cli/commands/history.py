"""history: the journal, readable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import installation_folder, load_settings
from mlflow_ae5_deploy.cli.options import TargetOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE
from mlflow_ae5_deploy.common.text import counted

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
NAME = "history"
HELP = "Show what was done to this installation from this machine: who, when, what changed, how it ended."

Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="How many runs, the newest ones; 0 means all.")]


def command(
    options: TargetOptions,
    limit: Limit = 20,
) -> int:
    """Reads the journal; asks the platform nothing. The newest run comes last."""
    from mlflow_ae5_deploy.operations.history import read

    path = installation_folder(load_settings(options)) / "journal.jsonl"
    found = read(path)
    entries = found.entries[-limit:] if limit else found.entries
    reporter = options.reporter
    if options.json:
        document: dict[str, Any] = {"schema": 1, "verb": NAME, "outcome": "done", "journal": str(path)}
        document |= {"entries": [_data(entry) for entry in entries], "unreadable_lines": found.unreadable}
        reporter.data(document)
    for entry in entries:
        _show(reporter, entry)
    if not entries:
        reporter.line("Nothing was done to this installation from this machine.")
    if found.unreadable:
        reporter.note(f"warning: {counted(found.unreadable, 'lines')} of {path} cannot be read", style="yellow")
    return EXIT_DONE


def _show(reporter: Reporter, entry: Entry) -> None:
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
    if entry.outcome == "cut off":
        return "did not end: killed, or still at work"
    words = _CAPITAL.sub(" ", entry.outcome).lower()
    return _WORDS.get(words, f"failed ({words})")


def _data(entry: Entry) -> dict[str, Any]:
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
