"""The progress display, as a protocol that the command line implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

JOB_END = "the job"
"""What `waiting` is called with while a job runs."""


@dataclass(frozen=True)
class Phase:
    """How far one phase of a long piece of work is. None: not known."""

    text: str  # for people: `examining artifacts`
    step: int | None = None
    steps: int | None = None
    done: float | None = None
    total: float | None = None
    unit: str = "bytes"
    seconds: float | None = None  # since the phase began
    ended: bool = False


class Progress(Protocol):
    verbose: bool
    """Whether to show the logs of jobs while they run."""

    def log(self, line: str) -> None:
        """Show a line of such a log."""

    def waiting(self, what: str) -> None:
        """Something is awaited."""

    def phase(self, phase: Phase) -> None:
        """Report how far a job or a transfer is."""

    def server_down(self, *, down: bool) -> None:
        """The server was stopped, or runs again."""

    def warning(self, text: str) -> None:
        """A job warns of something, a whole sentence."""
