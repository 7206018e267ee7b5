"""What an upgrade would change, and whether it can start. Reads only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import Conflict, DeployError, ReleaseRefused, StageFailed
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import UpgradeRecord
from mlflow_ae5_deploy.jobs import runner
from mlflow_ae5_deploy.jobs.contract import REHEARSE
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.jobs.spec import check_profile
from mlflow_ae5_deploy.release.archive import read_project_archive
from mlflow_ae5_deploy.release.models import BuiltArchive
from mlflow_ae5_deploy.release.packages import environment_of
from mlflow_ae5_deploy.release.provenance import release_name, same_content
from mlflow_ae5_deploy.resources import receivers
from mlflow_ae5_deploy.resources.before_replacing import check_later_stages
from mlflow_ae5_deploy.resources.current_deployment import match_deployment
from mlflow_ae5_deploy.resources.health import health_at
from mlflow_ae5_deploy.resources.token import check_recipients

UNKNOWN = "unknown"
_SHOWN_APART = "package mlflow:"
RESTORABLE = ("sqlite", "postgresql", "mysql")


@dataclass(frozen=True)
class UpgradePlan:
    project: Project
    server: Deployment | None
    release: tuple[str, str]  # (now, then), in words
    mlflow: tuple[str, str]  # (now, then), in words
    same: bool  # the project has the desired content
    rehearsable: bool  # the new release can migrate a copy
    differences: tuple[str, ...] = ()  # further ones: `setting: observed → desired`

    @property
    def nothing_to_do(self) -> bool:
        """Nothing to do: a server only starts on the schema of its release."""
        return self.same and self.server is not None and self.server.is_started

    @property
    def summary(self) -> str:
        """The two releases, or what is different within the same one."""
        if self.release[0] != self.release[1]:
            return " → ".join(map(release_words, self.release))
        if len(self.differences) == 1:
            return self.differences[0]
        changes = counted(len(self.differences), "differences") if self.differences else "other content"
        return f"{changes}, the release stays {release_words(self.release[1])}"

    def data(self) -> dict[str, Any]:
        return {
            "release": {"from": self.release[0], "to": self.release[1]},
            "mlflow": {"from": self.mlflow[0], "to": self.mlflow[1]},
        }


def observe(context: Context) -> UpgradePlan:
    """After stage 5 has built the new archive."""
    project, built = runner.required_project(context), built_of(context)
    stored = context.cached.archive(project)
    comparison = same_content(stored, built)
    return UpgradePlan(
        project=project,
        server=match_deployment(context).current,
        release=(comparison.release or UNKNOWN, comparison.desired_release),
        mlflow=(_mlflow(context, stored), _mlflow(context, built.path.read_bytes())),
        same=comparison.same,
        rehearsable=REHEARSE in read_project_archive(built.path).variables,
        differences=tuple(line for line in comparison.differences if not line.startswith(_SHOWN_APART)),
    )


def built_of(context: Context) -> BuiltArchive:
    if context.outputs.built is None:
        raise StageFailed("The new release is not built.", stage=5)
    return context.outputs.built


def check(context: Context, planned: UpgradePlan) -> None:
    """Raise what would make the upgrade fail, as far as that shows before it starts."""
    built = built_of(context)
    needed = {runner.command_of(context.settings, name) for name in ("Backup", "Restore", "DatabaseUpgrade")}
    if absent := sorted(needed - set(built.commands)):
        raise ReleaseRefused(
            f"The new release has no command {', '.join(f'`{name}`' for name in absent)}: the upgrade could not be "
            "rolled back.",
            where=planned.release[1],
            remedy="Use another release, or `install --replace`, which has no rollback.",
        )
    store = context.values.store_uri(context.settings.server.backend_store_uri).reveal()
    require_restorable(parse_store_uri(store).dialect)
    receivers.check(context)  # as the preflights of stages 8 and 12, which an upgrade does not run
    check_recipients(context)
    check_later_stages(context)
    check_profile(context, context.settings.backup.resource_profile, "backup.resource_profile")
    server = planned.server
    if server is not None and server.is_started and server.url:
        health = health_at(context, server.url)
        if health.status == "unhealthy":
            raise Conflict(
                f"The server is unhealthy ({health.message}); an upgrade could not be verified.",
                where=f"deployment {server.name}",
                remedy="Fix it first: run `doctor` to find the cause.",
            )


def require_restorable(dialect: str) -> None:
    """Raise Conflict for a database that the project's `Restore` cannot write."""
    if dialect not in RESTORABLE:
        raise Conflict(
            f"The database is {dialect}, for which there is no restore: a failed upgrade could not be rolled back.",
            where="server.backend_store_uri",
            remedy="Move to PostgreSQL first (`backup`, then `restore` with the new server.backend_store_uri). Or back "
            "up with the database's own tools, run `install --replace`, then the command DatabaseUpgrade.",
        )


def require_resumable(context: Context, record: UpgradeRecord) -> None:
    """Raise Conflict for an upgrade that is being rolled back."""
    if record.failure:
        raise Conflict(
            f"An upgrade to {record.release} failed, and its rollback has not finished: {record.failure}",
            where=str(context.folders.state),
            remedy="Run `upgrade --roll-back` to finish it, then upgrade again.",
        )


def require_same_release(context: Context, record: UpgradeRecord) -> None:
    """Raise Conflict unless the release at hand is that of the interrupted upgrade."""
    built = built_of(context)
    if record.digest != built.content_digest:
        raise Conflict(
            f"An upgrade to another release was interrupted: to {record.release} ({record.phase}), not to "
            f"{release_name(built.provenance)}.",
            where=f"project {context.settings.project.name}",
            remedy="Run that upgrade again to finish it (with the same configuration), or run `upgrade --roll-back`.",
        )


def schema(job_result: JobResult[UpgradeReport] | None) -> dict[str, Any] | None:
    """What the rehearsal reported of the schema."""
    if job_result is None:
        return None
    report = job_result.report
    return {
        "revision": report.revision or None,
        "expected_revision": report.expected_revision or None,
        "migrations": [asdict(step) for step in report.migrations],
        "migration_seconds": report.migration_seconds,
        "seconds": report.seconds,
    }


def release_words(name: str) -> str:
    return "an unknown release" if name == UNKNOWN else name


def _mlflow(context: Context, archive: bytes) -> str:
    try:
        spec = environment_of(archive, context.settings.deployment.command).packages.get("mlflow", "")
    except DeployError:
        return UNKNOWN
    return spec.lstrip("= ") or UNKNOWN
