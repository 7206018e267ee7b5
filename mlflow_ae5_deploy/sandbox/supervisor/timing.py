"""Delays until a change shows: a number of polls, or a time."""

from __future__ import annotations

import time
from collections import Counter

from mlflow_ae5_deploy.sandbox.settings import SandboxSettings


class Timing:
    """Reads of each record, in memory only: a restart makes everything visible."""

    def __init__(self) -> None:
        self._reads: Counter[str] = Counter()
        self._listed: Counter[str] = Counter()
        self._born: dict[str, float] = {}
        self._needs: dict[str, tuple[int, float, int]] = {}

    def born(self, record_id: str, settings: SandboxSettings) -> None:
        """A new record: from now on it ripens according to the settings of this moment."""
        self._born[record_id] = time.monotonic()
        self._needs[record_id] = (settings.state_polls, settings.state_seconds, settings.list_visibility_polls)

    def read(self, record_id: str) -> None:
        self._reads[record_id] += 1

    def ripe(self, record_id: str) -> bool:
        polls, seconds, _ = self._needs.get(record_id, (0, 0.0, 0))
        age = time.monotonic() - self._born.get(record_id, 0.0)
        return self._reads[record_id] >= polls and age >= seconds

    def in_list(self, record_id: str) -> bool:
        """Whether the record is in this answer of its list. Counts the asking."""
        _, _, hidden = self._needs.get(record_id, (0, 0.0, 0))
        self._listed[record_id] += 1
        return self._listed[record_id] > hidden
