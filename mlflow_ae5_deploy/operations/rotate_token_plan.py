"""Who gets a new token, and why. Pure: the decision is a table of facts and wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RotationOptions:
    """restart: start the server anew first. if_needed: only if something is not right. everyone: a new token for all,
    also where only some are left of an earlier rotation."""

    restart: bool = False
    if_needed: bool = False
    everyone: bool = False


@dataclass(frozen=True)
class RotationState:
    """deployment_id: the running one. recipients: the service account, then the consumers.

    stored: by account, of which deployment the token is that is on record as stored.
    listed: the platform lists the secret for the service account.
    due: the stored token ends soon, or has ended.
    left: accounts an earlier rotation of this deployment did not serve; empty when it only lacks the proof of the
    gc job, None when there is no unfinished one. proved: that one has proved the gc job.
    """

    deployment_id: str
    recipients: tuple[str, ...]
    stored: Mapping[str, str] = field(default_factory=dict)
    listed: bool = True
    due: bool = False
    left: tuple[str, ...] | None = None
    proved: bool = False

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
    """accounts: who gets the new token; empty with `prove` when only the gc job is to be proved."""

    accounts: tuple[str, ...]
    prove: bool
    reason: str

    @property
    def nothing(self) -> bool:
        return not self.accounts and not self.prove


def decide(requirement: RotationOptions, now: RotationState) -> RotationPlan:
    everyone = now.recipients
    if requirement.restart:
        return RotationPlan(everyone, True, "the server was restarted, so every earlier token is void")
    if requirement.everyone:
        return RotationPlan(everyone, True, "a new token for everybody was asked for")
    if now.due:
        return RotationPlan(everyone, True, "the stored token ends soon or has ended")
    lacking = now.lacking
    if now.left is not None:
        rest = tuple(name for name in everyone if name in now.left or name in lacking)
        if rest:
            return RotationPlan(rest, True, f"an earlier rotation left {', '.join(rest)}")
        if not now.proved:
            return RotationPlan((), True, "an earlier rotation stored the token and did not prove the gc job")
        # Whoever it left is no consumer any more: nothing of it is to be done.
    if requirement.if_needed:
        if not lacking:
            why = f"the token of the running deployment {now.deployment_id} is on record for {', '.join(everyone)}"
            return RotationPlan((), False, why)
        return RotationPlan(lacking, True, f"no token of the running deployment is on record for {', '.join(lacking)}")
    return RotationPlan(everyone, True, "a new token was asked for")
