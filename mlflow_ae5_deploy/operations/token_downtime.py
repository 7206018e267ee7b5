"""The gap of a rotation: how long the stored token did not work. Pure, and only what was observed.

The former token's value is not kept, so it cannot be tried. What is known of it is why, and since when, it is void:
because this tool stopped its deployment, or because it stated its own end. Of everything else there is at most a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Cause = Literal["works", "restart", "ended", "replaced", "refused", "unknown"]


@dataclass(frozen=True)
class PreviousToken:
    """The token that was stored before, as far as this machine knows.

    works:    of the running deployment, and not at its end. Whether issuing another voids it is not documented.
    restart:  void since this tool stopped its deployment. ended: it stated its own end.
    replaced: of a deployment that somebody else has replaced, at `since`; what was stored meanwhile is not known.
    refused:  the gc job has shown that it does not work; since when is not known.
    unknown:  nothing is on record.
    """

    cause: Cause
    since: datetime | None = None

    @property
    def invalid_since(self) -> datetime | None:
        """None where it works, or where that was not observed."""
        return self.since if self.cause in ("restart", "ended") else None


def seconds(previous: PreviousToken, stored: datetime) -> float | None:
    """Until the new one was stored; None where that was not observed."""
    if previous.cause == "works":
        return 0.0
    if previous.invalid_since is not None:
        return max(0.0, (stored - previous.invalid_since).total_seconds())
    return None


def at_most(previous: PreviousToken, issued: datetime, stored: datetime) -> float | None:
    """A bound where the gap itself was not observed. issued: when the new one was."""
    since = {"works": issued, "replaced": previous.since}.get(previous.cause)
    return max(0.0, (stored - since).total_seconds()) if since is not None else None


def message(previous: PreviousToken, bound: float | None) -> str:
    most = f" {bound:.1f} s" if bound is not None else ""
    if previous.cause == "restart":
        return "from the stop of the former deployment until the new token was stored"
    if previous.invalid_since is not None:
        return f"the stored token had ended at {previous.invalid_since:%Y-%m-%d %H:%M:%S} UTC"
    if previous.cause == "replaced":
        when = f" at {previous.since:%Y-%m-%d %H:%M:%S} UTC" if previous.since else ""
        words = f"not known: somebody else started this deployment{when}, and which token was stored since is not on"
        return f"{words} record here" + (f"; at most{most}" if most else "")
    if previous.cause == "works":
        return (
            "the server was not restarted, and a token of this deployment was stored. Its value is not kept, so it was "
            "not tried"
            + (f"; should issuing a new one void it, which is not documented: at most{most}" if most else "")
        )
    if previous.cause == "refused":
        return "not known: the server did not accept the token that was stored before, and since when was not seen"
    return "not known: which token was stored before is not on record here"
