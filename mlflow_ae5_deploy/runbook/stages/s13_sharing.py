"""Stage 13: the deployment is shared with everyone, or with the groups and users named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.ae5.models import Collaborator
from mlflow_ae5_deploy.common.errors import Refused, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


@dataclass(frozen=True)
class SharingState:
    """Pairs of (type, id). ours: added by an earlier run of this tool, so this tool may take them away again."""

    deployment_id: str | None
    present: frozenset[tuple[str, str]]
    desired: frozenset[tuple[str, str]]
    ours: frozenset[tuple[str, str]]

    @property
    def missing(self) -> list[tuple[str, str]]:
        return sorted(self.desired - self.present)

    @property
    def surplus(self) -> list[tuple[str, str]]:
        return sorted((self.present - self.desired) & self.ours)

    @property
    def others(self) -> list[tuple[str, str]]:
        return sorted(self.present - self.desired - self.ours)


class SharingStage:
    number: ClassVar[int] = 13
    name: ClassVar[str] = "sharing"
    promise: ClassVar[str] = "the deployment is shared with everyone, or with the groups and users named"

    def observe(self, context: Context) -> SharingState:
        sharing, deployment = context.settings.sharing, context.outputs.deployment
        desired = {("group", name) for name in sharing.groups} | {("user", name) for name in sharing.users}
        present = {(c.type, c.id) for c in context.cached.collaborators(deployment.id)} if deployment else set()
        return SharingState(
            deployment.id if deployment else None,
            frozenset(present),
            frozenset(desired),
            frozenset(context.memory.shared()),
        )

    def plan(self, state: SharingState, context: Context) -> Decision:
        warnings = [
            f"The deployment is also shared with {kind} {name}, whom the configuration does not name; that is left."
            for kind, name in state.others
        ]
        actions = [Action("share with", f"{kind} {name}", "it is not shared with them") for kind, name in state.missing]
        actions += [
            Action("stop sharing with", f"{kind} {name}", "the configuration no longer names them")
            for kind, name in state.surplus
        ]
        if actions:
            return Decision.do(*actions, warnings=warnings)
        names = ", ".join(f"{kind} {name}" for kind, name in sorted(state.desired)) or "nobody, as configured"
        return Decision.nothing(f"shared with {names}", *warnings)

    def apply(self, action: Action, state: SharingState, context: Context) -> None:
        if state.deployment_id is None:
            raise StageFailed("There is no deployment to share.", stage=self.number)
        current = context.cached.collaborators(state.deployment_id)
        present = {(c.type, c.id) for c in current}
        if not state.desired - present and not (present - state.desired) & state.ours:
            return  # an earlier action of this stage has written the whole list already
        kept = [c for c in current if (c.type, c.id) in state.desired or (c.type, c.id) not in state.ours]
        added = [Collaborator(id=n, type="group" if k == "group" else "user") for k, n in state.missing]
        try:
            context.platform.set_collaborators(state.deployment_id, [*kept, *added])
        except Refused as error:
            raise Refused(
                error.what,
                where="sharing.groups, sharing.users",
                remedy="Check that the platform has every group and user named there.",
                status=error.status,
            ) from None
        context.memory.remember_shared(set((state.ours | set(state.missing)) - set(state.surplus)))
        context.journal.write("effect", action="share", target=state.deployment_id, added=state.missing)
        context.cached.forget("collaborators")

    def verify(self, context: Context) -> str | None:
        state = self.observe(context)
        if state.missing or state.surplus:
            raise StageFailed(
                f"The platform lists other collaborators than were set: {sorted(state.present)}.", stage=self.number
            )
        return "shared with " + ", ".join(f"{kind} {name}" for kind, name in sorted(state.desired))
