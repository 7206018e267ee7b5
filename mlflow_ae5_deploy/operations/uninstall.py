"""Taking an installation down: what would go, and its going. Data, the account and the archive stay.

In an order in which being cut off anywhere leaves something that the next call finds and takes on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import DeployError, NotFound, PlatformError
from mlflow_ae5_deploy.common.files import write_private
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.config.checks import MANAGED_SECRETS
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import execute
from mlflow_ae5_deploy.jobs import one_off, other_machines
from mlflow_ae5_deploy.operations.upgrade.staging_project import remove_left
from mlflow_ae5_deploy.resources import backup_destination
from mlflow_ae5_deploy.resources import encryption_keys as keys
from mlflow_ae5_deploy.resources.deployment import StopDeployment, stop
from mlflow_ae5_deploy.resources.project import DeleteProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, DeleteRuns
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets

_GONE = 120.0  # seconds until a deleted project must be off the list
_STOPPED_FOR_GOOD = (
    Consequence(Impact.DOWNTIME, "clients lose the server at once"),
    Consequence(Impact.TOKENS, "every token of it is invalidated"),
)
_CONSUMER = frozenset({"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN"})


@dataclass(frozen=True)
class ConsumerSecrets:
    """A consumer account and those of its secrets that this tool wrote; trouble: why they cannot be listed."""

    username: str
    secrets: tuple[str, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class UninstallPlan:
    """What there is of the installation. secrets: of the service account, written by this tool. keys: of
    those, what is never deleted, because it exists nowhere else."""

    project: Project | None = None
    deployments: tuple[Deployment, ...] = ()
    jobs: tuple[Job, ...] = ()
    runs: tuple[Run, ...] = ()
    secrets: tuple[str, ...] = ()
    consumers: tuple[ConsumerSecrets, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Besides secrets."""
        return bool(self.project or self.deployments or self.jobs or self.runs)


@dataclass
class UninstallResult:
    """kept: the project's archive on this machine. left: consumers whose secrets could not be deleted, and why."""

    kept: Path | None = None
    left: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def observe(context: Context, *, purge: bool, force: bool = False) -> UninstallPlan:
    """Reads only. Consumers are looked at only when their secrets are to go. Raises Locked, without `force`, where an
    operation of another machine seems unfinished."""
    if context.access.has_admin and context.access.find_account() is None:
        return UninstallPlan(consumers=_consumers(context) if purge else ())
    project = context.cached.project(context.settings.project.name)
    projects = {item.id for item in context.cached.projects()}
    names = {context.settings.gc.name, f"{context.settings.gc.name} dry run"}

    def ours(item: Job | Run) -> bool:
        if item.owner not in ("", context.account):
            return False
        if project is not None and item.project_id == project.id:
            return True
        return item.name in names and item.project_id not in projects  # what an earlier call left behind

    only = context.cached.secret_names() & keys.only_on_the_platform(context)
    deployments = tuple(d for d in context.cached.deployments() if project and d.project_id == project.id)
    if project is not None and not force:
        other_machines.refuse_unfinished(context, project, deployments)
    return UninstallPlan(
        project=project,
        deployments=deployments,
        jobs=tuple(job for job in context.cached.jobs() if ours(job)),
        runs=tuple(run for run in context.platform.runs() if ours(run)),
        secrets=tuple(sorted((context.cached.secret_names() & _own_names(context)) - only)),
        keys=tuple(sorted(only)),
        consumers=_consumers(context) if purge else (),
    )


def diff(there: UninstallPlan, *, purge: bool) -> list[Change]:
    """Pure: what goes, in this order, and what that means."""
    changes: list[Change] = []
    for job in there.jobs:
        active = any(run.is_active and run.job_id == job.id for run in there.runs)
        meaning = Consequence(Impact.JOBS, "its run at work is stopped" if active else "nothing is collected any more")
        why = "it belongs to the installation"
        changes.append(DeleteJob(name=job.name, id=job.id, purpose="", reason=why, consequences=(meaning,)))
    if there.runs:
        changes.append(DeleteRuns(count=len(there.runs), reason="they belong to its jobs"))
    for item in there.deployments:
        change = StopDeployment(name=item.name, id=item.id, reason="it is the server", consequences=_STOPPED_FOR_GOOD)
        changes.append(change)
    if there.project is not None:
        name, identity = there.project.name, there.project.id
        changes.append(DeleteProject(name=name, id=identity, reason="it is what the server was made of"))
    if purge:
        of_consumers = ((consumer.username, consumer.secrets) for consumer in there.consumers)
        changes += [
            DeleteSecrets(name=account, names=names, reason="--purge-secrets was given")
            for account, names in (("", there.secrets), *of_consumers)
            if names
        ]
    return changes


def kept(context: Context, there: UninstallPlan, *, purge: bool) -> list[str]:
    """What stays, in words."""
    server = context.settings.server
    uri = server.backend_store_uri
    database = "the one given by this tool" if isinstance(uri, SecretRef) and uri.kind == "held" else str(uri)
    found = [
        f"the account {context.account}",
        f"the database ({database}) and the artifacts ({server.artifacts_destination}); what is below "
        "data/ only where the platform mounts a persistent volume there",
        f"the snapshots ({backup_destination.shown(context)})",
        f"journal, state and kept archives on this machine ({context.folder})",
    ]
    if there.keys:
        found.append(f"the secrets {', '.join(there.keys)}, of which no copy is on this machine")
    if keys.path(context).exists():
        found.append(f"the key file {keys.path(context)}")
    if there.secrets and not purge:
        found.append(f"the secrets {', '.join(there.secrets)} (--purge-secrets deletes them)")
    return found


