"""What an upgrade would change, and whether it can be begun at all. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import Conflict, DeployError, ReleaseRefused, StageFailed
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.jobs import runner, tasks
from mlflow_ae5_deploy.jobs.spec import check_profile
from mlflow_ae5_deploy.operations.status.observe import health_of
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.release.models import BuiltArchive
from mlflow_ae5_deploy.release.packages import environment_of
from mlflow_ae5_deploy.release.provenance import made_of, same_content
from mlflow_ae5_deploy.resources.current_deployment import chosen_of, desired_deployment
from mlflow_ae5_deploy.resources.deployment import check_before_start

UNKNOWN = "unknown"
RESTORABLE = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True)
class UpgradePlan:
    """release, mlflow: (now, then), in words. same: the project holds the wanted content already.

    rehearsable: the new release knows how to upgrade a copy. backs_up: the installed one knows how to back up.
    """

    project: Project
    server: Deployment | None
    release: tuple[str, str]
    mlflow: tuple[str, str]
    same: bool
    rehearsable: bool
    backs_up: bool

    @property
    def settled(self) -> bool:
        """Nothing to do: a server that has started is on the schema that its release wants."""
        return self.same and self.server is not None and self.server.is_started

    def data(self) -> dict[str, Any]:
        return {
            "release": {"from": self.release[0], "to": self.release[1]},
            "mlflow": {"from": self.mlflow[0], "to": self.mlflow[1]},
        }


def look(context: Context) -> UpgradePlan:
    """After stage 5 has built the new archive."""
    project, built = runner.required_project(context), built_of(context)
    stored, desired = context.cached.archive(project), built.path.read_bytes()
    return UpgradePlan(
        project=project,
        server=chosen_of(context).current,
        release=(_name(stored), _name(desired)),
        mlflow=(_mlflow(context, stored), _mlflow(context, desired)),
        same=same_content(stored, built).same,
        rehearsable=tasks.REHEARSE in read_project_archive(built.path).variables,
        backs_up=runner.knows(context, project, "Backup"),
    )


def built_of(context: Context) -> BuiltArchive:
    if context.outputs.built is None:
        raise StageFailed("The new release is not built.", stage=5)
    return context.outputs.built


def check(context: Context, changes: UpgradePlan) -> None:
    """Everything that would make it fail, as far as it can be told before anything is done."""
    built = built_of(context)
    needed = {runner.command_of(context.settings, name) for name in ("Backup", "Restore", "DatabaseUpgrade")}
    if absent := sorted(needed - set(built.commands)):
        raise ReleaseRefused(
            f"The new release has no command {', '.join(f'`{name}`' for name in absent)}, without which there is no "
            "upgrade that could be taken back.",
            where=changes.release[1],
            remedy="`install --replace` changes the release all the same, without a way back.",
        )
    store = context.values.store_uri(context.settings.server.backend_store_uri).reveal()
    require_way_back(parse_store_uri(store).dialect)
    check_before_start(context, desired_deployment(context), None)
    check_profile(context, context.settings.backup.resource_profile, "backup.resource_profile")
    server = changes.server
    if server is not None and server.is_started and server.url:
        health = health_of(context, server)
        if health.status == "unhealthy":
            raise Conflict(
                f"The server is not well now ({health.message}), so nobody could tell what an upgrade did to it.",
                where=f"deployment {server.name}",
                remedy="Mend it first: `status` and `doctor` say what is wrong.",
            )


def require_way_back(dialect: str) -> None:
    """Raises Conflict for a database into which the project's `Restore` brings nothing back."""
    if dialect not in RESTORABLE:
        raise Conflict(
            f"The database is {dialect}, into which no snapshot can be restored: an upgrade that fails could not go "
            "back.",
            where="server.backend_store_uri",
            remedy="Move to PostgreSQL first (`backup`, then `restore` with the new server.backend_store_uri), or back "
            "up by the database's own means and use `install --replace`, then run the command DatabaseUpgrade.",
        )


def require_target(context: Context, target: str, desired: str, phase: str) -> None:
    """Raises Conflict unless the release at hand is the one that an upgrade which was cut off was on the way to."""
    built = built_of(context)
    if target != built.content_digest:
        raise Conflict(
            f"An upgrade to {desired} was cut off ({phase}), and this would be one to "
            f"{_name(built.path.read_bytes())}.",
            where=f"project {context.settings.project.name}",
            remedy="Finish that one (the same `upgrade --release` and configuration again), or `upgrade --roll-back`.",
        )


def schema(job_result: JobResult | None) -> dict[str, Any] | None:
    """What the rehearsal said of the schema."""
    if job_result is None:
        return None
    report = job_result.report
    return {key: report.get(key) for key in ("revision", "expected_revision", "migrations", "migration_seconds")} | {
        "seconds": report.get("seconds")
    }


def release_words(name: str) -> str:
    return "a release that does not say which" if name == UNKNOWN else name


def _name(archive: bytes) -> str:
    made, _ = made_of(archive)
    return made.release if made else UNKNOWN


def _mlflow(context: Context, archive: bytes) -> str:
    try:
        spec = environment_of(archive, context.settings.deployment.command).packages.get("mlflow", "")
    except DeployError:
        return UNKNOWN
    return spec.lstrip("= ") or UNKNOWN
