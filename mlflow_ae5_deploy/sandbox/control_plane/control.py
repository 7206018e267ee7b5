"""The control plane of tests and rehearsals: faults, call log, settings, clock."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlflow_ae5_deploy.sandbox.settings import SandboxSettings

_MAX_CALLS = 10000


@dataclass(frozen=True)
class Call:
    """One request that arrived. No bodies, no query strings, no values of secrets."""

    number: int
    time: float
    surface: str
    """platform | endpoint:<label>"""
    method: str
    path: str
    status: int
    """0: the answer was dropped"""
    account: str
    secret: str = ""
    """The name of the secret that it set or deleted."""


@dataclass(frozen=True)
class Fault:
    """A fault, and the requests that it hits.

    After delay and hold, either `drop` cuts the connection, or `status` is answered with reason, body and headers.
    """

    method: str = ".*"
    path: str = ".*"  # regular expression, searched in the path
    skip: int = 0  # matching requests let through first
    times: int | None = 1  # requests that are hit; None: all
    delay: float = 0.0  # seconds
    hold: bool = False  # wait until `clear_faults` or `release`; with `after`, act first. `held()` counts such requests
    drop: str | None = None  # "before" | "after" the effect
    status: int | None = None
    reason: str = ""
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False  # answer `status` after acting, not instead

    def __post_init__(self) -> None:
        try:
            re.compile(self.method), re.compile(self.path)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if self.drop not in (None, "before", "after"):
            raise ValueError("drop must be 'before' or 'after'")
        if self.drop and self.status:
            raise ValueError("a fault has either drop or status")

    def matches(self, method: str, path: str) -> bool:
        return re.fullmatch(self.method, method) is not None and re.search(self.path, path) is not None


class Control:
    """Thread-safe; the same object serves tests in this process and the control port."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._lock = threading.Lock()
        self._settings = settings
        self._faults: list[Fault] = []
        self._held: set[object] = set()
        self._released: set[object] = set()
        self._calls: list[Call] = []
        self._count = 0
        self._began = time.time()
        self._clock_offset = 0.0
        self._on_clock: Callable[[], None] = lambda: None
        self._on_settings: Callable[[SandboxSettings], None] = lambda _: None

    def connect(self, on_clock: Callable[[], None], on_settings: Callable[[SandboxSettings], None]) -> None:
        """Set the callbacks after a change of clock or settings; called from any thread."""
        self._on_clock, self._on_settings = on_clock, on_settings

    @property
    def settings(self) -> SandboxSettings:
        return self._settings

    def change_settings(self, **changes: Any) -> SandboxSettings:
        """Change and store settings. ValueError for unknown names and wrong types."""
        with self._lock:
            self._settings = self._settings.changed(changes)
        self._on_settings(self._settings)
        return self._settings

    # -- faults ---------------------------------------------------------------------------

    def add_fault(self, **values: Any) -> Fault:
        """See Fault. The first fault that matches a request and is not used up is taken."""
        fault = Fault(**values)
        with self._lock:
            self._faults.append(fault)
        return fault

    def faults(self) -> list[Fault]:
        """The faults that are still to come."""
        with self._lock:
            return list(self._faults)

    def clear_faults(self) -> None:
        """Remove all faults, and release held requests."""
        with self._lock:
            self._faults.clear()
            self._held.clear()

    def hold(self) -> object:
        """Register a held request. Returns its ticket for `is_held`."""
        ticket = object()
        with self._lock:
            self._held.add(ticket)
        return ticket

    def release(self) -> None:
        """Let held requests through as if no fault had hit them. The faults stay."""
        with self._lock:
            self._released |= self._held
            self._held.clear()

    def is_released(self, ticket: object) -> bool:
        """Whether a request that is no longer held goes through unharmed. To be asked once."""
        with self._lock:
            released = ticket in self._released
            self._released.discard(ticket)
            return released

    def is_held(self, ticket: object) -> bool:
        with self._lock:
            return ticket in self._held

    def held(self) -> int:
        """The number of held requests."""
        with self._lock:
            return len(self._held)

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._faults):
                if not fault.matches(method, path):
                    continue
                if fault.skip > 0:
                    self._faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times is None:
                    return fault
                if fault.times <= 1:
                    del self._faults[index]
                else:
                    self._faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    # -- calls ----------------------------------------------------------------------------

    def note(self, surface: str, method: str, path: str, status: int, account: str, secret: str = "") -> None:
        with self._lock:
            self._count += 1
            self._calls.append(Call(self._count, time.time(), surface, method, path, status, account, secret))
            del self._calls[:-_MAX_CALLS]

    def calls(self, surface: str | None = None) -> list[Call]:
        """Oldest first. surface: `platform` or `endpoint:<label>`; None for all."""
        with self._lock:
            return [c for c in self._calls if surface in (None, c.surface)]

    def clear_calls(self) -> None:
        with self._lock:
            self._calls.clear()

    def clear(self) -> None:
        """No faults, an empty call log."""
        self.clear_faults()
        self.clear_calls()

    # -- the schedule's clock -------------------------------------------------------------

    def now(self) -> float:
        """Epoch seconds on the schedule's clock."""
        return (self._began if self._settings.clock == "still" else time.time()) + self._clock_offset

    def advance_clock(self, seconds: float) -> float:
        """Move the schedule's clock forward; the times it passes fire at once."""
        if seconds < 0:
            raise ValueError("the clock moves only forward")
        with self._lock:
            self._clock_offset += seconds
        self._on_clock()
        return self.now()

    def snapshot(self) -> dict[str, Any]:
        return {
            "settings": self.settings.as_dict(),
            "faults": [asdict(f) for f in self.faults()],
            "held": self.held(),
            "now": self.now(),
        }
