"""Decide which accounts get a new token, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RotationOptions:
    restart: bool = False  # restart the server first
    if_needed: bool = False  # only if something is not right
    everyone: bool = False  # a new token for all, also where an earlier rotation left only some


@dataclass(frozen=True)
class RotationState:
    deployment_id: str  # of the running deployment
    recipients: tuple[str, ...]  # the service account, then the consumers
    stored: Mapping[str, str] = field(default_factory=dict)  # by account, the deployment of the recorded token
    listed: bool = True  # the platform lists the secret for the service account
    due: bool = False  # the stored token expires soon, or has expired
    # accounts that an interrupted rotation left without a token; empty: only the gc test is left; None: it left nothing
    left: tuple[str, ...] | None = None
    gc_tested: bool = False  # by the interrupted rotation

    @property
    def lacking(self) -> tuple[str, ...]:
        own = self.recipients[0]
        return tuple(
            name
            for name in self.recipients
            if self.stored.get(name) != self.deployment_id or (name == own and not self.listed)
        )


@dataclass(frozen=True)
class RotationPlan:
    accounts: tuple[str, ...]  # that get the new token
    test_gc: bool
    reason: str

    @property
    def nothing(self) -> bool:
        return not self.accounts and not self.test_gc


def decide(options: RotationOptions, now: RotationState) -> RotationPlan:
    everyone = now.recipients
    if options.restart:
        return RotationPlan(everyone, True, "the server was restarted, which invalidates all earlier tokens")
    if options.everyone:
        return RotationPlan(everyone, True, "a new token for all accounts was requested")
    if now.due:
        return RotationPlan(everyone, True, "the stored token expires soon or has expired")
    lacking = now.lacking
    if now.left is not None:
        rest = tuple(name for name in everyone if name in now.left or name in lacking)
        if rest:
            return RotationPlan(rest, True, f"an earlier rotation was not finished for {', '.join(rest)}")
        if not now.gc_tested:
            return RotationPlan((), True, "an earlier rotation stored the token, but did not test the gc job")
        # The accounts that it left are no consumers any more.
    if options.if_needed:
        if not lacking:
            why = f"the token of deployment {now.deployment_id} is stored for {', '.join(everyone)}"
            return RotationPlan((), False, why)
        return RotationPlan(lacking, True, f"no token of this deployment is stored for {', '.join(lacking)}")
    return RotationPlan(everyone, True, "a new token was requested")
