"""Share the deployment with users and groups after the install, or stop sharing it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Collaborator
from mlflow_ae5_deploy.ae5.resource_api import VISIBLE
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, NotFound, Refused, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.resources.current_deployment import required_deployment
from mlflow_ae5_deploy.resources.sharing import (
    Pair,
    ShareWith,
    SharingChange,
    StopSharing,
    collaborator,
    desired_pairs,
    names,
    pairs_of,
)

_UNKNOWN = "Check the names in the platform's user administration."


@dataclass(frozen=True)
class ShareResult:
    """A user or group with access. configured: the configuration names it."""

    kind: str
    name: str
    configured: bool


@dataclass(frozen=True)
class ShareChange:
    """shared: everyone with access now. notes: what the next `install` will change."""

    changes: tuple[SharingChange, ...]
    shared: tuple[ShareResult, ...]
    notes: tuple[str, ...]


def shared_with(context: Context) -> tuple[ShareResult, ...]:
    return _results(_present(context, required_deployment(context).id), desired_pairs(context))


def add(context: Context, desired: Sequence[Pair]) -> ShareChange:
    deployment = required_deployment(context)
    current = context.cached.collaborators(deployment.id)
    missing = sorted(set(desired) - pairs_of(current))
    changes = tuple(ShareWith.of(pair, deployment.id, "requested") for pair in missing)
    if missing:
        _write(context, deployment.id, changes, [*current, *(collaborator(pair) for pair in missing)])
        # Remember only those that are configured too: `install` leaves the others alone.
        context.state.shared = tuple(sorted({*context.state.shared, *(set(missing) & desired_pairs(context))}))
        context.state.save()
    return _outcome(context, deployment.id, changes, kept_by_install(sorted(set(desired)), desired_pairs(context)))


def remove(context: Context, desired: Sequence[Pair]) -> ShareChange:
    deployment = required_deployment(context)
    current = context.cached.collaborators(deployment.id)
    surplus = sorted(set(desired) & pairs_of(current))
    changes = tuple(StopSharing.of(pair, deployment.id, "requested") for pair in surplus)
    if surplus:
        _write(context, deployment.id, changes, [c for c in current if (c.type, c.id) not in set(surplus)])
    context.state.shared = tuple(pair for pair in context.state.shared if pair not in desired)
    context.state.save()
    return _outcome(context, deployment.id, changes, undone_by_install(sorted(set(desired)), desired_pairs(context)))


def kept_by_install(added: Sequence[Pair], configured: set[Pair]) -> tuple[str, ...]:
    """Pure: a note on those that the configuration does not name."""
    own = [pair for pair in added if pair not in configured]
    if not own:
        return ()
    return (
        f"Not in the configuration: {names(own)}. `install` does not share a recreated deployment with them. To keep "
        f"them, add to sharing: {_lines(own)}.",
    )


def undone_by_install(removed: Sequence[Pair], configured: set[Pair]) -> tuple[str, ...]:
    """Pure: a note on those that the next `install` will share with again."""
    back = [pair for pair in removed if pair in configured]
    if not back:
        return ()
    return (
        f"Still configured, or the default: {names(back)}. The next `install` will share with them again. To prevent "
        f"that, set {' and '.join(sorted({f'sharing.{kind}s' for kind, _name in back}))} without them.",
    )


def _write(context: Context, deployment_id: str, changes: Sequence[SharingChange], now: Sequence[Collaborator]) -> None:
    """Make all changes in one request, because the platform takes the list as a whole."""
    with contextlib.ExitStack() as stack:
        for change in changes:
            stack.enter_context(applying(change, context.journal))
        try:
            context.platform.set_collaborators(deployment_id, now)
        except (Refused, NotFound) as error:
            if error.status in (400, 404, 422):
                error.where, error.remedy = "--user, --group", _UNKNOWN
            raise
        for change in changes:
            context.journal.effect(change.verb, change.target, id=deployment_id)
    desired = pairs_of(now)

    def probe() -> bool | None:
        context.cached.forget("collaborators")
        return True if _present(context, deployment_id) == desired else None

    try:
        context.poll(probe, "the platform to show the new sharing", VISIBLE)
    except DeadlineExceeded:
        seen = _present(context, deployment_id)
        raise StageFailed(
            f"The platform lists other users and groups than were set: {names(seen)}.", stage=13
        ) from None


def _outcome(
    context: Context, deployment_id: str, changes: tuple[SharingChange, ...], notes: tuple[str, ...]
) -> ShareChange:
    return ShareChange(changes, _results(_present(context, deployment_id), desired_pairs(context)), notes)


def _present(context: Context, deployment_id: str) -> set[Pair]:
    return pairs_of(context.cached.collaborators(deployment_id))


def _results(present: set[Pair], configured: set[Pair]) -> tuple[ShareResult, ...]:
    return tuple(ShareResult(kind, name, (kind, name) in configured) for kind, name in sorted(present))


def _lines(pairs: Sequence[Pair]) -> str:
    rows = (("groups", "group"), ("users", "user"))
    named = [(title, [name for kind, name in pairs if kind == desired]) for title, desired in rows]
    return ", ".join(f"{title}: [{', '.join(listed)}]" for title, listed in named if listed)
