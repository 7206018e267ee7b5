"""What came of a rotation: for whom, with which gap, and the one error of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.errors import DeployError, PartlyDone, StageFailed
from mlflow_ae5_deploy.operations.gc_proof import GcProof
from mlflow_ae5_deploy.operations.restart import Restarted
from mlflow_ae5_deploy.operations.rotation_plan import Decision
from mlflow_ae5_deploy.platform.records import Deployment
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.recipients import recipients
from mlflow_ae5_deploy.runbook.token_life import expiry, warning


@dataclass(frozen=True)
class Served:
    """One account. outcome: stored | kept | failed. gap: seconds during which its stored token did not work; None
    when that is not over, or not known."""

    account: str
    outcome: str
    gap: float | None = None
    error: DeployError | None = None


@dataclass(frozen=True)
class Rotation:
    """outcome: rotated | finished (an earlier one) | unchanged | incomplete. gap: the longest of the accounts'.

    gc is None when there was no reason to prove it. error ended the run early, or tells what is left.
    """

    outcome: str
    reason: str
    deployment: Deployment
    url: str
    accounts: tuple[Served, ...] = ()
    gap: float | None = 0.0
    gap_said: str = ""
    gc: GcProof | None = None
    stored: datetime | None = None
    expires: datetime | None = None
    restarted: Restarted | None = None
    warnings: tuple[str, ...] = ()
    error: DeployError | None = None


@dataclass(frozen=True)
class Ground:
    """What a rotation stands on. void_since: from when on the stored token did not work, or None if it does."""

    deployment: Deployment
    url: str
    decision: Decision
    void_since: datetime | None
    restarted: Restarted | None


def unchanged(context: Context, ground: Ground) -> Rotation:
    own = context.memory.stored_token(context.account)
    expires = own.expires if own else None
    note = warning(expires, context.clock.now())
    return Rotation(
        "unchanged",
        ground.decision.reason,
        ground.deployment,
        ground.url,
        tuple(Served(name, "kept", 0.0) for name in recipients(context)),
        gap_said="the stored token stays as it is",
        stored=own.stored if own else None,
        expires=expires,
        warnings=(note,) if note else (),
    )


def result_of(
    context: Context, ground: Ground, served: Mapping[str, Served], gc: GcProof | None, broken: DeployError | None
) -> Rotation:
    accounts = tuple(served.get(name, Served(name, "kept", 0.0)) for name in recipients(context))
    own = context.memory.stored_token(context.account)
    warnings = list(ground.restarted.notes) if ground.restarted else []
    if note := warning(expiry(context.found.token) if context.found.token else None, context.clock.now()):
        warnings.append(note)
    error = _what_is_left(ground, accounts, broken)
    whole = len(served) == len(accounts)
    known = [item.gap for item in accounts if item.gap is not None]
    return Rotation(
        "incomplete" if error else "rotated" if whole else "finished",
        ground.decision.reason,
        ground.deployment,
        ground.url,
        accounts,
        gap=max(known, default=0.0) if len(known) == len(accounts) else None,
        gap_said=_gap_said(ground),
        gc=gc,
        stored=own.stored if own else None,
        expires=own.expires if own else None,
        restarted=ground.restarted,
        warnings=tuple(warnings),
        error=error,
    )


def _gap_said(ground: Ground) -> str:
    if ground.restarted is not None:
        return "from the stop of the former deployment until the new token was stored"
    if ground.void_since is not None:
        return f"the stored token did not work from {ground.void_since:%Y-%m-%d %H:%M:%S} UTC on"
    return "earlier tokens of this deployment stay valid"


def _what_is_left(ground: Ground, accounts: tuple[Served, ...], broken: DeployError | None) -> DeployError | None:
    """The one error of a run: accounts left come first, because somebody waits for them; the others are its detail."""
    left = [item for item in accounts if item.outcome == "failed"]
    rolled_back = ground.restarted.failed if ground.restarted else None
    if left:
        names = ", ".join(item.account for item in left)
        told = [(item.account, item.error) for item in left]
        told += [("gc job", broken), ("restart, rolled back", rolled_back)]
        return PartlyDone(
            f"The token is not stored for {names}; {len(accounts) - len(left)} of {len(accounts)} accounts have one.",
            where=", ".join(item.error.where for item in left if item.error and item.error.where) or names,
            remedy=f"Mend the cause, then run this again: it does {'those' if len(left) > 1 else 'that one'} only.",
            detail="\n".join(f"{who}: {error.what} {error.remedy}" for who, error in told if error is not None),
        )
    if broken is not None:
        return broken
    if rolled_back is not None:
        return StageFailed(
            f"The first start after the restart did not come up, and it was rolled back: {rolled_back.what}",
            stage=8,
            where=rolled_back.where,
            remedy=f"The server runs as before, as deployment {ground.deployment.id}, and its token is stored. The end "
            "of the log of the one that failed is below.",
            detail=rolled_back.detail,
        )
    return None
