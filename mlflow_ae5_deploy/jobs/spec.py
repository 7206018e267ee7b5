"""The spec of a job: command, schedule, variables, resource profile."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context


@dataclass(frozen=True)
class JobSpec:
    """hidden: variables whose values must not be shown, though the job's record on the platform holds them.

    purpose: what it does, as words for a person; the state has a note for each. section: the group of settings that
    its profile stands in.
    alone: every scheduled job with its command does its work; otherwise only one of its name does.
    """

    name: str
    command: str
    schedule: str
    variables: tuple[tuple[str, str], ...]
    resource_profile: str
    hidden: tuple[tuple[str, Secret], ...] = ()
    purpose: str = "garbage collection"
    section: str = "gc"
    alone: bool = True

    def revealed(self) -> dict[str, str]:
        """All variables, as the platform needs them."""
        return {**dict(self.variables), **{name: value.reveal() for name, value in self.hidden}}


def check_profile(context: Context, name: str, where: str) -> None:
    """Raise Configuration unless the platform has a resource profile of that name."""
    profiles = [profile.name for profile in context.cached.resource_profiles()]
    if name not in profiles:
        raise Configuration(
            f"The platform has no resource profile `{name}`.",
            where=where,
            remedy=f"It has: {', '.join(profiles) or 'none that this account may use'}.",
        )
