"""Stage 13: the deployment is shared with the configured groups and users."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import Refused, StageFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources.sharing import (
    Pair,
    ShareWith,
    StopSharing,
    collaborator,
    desired_pairs,
    names,
    pairs_of,
)


@dataclass(frozen=True)
class SharingState:
    deployment_id: str | None
    present: frozenset[Pair]
    desired: frozenset[Pair]
    ours: frozenset[Pair]  # added by this tool, so it may remove them again

    @property
    def missing(self) -> list[Pair]:
        return sorted(self.desired - self.present)

    @property
    def surplus(self) -> list[Pair]:
        return sorted((self.present - self.desired) & self.ours)

    @property
    def others(self) -> list[Pair]:
        return sorted(self.present - self.desired - self.ours)


class SharingStage(Stage[SharingState]):
    number = 13
    name = "sharing"

    def observe(self, context: Context) -> SharingState:
        deployment = context.outputs.deployment
        present = pairs_of(context.cached.collaborators(deployment.id)) if deployment else set()
        return SharingState(
            deployment.id if deployment else None,
            frozenset(present),
            frozenset(desired_pairs(context)),
            frozenset(context.state.shared),
        )

    def diff(self, state: SharingState) -> Diff:
        warnings = tuple(
            f"Also shared with {kind} {name}, who is not in the configuration; `install` keeps this."
            for kind, name in state.others
        )
        identity = state.deployment_id or ""
        changes = (
            *(ShareWith.of(pair, identity, "not shared yet") for pair in state.missing),
            *(StopSharing.of(pair, identity, "no longer in the configuration") for pair in state.surplus),
        )
        if changes:
            return Changes(changes, warnings)
        return NoChange(f"shared with {names(state.desired)}{'' if state.desired else ', as configured'}", warnings)

    def apply(self, change: Change, state: SharingState, context: Context) -> None:
        """The platform takes the list as a whole, so the first change writes all of them."""
        if state.deployment_id is None:
            raise StageFailed("There is no deployment to share.", stage=self.number)
        current = context.cached.collaborators(state.deployment_id)
        present = pairs_of(current)
        if not state.desired - present and not present & set(state.surplus):
            return
        stay = [item for item in current if (item.type, item.id) not in state.surplus]
        added = [collaborator(pair) for pair in state.missing]
        try:
            context.platform.set_collaborators(state.deployment_id, [*stay, *added])
        except Refused as error:
            raise Refused(
                error.what,
                where="sharing.groups, sharing.users",
                remedy="Check that the platform has all these groups and users.",
                status=error.status,
            ) from None
        context.state.shared = tuple(sorted((state.ours | set(state.missing)) - set(state.surplus)))
        context.state.save()
        context.journal.effect("share", "deployment", id=state.deployment_id, added=state.missing)
        context.cached.forget("collaborators")

    def verify(self, context: Context) -> str | None:
        state = self.observe(context)
        if state.missing or state.surplus:
            raise StageFailed(
                f"The platform lists other users and groups than were set: {names(state.present)}.",
                stage=self.number,
            )
        return None
