"""The names of leases: secrets of the service account that say who works on which installation, and until when.

Their values mean nothing. `lease_claim.py` has the rules by which a run gets one and keeps it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.common.visible import visible
from mlflow_ae5_deploy.engine.records import PendingOperation

_LONGEST = 160  # characters of a name
PREFIX = "MLFLOW_AE5_LEASE"
_TIME = "%Y%m%dT%H%M%SZ"
# The way out on the machine of the interrupted operation, and on another one.
_UPGRADE = (
    "`upgrade --roll-back`",
    "run `install --break-lock` here: the server starts if the database has the schema of its release. If it has not, "
    "`restore --snapshot ID --replace --stop-server` brings back a snapshot; `backup list` names them.",
)
_RESTORE = (
    "`restore --undo --stop-server`",
    "run `restore --break-lock --replace --stop-server` here, which finishes that restore, or `restore --break-lock "
    "--undo --stop-server` for the data from before it.",
)
_NAME = re.compile(
    rf"{PREFIX}__(?P<scope>[0-9a-f]{{8}})__(?P<since>\d{{8}}T\d{{6}}Z)__(?P<expires>\d{{8}}T\d{{6}}Z)__(?P<nonce>[0-9a-f]{{8}})"
    r"__(?P<state>held|unfinished)__(?P<verb>[0-9A-Za-z_]+?)__(?P<who>[0-9A-Za-z_]*)"
)


@dataclass(frozen=True)
class Lease:
    """scope: of the installation. nonce: of the run. verb: of the run; where unfinished, `upgrade` or `restore`."""

    scope: str
    since: datetime
    expires: datetime
    nonce: str
    unfinished: bool
    verb: str
    who: str

    @property
    def name(self) -> str:
        times = (when.strftime(_TIME) for when in (self.since, self.expires))
        state = "unfinished" if self.unfinished else "held"
        start = "__".join((PREFIX, self.scope, *times, self.nonce, state, _quoted(self.verb), ""))
        who = self.who
        while who and len(start + _quoted(who)) > _LONGEST:
            who = who[:-1]
        return start + _quoted(who)

    @property
    def order(self) -> tuple[datetime, str]:
        return self.since, self.nonce

    @property
    def text(self) -> str:
        return visible(f"{self.verb}, {self.who}, since {self.since:%Y-%m-%d %H:%M} UTC")

    def is_live(self, now: datetime) -> bool:
        return self.expires > now

    def is_interrupted(self, now: datetime) -> bool:
        return self.unfinished and not self.is_live(now)


def parse(name: str) -> Lease | None:
    """None for what is not the name of a lease."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        since, expires = (datetime.strptime(f"{found[key]}+0000", f"{_TIME}%z") for key in ("since", "expires"))
    except ValueError:
        return None
    words = (_unquoted(found[key]) for key in ("verb", "who"))
    lease = Lease(found["scope"], since, expires, found["nonce"], found["state"] == "unfinished", *words)
    return lease if lease.name == name else None


def leases(names: Iterable[str], scope: str) -> list[Lease]:
    """Those of one installation, the earliest first."""
    found = [lease for name in names if (lease := parse(name)) is not None and lease.scope == scope]
    return sorted(found, key=lambda lease: lease.order)


def work_of_others(
    names: Iterable[str], scope: str, now: datetime, own: Collection[str] = ()
) -> tuple[Lease | None, Lease | None]:
    """The run that holds the lease, and an upgrade or restore that was interrupted. own: nonces to leave out."""
    found = [lease for lease in leases(names, scope) if lease.nonce not in own]
    running = next((lease for lease in found if lease.is_live(now)), None)
    return running, next((lease for lease in found if lease.is_interrupted(now)), None)


def made_by_hand(names: Iterable[str]) -> list[str]:
    """Names that look like a lease, and cannot be read."""
    return sorted(name for name in names if name.startswith(PREFIX) and parse(name) is None)


def scope_of(project: str) -> str:
    """An account may have several installations, each with a project of its own."""
    return hashlib.sha256(project.encode()).hexdigest()[:8]


def _quoted(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()), text)


def _unquoted(text: str) -> str:
    plain = re.sub(rb"_([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text.encode())
    return plain.decode("utf-8", "replace")


def interrupted_words(lease: Lease) -> str:
    return visible(
        f"Another machine's {lease.verb} was interrupted: {lease.who}, since {lease.since:%Y-%m-%d %H:%M} UTC."
    )


def interrupted_remedy(lease: Lease, own: PendingOperation | None) -> str:
    """own: what is unfinished on this machine. Where both are, each refuses the other's."""
    if own is None:
        there, lost = _UPGRADE if lease.verb == "upgrade" else _RESTORE
        return f"Run the same command again there to resume it, or {there}. If that machine is lost, {lost}"
    command = f"{own.verb} --break-lock {own.options}".rstrip()
    return (
        f"The {own.verb} of this machine was interrupted, too, and each machine refuses the other's. Agree on which "
        f"one goes on. If this one, run `{command}`, which gives up the other's {lease.verb}."
    )
