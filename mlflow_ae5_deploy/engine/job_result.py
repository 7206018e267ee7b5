"""How a job's run ended, as far as the platform and the job itself tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_ae5_deploy.common import json_input

GOOD = ("done", "dry-run", "skipped")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobResult:
    """What came of one run.

    state:   the platform's word for how it ended.
    outcome: the job's own word, from the last JSON line of its log, such as done, dry-run, skipped, failed or
             interrupted; unknown where it left none (a release that does not report, or a run that was killed).
    report:   that line. message: one sentence for a person. tail: the end of its log, where nobody has seen it.
    kept:    its log is on this machine; `logs --run` shows it.
    """

    run_id: str
    state: str
    outcome: str
    exit_code: int | None
    message: str
    report: Mapping[str, Any] = field(default_factory=dict)
    tail: str = ""
    kept: bool = False

    @property
    def passed(self) -> bool:
        return self.state == "completed" and self.outcome in GOOD and self.exit_code in (0, None)

    @property
    def known(self) -> bool:
        """False where the platform calls the run completed and the job left no report: a launcher may lose its exit
        code."""
        return self.state != "completed" or self.outcome != UNKNOWN

    @property
    def judged(self) -> bool | None:
        """`passed`, or None where the result is not known."""
        return self.passed if self.known else None


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
