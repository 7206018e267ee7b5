"""The spec of a job: command, schedule, variables, resource profile."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Revision
from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context


@dataclass(frozen=True)
class JobSpec:
    name: str
    command: str
    schedule: str  # empty for a job that runs once
    variables: tuple[tuple[str, str], ...]
    resource_profile: str
    hidden: tuple[tuple[str, Secret], ...] = ()  # not to be shown, although the job's record on the platform has them
    purpose: str = "garbage collection"  # for people; the state has a record for each
    section: str = "gc"  # the group of settings with its resource profile
    alone: bool = True  # every scheduled job with its command does its work; otherwise only the one of its name

    def revealed(self) -> dict[str, str]:
        """All variables, as the platform needs them."""
        return {**dict(self.variables), **{name: value.reveal() for name, value in self.hidden}}


def check_command(revision: Revision, command: str, *, where: str, remedy: str = "") -> None:
    """Raise ReleaseRefused unless the revision has a command of that name."""
    commands = [item.id for item in revision.commands]
    if command not in commands:
        raise ReleaseRefused(
            f"Revision {revision.name} of the installed project has no command `{command}`.",
            where=where,
            remedy=remedy or f"It has: {', '.join(commands)}.",
        )


def check_profile(context: Context, name: str, where: str) -> None:
    """Raise Configuration unless the platform has a resource profile of that name."""
    profiles = [profile.name for profile in context.cached.resource_profiles()]
    if name not in profiles:
        raise Configuration(
            f"The platform has no resource profile `{name}`.",
            where=where,
            remedy=f"Use one of: {', '.join(profiles)}." if profiles else "Let this account use a resource profile.",
        )