def carry_out(context: Context, there: UninstallPlan, *, purge: bool) -> UninstallResult:
    result = UninstallResult()
    if there.project is not None:
        result.kept = _keep_archive(context, there.project, result)
    context.state.forget_deployment()  # before the first effect: a token of it must not be taken for good any more
    remove_left(context)  # of a rehearsed upgrade that was cut off
    execute(diff(there, purge=purge), lambda change: _apply(change, there, result, context), context.journal)
    for consumer in there.consumers:
        if purge and consumer.trouble:
            _note_left(context, consumer.username, consumer.trouble, result)
    context.cached.forget()
    return result


def _apply(change: Change, there: UninstallPlan, result: UninstallResult, context: Context) -> None:
    match change:
        case DeleteJob():
            _delete_job(context, next(job for job in there.jobs if job.id == change.id))
        case DeleteRuns():
            _delete_runs(context, there.runs)
        case StopDeployment():
            stop(context, next(item for item in there.deployments if item.id == change.id))
        case DeleteProject() if there.project is not None:
            _delete_project(context, there.project)
        case DeleteSecrets() if not change.name:
            _delete_secrets(context, context.platform, context.account, change.names)
        case DeleteSecrets():
            try:
                _delete_secrets(context, _as_consumer(context, change.name), change.name, change.names)
            except PlatformError as error:
                _note_left(context, change.name, error.what, result)


def _note_left(context: Context, account: str, trouble: str, result: UninstallResult) -> None:
    context.journal.write("failed", account=account, what=trouble)
    result.left.append(f"{account}: {trouble}")


def _keep_archive(context: Context, project: Project, removed: UninstallResult) -> Path | None:
    folder = context.folder / "removed"
    try:
        content = context.cached.archive(project)
    except NotFound as error:
        removed.warnings.append(f"The project has no archive that could be kept: {error.what}")
        return None
    for earlier in sorted(folder.glob(f"*-{project.id}.tar.gz")):
        if earlier.read_bytes() == content:
            return earlier  # a call that was cut off has kept it
    path = folder / f"{context.clock.now():%Y%m%dT%H%M%SZ}-{project.id}.tar.gz"
    write_private(path, content)
    context.journal.effect("keep", "archive", str(path), id=project.id)
    return path


def _delete_job(context: Context, job: Job) -> None:
    if job.schedule is not None:
        context.platform.pause_job(job.id)  # so that no run starts between the next two calls
    one_off.stop(context, context.platform.runs(job.id))
    context.platform.delete_job(job.id)
    context.journal.effect("delete", "job", job.name, id=job.id)


def _delete_runs(context: Context, runs: Sequence[Run]) -> None:
    """Also those that started after the plan was made: the project cannot go while one is at work."""
    if not runs:
        return
    one_off.stop(context, runs)
    for run in runs:
        context.platform.delete_run(run.id)
    context.journal.effect("delete", counted(len(runs), "run records"))


def _delete_project(context: Context, project: Project) -> None:
    late = [run for run in context.platform.runs() if run.project_id == project.id]
    _delete_runs(context, late)
    context.platform.delete_project(project.id)
    context.journal.effect("delete", "project", project.name, id=project.id)
    poll_until(
        lambda: None if any(item.id == project.id for item in context.platform.projects()) else True,
        waiting_for="the project to be off the list",
        deadline=Deadline(context.clock, _GONE),
        on_wait=context.on_wait,
    )


def _delete_secrets(context: Context, platform: Client, account: str, names: Sequence[str]) -> None:
    for name in names:
        platform.delete_secret(name)
        context.state.forget_secret(account, name)
    context.journal.effect("delete", "secrets", ", ".join(names), account=account)


def _own_names(context: Context) -> set[str]:
    """Of the service account: everything this tool may have written, from here or elsewhere."""
    return {*MANAGED_SECRETS, *context.settings.server.secrets, *context.state.secrets_of(context.account)}


def _consumers(context: Context) -> tuple[ConsumerSecrets, ...]:
    """Those that are configured, then those that are remembered and were taken out of the configuration."""
    configured = [consumer.username for consumer in context.settings.consumers]
    remembered = sorted(context.state.accounts() - {context.account, *configured})
    names = configured + [name for name in remembered if not _gone(context, name)]
    return tuple(_consumer(context, name) for name in names)


def _gone(context: Context, username: str) -> bool:
    """An account that does not exist any more has no secrets."""
    return context.access.has_admin and context.access.admin().find_user(username) is None


def _consumer(context: Context, username: str) -> ConsumerSecrets:
    """A consumer may have a server of its own, so only what is remembered to be ours is touched."""
    if not context.state.secrets_of(username) & _CONSUMER:
        return ConsumerSecrets(username)
    try:
        names = _as_consumer(context, username).secret_names()
    except DeployError as error:
        return ConsumerSecrets(username, trouble=error.what)
    return ConsumerSecrets(username, tuple(sorted(names & _CONSUMER)))


def _as_consumer(context: Context, username: str) -> Client:
    """By its own password where one is configured, else through the administrator."""
    consumer = next((c for c in context.settings.consumers if c.username == username), None)
    reference = consumer.password if consumer else None
    password = context.values.secret(reference, f"password of {username}") if reference else None
    return context.access.consumer(username, password)
