"""The sandbox's settings: typed, and changeable while it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

TEN_YEARS = 10 * 365 * 24 * 3600.0


@dataclass(frozen=True)
class SandboxSettings:
    """Every duration is in seconds; `*_polls` count how often a record must be read.

    The defaults make a rehearsal quick; a cluster's delays are switched on by name.
    """

    addressing: str = "auto"
    """auto | vhost (`<endpoint>.ae5.localhost:PORT`) | ports (`localhost:EPORT`)"""
    state_polls: int = 0
    """a record shows its true state only after being read this often"""
    state_seconds: float = 0.0
    """a record shows its true state only after this long"""
    list_visibility_polls: int = 0
    """a new record is left out of this many answers of its list"""
    endpoint_release_seconds: float = 0.0
    """how long a static endpoint stays taken after its deployment was stopped (1-2 minutes on a cluster)"""
    unauthenticated: str = "401"
    """401 | 302: what the API answers without a session"""
    secret_mount_seconds: float = 0.0
    """how long until a new or changed secret shows up in the mounted folder"""
    mount_secrets: bool = True
    """from the next start: commands find their secrets where AE5 has them, if the machine allows it"""
    stop_grace_seconds: float = 10.0
    start_deadline_seconds: float = 300.0
    restart_backoff_seconds: float = 1.0
    restart_backoff_limit_seconds: float = 60.0
    job_delete_keeps_runs: bool = False
    """runs of a deleted job stay and block its name, as on older versions"""
    access_token_seconds: float = 60.0
    """admin access tokens; 60 s is Keycloak's default"""
    session_seconds: float = 36000.0
    deployment_token_seconds: float = TEN_YEARS
    expired_certificate: bool = False
    clock: str = "running"
    """running | still: the schedule's clock is moved by the control's `advance_clock` only"""
    groups: tuple[str, ...] = ("everyone", "data-science")

    def changed(self, changes: dict[str, Any]) -> SandboxSettings:
        """A copy with `changes`. ValueError names every unknown name and wrong type."""
        kinds = {f.name: f for f in dataclasses.fields(self)}
        problems: list[str] = []
        good: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in kinds:
                problems.append(f"unknown setting {name!r}")
                continue
            try:
                good[name] = _coerced(getattr(self, name), value)
            except (TypeError, ValueError):
                problems.append(f"invalid value {value!r} for setting {name!r}")
        problems += [
            f"setting {name!r} must be one of {', '.join(allowed)}"
            for name, allowed in _ALLOWED.items()
            if name in good and good[name] not in allowed
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return dataclasses.replace(self, **good)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_ALLOWED = {
    "addressing": ("auto", "vhost", "ports"),
    "unauthenticated": ("401", "302"),
    "clock": ("running", "still"),
}


def _coerced(current: Any, value: Any) -> Any:
    if isinstance(current, bool):
        if not isinstance(value, bool):
            raise TypeError
        return value
    if isinstance(current, tuple):
        if isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise TypeError
        return tuple(value)
    if isinstance(current, str):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TypeError
    return type(current)(value)
