"""How a job's run ended, by the platform and by the job itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_ae5_deploy.common import json_input

GOOD = ("done", "dry-run", "skipped")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobResult:
    """What came of one run."""

    run_id: str
    state: str  # the platform's word
    outcome: str  # the job's own word (done, dry-run, skipped, failed, interrupted ...), or UNKNOWN without a report
    exit_code: int | None
    message: str  # one sentence for a person
    report: Mapping[str, Any] = field(default_factory=dict)  # the last JSON line of its log
    tail: str = ""  # the end of its log, where nobody has seen it
    kept: bool = False  # its log is on this machine; `logs --run` shows it

    @property
    def passed(self) -> bool:
        return self.state == "completed" and self.outcome in GOOD and self.exit_code in (0, None)

    @property
    def reported(self) -> bool:
        """False for a completed run without a report: a launcher may lose its exit code."""
        return self.state != "completed" or self.outcome != UNKNOWN

    @property
    def judged(self) -> bool | None:
        """`passed`, or None where the result is unknown."""
        return self.passed if self.reported else None


def last_report(log: str) -> dict[str, Any]:
    """The JSON object on the last line that is one; empty where there is none."""
    for line in reversed(log.splitlines()):
        text = line.strip()
        if not (text.startswith("{") and text.endswith("}")):
            continue
        try:
            found = json_input.parse(text)
        except ValueError:
            continue
        if isinstance(found, dict) and "outcome" in found:
            return found
    return {}
