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
    wanted: frozenset[tuple[str, str]]
    ours: frozenset[tuple[str, str]]

    @property
    def missing(self) -> list[tuple[str, str]]:
        return sorted(self.wanted - self.present)

    @property
    def surplus(self) -> list[tuple[str, str]]:
        return sorted((self.present - self.wanted) & self.ours)

    @property
    def others(self) -> list[tuple[str, str]]:
        return sorted(self.present - self.wanted - self.ours)


class SharingStage:
    number: ClassVar[int] = 13
    name: ClassVar[str] = "sharing"
    promise: ClassVar[str] = "the deployment is shared with everyone, or with the groups and users named"

    def observe(self, context: Context) -> SharingState:
        sharing, deployment = context.settings.sharing, context.outputs.deployment
        wanted = {("group", name) for name in sharing.groups} | {("user", name) for name in sharing.users}
        present = {(c.type, c.id) for c in context.cached.collaborators(deployment.id)} if deployment else set()
        return SharingState(
            deployment.id if deployment else None,
            frozenset(present),
            frozenset(wanted),
            frozenset(context.memory.shared()),
        )

    def plan(self, facts: SharingState, context: Context) -> Decision:
        warnings = [
            f"The deployment is also shared with {kind} {name}, whom the configuration does not name; that is left."
            for kind, name in facts.others
        ]
        actions = [Action("share with", f"{kind} {name}", "it is not shared with them") for kind, name in facts.missing]
        actions += [
            Action("stop sharing with", f"{kind} {name}", "the configuration no longer names them")
            for kind, name in facts.surplus
        ]
        if actions:
            return Decision.do(*actions, warnings=warnings)
        names = ", ".join(f"{kind} {name}" for kind, name in sorted(facts.wanted)) or "nobody, as configured"
        return Decision.nothing(f"shared with {names}", *warnings)

    def apply(self, action: Action, facts: SharingState, context: Context) -> None:
        if facts.deployment_id is None:
            raise StageFailed("There is no deployment to share.", stage=self.number)
        current = context.cached.collaborators(facts.deployment_id)
        present = {(c.type, c.id) for c in current}
        if not facts.wanted - present and not (present - facts.wanted) & facts.ours:
            return  # an earlier action of this stage has written the whole list already
        kept = [c for c in current if (c.type, c.id) in facts.wanted or (c.type, c.id) not in facts.ours]
        added = [Collaborator(id=n, type="group" if k == "group" else "user") for k, n in facts.missing]
        try:
            context.platform.set_collaborators(facts.deployment_id, [*kept, *added])
        except Refused as error:
            raise Refused(
                error.what,
                where="sharing.groups, sharing.users",
                remedy="Check that the platform has every group and user named there.",
                status=error.status,
            ) from None
        context.memory.remember_shared(set((facts.ours | set(facts.missing)) - set(facts.surplus)))
        context.journal.write("effect", action="share", target=facts.deployment_id, added=facts.missing)
        context.cached.forget("collaborators")

    def verify(self, context: Context) -> str | None:
        facts = self.observe(context)
        if facts.missing or facts.surplus:
            raise StageFailed(
                f"The platform lists other collaborators than were set: {sorted(facts.present)}.", stage=self.number
            )
        return "shared with " + ", ".join(f"{kind} {name}" for kind, name in sorted(facts.wanted))
