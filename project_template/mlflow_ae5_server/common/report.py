"""The report of a job: its last line, JSON on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_ae5_server.common.errors import Locked, ProjectError, RestoreUnfinished
from mlflow_ae5_server.common.redaction import ScrubbingStream, scrub

_MOST_WARNINGS = 20  # in a report
_warnings: list[str] = []  # since the last report was started


def say(text: str) -> None:
    """Log one line of progress."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Log a warning, and report it: nobody reads the log of a job that succeeded."""
    say(f"warning: {text}")
    if len(_warnings) < _MOST_WARNINGS:
        _warnings.append(text)


class Report:
    """Collects fields while a job runs, and prints them once, last.

    It also has all warnings since it was started: a process runs one job at a time.
    """

    def __init__(self, command: str) -> None:
        self._fields: dict[str, Any] = {"command": command, "outcome": "failed"}
        self._started = time.monotonic()
        _warnings.clear()

    def add(self, **fields: Any) -> None:
        self._fields.update(fields)

    def failed(self, error: ProjectError) -> None:
        outcome = "skipped" if _passes(error) else "failed"
        self.add(**error.fields, outcome=outcome, error=error.message, hint=error.hint)

    def exit_code(self, error: ProjectError) -> int:
        """The exit code; 0 for a garbage collection that was skipped.

        An upgrade that did not happen has failed.
        """
        return 0 if _passes(error) and self._fields["command"] == "GarbageCollection" else error.exit_code

    def print(self, exit_code: int, keep: Callable[[Mapping[str, Any]], None] = lambda _fields: None) -> None:
        """Hand the report to `keep`, then print it: nothing may follow it in the log."""
        if _warnings:
            self.add(warnings=[scrub(text) for text in _warnings])
        self.add(exit_code=exit_code, seconds=round(time.monotonic() - self._started, 2))
        fields = {key: scrub(value) if isinstance(value, str) else value for key, value in self._fields.items()}
        keep(fields)
        sys.stderr.flush()
        sys.stdout.flush()
        # Past the filter, which knows text, not JSON: a password like "12345" must not turn a number into stars.
        stream = sys.stdout.inner if isinstance(sys.stdout, ScrubbingStream) else sys.stdout
        stream.write(json.dumps(fields) + "\n")
        stream.flush()


def _passes(error: ProjectError) -> bool:
    return isinstance(error, Locked) and not isinstance(error, RestoreUnfinished)
