"""Collaborators: who may open the deployment's web pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from mlflow_ae5_deploy.ae5.models import Collaborator
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context

Pair = tuple[str, str]  # (user | group, name)


@dataclass(frozen=True, kw_only=True)
class SharingChange(Change):
    """name: of the user or group. id: of the deployment, if there is one."""

    resource = "sharing"
    type: str  # user or group

    @classmethod
    def of(cls, pair: Pair, deployment_id: str, reason: str) -> Self:
        return cls(type=pair[0], name=pair[1], id=deployment_id, reason=reason)

    @property
    def target(self) -> str:
        return f"{self.type} {self.name}"

    @property
    def identity(self) -> tuple[Any, ...]:
        return (*super().identity, self.type)


class ShareWith(SharingChange):
    verb, of_project, of_deployment = "share with", True, True


class StopSharing(SharingChange):
    verb = "stop sharing with"


def desired_pairs(context: Context) -> set[Pair]:
    sharing = context.settings.sharing
    return {("group", name) for name in sharing.groups} | {("user", name) for name in sharing.users}


def pairs_of(collaborators: Iterable[Collaborator]) -> set[Pair]:
    return {(item.type, item.id) for item in collaborators}


def names(pairs: Iterable[Pair]) -> str:
    """For people."""
    return ", ".join(f"{kind} {name}" for kind, name in sorted(pairs)) or "nobody"


def collaborator(pair: Pair) -> Collaborator:
    return Collaborator(id=pair[1], type="group" if pair[0] == "group" else "user")
