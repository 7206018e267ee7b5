"""The result of a rotation: the accounts, and its one error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import InterruptedRotation
from mlflow_ae5_deploy.operations.gc_check import GcCheck
from mlflow_ae5_deploy.operations.restart_as_it_was import RestartResult
from mlflow_ae5_deploy.operations.rotate_token_plan import RotationPlan
from mlflow_ae5_deploy.resources.token import not_stored, recipients
from mlflow_ae5_deploy.resources.token_expiry import expiry, warning


@dataclass(frozen=True)
class RecipientResult:
    account: str
    outcome: str  # stored | kept | failed
    stored: datetime | None = None  # in this run
    error: DeployError | None = None


@dataclass(frozen=True)
class Rotation:
    outcome: str  # rotated | finished (an earlier one) | unchanged | incomplete
    reason: str
    deployment: Deployment
    url: str
    accounts: tuple[RecipientResult, ...] = ()
    # seconds from the end of the previous token until every account had the new one, if that was observed and is over
    downtime: float | None = None
    observed_downtime: float | None = None  # of a restart, see DowntimeProbe
    earlier_valid: bool = False  # the previous tokens were of this deployment, and nothing is known to have ended them
    gc: GcCheck | None = None  # None without a reason to test it
    issued: datetime | None = None
    expires: datetime | None = None
    restarted: RestartResult | None = None
    warnings: tuple[str, ...] = ()
    error: DeployError | None = None  # ended the run early, or names the accounts that are left


@dataclass(frozen=True)
class RotationContext:
    """What a rotation starts from."""

    deployment: Deployment
    url: str
    decision: RotationPlan
    invalid_since: datetime | None  # when the previous token stopped working, if that was observed
    earlier_valid: bool  # see Rotation
    restarted: RestartResult | None
    unfinished: InterruptedRotation | None = None  # of this deployment


def unchanged(context: Context, rotation: RotationContext) -> Rotation:
    own = context.state.tokens.get(context.account)
    expires = own.expires if own else None
    note = warning(expires, context.clock.now())
    return Rotation(
        "unchanged",
        rotation.decision.reason,
        rotation.deployment,
        rotation.url,
        tuple(RecipientResult(name, "kept") for name in recipients(context)),
        issued=own.issued if own else None,
        expires=expires,
        warnings=(note,) if note else (),
    )


def result_of(
    context: Context,
    rotation: RotationContext,
    served: Mapping[str, RecipientResult],
    gc: GcCheck | None,
    broken: DeployError | None,
    observed_downtime: float | None,
) -> Rotation:
    accounts = tuple(served.get(name) or RecipientResult(name, "kept") for name in recipients(context))
    own = context.state.tokens.get(context.account)
    warnings = list(rotation.restarted.notes) if rotation.restarted else []
    if note := warning(expiry(context.outputs.token) if context.outputs.token else None, context.clock.now()):
        warnings.append(note)
    left = [item for item in accounts if item.outcome == "failed"]
    rest = rotation.unfinished is not None and len(served) < len(accounts)
    if any(item.outcome == "stored" for item in accounts):
        issued, expires = context.outputs.token_issued, expiry(context.outputs.token) if context.outputs.token else None
    else:
        issued, expires = (own.issued, own.expires) if own else (None, None)
    return Rotation(
        "incomplete" if left or broken else "finished" if rest else "rotated",
        rotation.decision.reason,
        rotation.deployment,
        rotation.url,
        accounts,
        downtime=_downtime(rotation, accounts),
        observed_downtime=observed_downtime,
        earlier_valid=rotation.earlier_valid,
        gc=gc,
        issued=issued,
        expires=expires,
        restarted=rotation.restarted,
        warnings=tuple(warnings),
        error=_error(rotation, accounts, broken),
    )


def _downtime(rotation: RotationContext, accounts: tuple[RecipientResult, ...]) -> float | None:
    last = max((item.stored for item in accounts if item.stored is not None), default=None)
    if rotation.invalid_since is None or last is None or any(item.outcome == "failed" for item in accounts):
        return None
    return max(0.0, (last - rotation.invalid_since).total_seconds())


def _error(
    rotation: RotationContext, accounts: tuple[RecipientResult, ...], broken: DeployError | None
) -> DeployError | None:
    """The one error of a run: missing tokens first, other errors as its detail."""
    left = {item.account: item.error for item in accounts if item.error is not None}
    rolled_back = rotation.restarted.failed if rotation.restarted else None
    if left:
        others = [("gc job", broken), ("restart, rolled back", rolled_back)]
        return not_stored(left, len(accounts), [(what, error) for what, error in others if error is not None])
    if broken is not None:
        return broken
    if rolled_back is not None:
        came = isinstance(rolled_back, StageFailed)  # else the platform refused the start, and there is no log
        how = "failed, and was rolled back" if came else "was refused; the second start worked"
        log = " The end of the failed server's log is below." if came else " Nothing else to do."
        return StageFailed(
            f"The first start after the restart {how}: {rolled_back.what}",
            stage=8,
            where=rolled_back.where,
            remedy=f"The server runs as before, as deployment {rotation.deployment.id}, and its token is stored.{log}",
            detail=rolled_back.detail,
        )
    return None
