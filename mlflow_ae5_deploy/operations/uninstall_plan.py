"""What an uninstall deletes, and what it keeps: state of the installation, and the changes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import Deployment, Job, Project, Run
from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.config.checks import MANAGED_SECRETS
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import other_machines
from mlflow_ae5_deploy.jobs.gc import dry_run_name
from mlflow_ae5_deploy.resources import backup_destination, token_file
from mlflow_ae5_deploy.resources import encryption_keys as keys
from mlflow_ae5_deploy.resources.data_at_risk import data_at_risk
from mlflow_ae5_deploy.resources.deployment import StopDeployment
from mlflow_ae5_deploy.resources.interrupted import InterruptedUpgrade, interrupted_upgrade
from mlflow_ae5_deploy.resources.project import DeleteProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, DeleteRuns
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets
from mlflow_ae5_deploy.resources.token import sign_in

_WHY = "part of the installation"
_STOPPED_FOR_GOOD = (
    Consequence(Impact.DOWNTIME, "clients lose the server at once"),
    Consequence(Impact.TOKENS, "all its tokens are invalidated"),
)
_CONSUMER = frozenset({"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", TOKEN})


@dataclass(frozen=True, kw_only=True)
class GiveUpUpgrade(Change):
    """Forget an interrupted upgrade. name: of its release."""

    verb, resource = "give up", "the interrupted upgrade to"


@dataclass(frozen=True)
class ConsumerSecrets:
    """A consumer account and those of its secrets that this tool wrote."""

    username: str
    secrets: tuple[str, ...] = ()
    trouble: str = ""
    """Why they cannot be listed."""


@dataclass(frozen=True)
class Kept:
    """Something that stays."""

    what: str
    where: str  # its name, address or path
    note: str = ""  # such as how to delete it too
    at_risk: bool = False  # it may be in the project, and lost with it

    def __str__(self) -> str:
        notes = (self.where, self.note, "only if on a persistent volume" if self.at_risk else "")
        return f"{self.what} ({'; '.join(text for text in notes if text)})"


@dataclass(frozen=True)
class UninstallState:
    """What exists of the installation."""

    project: Project | None = None
    deployments: tuple[Deployment, ...] = ()
    jobs: tuple[Job, ...] = ()
    runs: tuple[Run, ...] = ()
    secrets: tuple[str, ...] = ()
    """Of the service account, written by this tool."""
    consumers: tuple[ConsumerSecrets, ...] = ()
    upgrade: InterruptedUpgrade | None = None
    keys: tuple[str, ...] = ()
    """Secrets of the account that are never deleted, because there is no other copy."""


def observe(context: Context, *, purge: bool, force: bool = False) -> UninstallState:
    """Observe what exists; consumers only with `purge`.

    Raises Locked where an operation of another machine seems unfinished, except with `force`.
    """
    if context.access.has_admin and context.access.find_account() is None:
        return UninstallState(consumers=_consumers(context) if purge else ())
    project = context.cached.project(context.settings.project.name)
    projects = {item.id for item in context.cached.projects()}
    names = {context.settings.gc.name, dry_run_name(context.settings.gc.name)}

    def ours(item: Job | Run) -> bool:
        if item.owner not in ("", context.account):
            return False
        if project is not None and item.project_id == project.id:
            return True
        return item.name in names and item.project_id not in projects  # left by an interrupted uninstall

    only = context.cached.secret_names() & keys.only_on_the_platform(context)
    deployments = tuple(d for d in context.cached.deployments() if project and d.project_id == project.id)
    if project is not None and not force:
        other_machines.refuse_unfinished(context, project, deployments)
    return UninstallState(
        project=project,
        deployments=deployments,
        jobs=tuple(job for job in context.cached.jobs() if ours(job)),
        runs=tuple(run for run in context.platform.runs() if ours(run)),
        secrets=tuple(sorted((context.cached.secret_names() & _own_names(context)) - only)),
        upgrade=interrupted_upgrade(context.state),
        keys=tuple(sorted(only)),
        consumers=_consumers(context) if purge else (),
    )


def diff(state: UninstallState, *, purge: bool) -> list[Change]:
    """Pure: the deletions, in their order. Killed between any two, the next call observes the rest and goes on."""
    changes: list[Change] = []
    if state.upgrade is not None:
        why = "it cannot be finished without the project"
        given_up = (state.upgrade.given_up,)
        changes.append(GiveUpUpgrade(name=state.upgrade.release, reason=why, consequences=given_up))
    for job in state.jobs:
        active = any(run.is_active and run.job_id == job.id for run in state.runs)
        text = f"the active run of job {job.name} is stopped" if active else "scheduled jobs no longer run"
        meaning = Consequence(Impact.JOBS, text)
        changes.append(DeleteJob(name=job.name, id=job.id, purpose="", reason=_WHY, consequences=(meaning,)))
    if state.runs:
        changes.append(DeleteRuns(count=len(state.runs), reason=_WHY))
    for item in state.deployments:
        changes.append(StopDeployment(name=item.name, id=item.id, reason=_WHY, consequences=_STOPPED_FOR_GOOD))
    if state.project is not None:
        changes.append(DeleteProject(name=state.project.name, id=state.project.id, reason=_WHY))
    if purge:
        of_consumers = ((consumer.username, consumer.secrets) for consumer in state.consumers)
        changes += [
            DeleteSecrets(name=account, names=names, reason="--purge-secrets was given")
            for account, names in (("", state.secrets), *of_consumers)
            if names
        ]
    return changes


def kept(context: Context, state: UninstallState, *, purge: bool) -> list[Kept]:
    server, uri = context.settings.server, context.settings.server.backend_store_uri
    at_risk = data_at_risk(context)
    things = [
        Kept("the account", context.account),
        Kept(
            "database",
            "that of the sandbox" if isinstance(uri, SecretRef) and uri.kind == "held" else str(uri),
            at_risk=at_risk["database"],
        ),
        Kept("artifacts", server.artifacts_destination, at_risk=at_risk["artifacts"]),
        Kept("snapshots", backup_destination.shown(context), at_risk=at_risk["snapshots"]),
        Kept("history and archives on this machine", str(context.folders.state)),
    ]
    if keys.path(context).exists():
        things.append(Kept("key file", str(keys.path(context))))
    for file in context.settings.token_files:
        if token_file.why_no_token(file) != token_file.ABSENT:
            things.append(Kept("token file", str(file), "delete it: its token is invalid without the server"))
    if state.secrets and not purge:
        names = ", ".join(state.secrets)
        things.append(Kept(counted(len(state.secrets), "secrets"), names, "--purge-secrets deletes them"))
    if state.keys:
        things.append(
            Kept(counted(len(state.keys), "encryption keys"), ", ".join(state.keys), "there is no copy on this machine")
        )
    return things


def _own_names(context: Context) -> set[str]:
    """Secrets of the service account that this tool may have written, from any machine."""
    server = context.settings.server
    return {*MANAGED_SECRETS, *server.variables, *server.secrets, *context.state.secrets.get(context.account, {})}


def _consumers(context: Context) -> tuple[ConsumerSecrets, ...]:
    """The configured ones, then those that have left the configuration but still exist."""
    configured = list(context.settings.consumer_accounts)
    earlier = sorted(context.state.secrets.keys() - {context.account, *configured})
    if context.access.has_admin:
        earlier = [name for name in earlier if context.access.admin().find_user(name) is not None]
    return tuple(_consumer(context, name) for name in configured + earlier)


def _consumer(context: Context, username: str) -> ConsumerSecrets:
    """Only what this machine has stored: the consumer may have a server of its own."""
    if not context.state.secrets.get(username, {}).keys() & _CONSUMER:
        return ConsumerSecrets(username)
    try:
        names = sign_in(context, username).secret_names()
    except DeployError as error:
        return ConsumerSecrets(username, trouble=error.what)
    return ConsumerSecrets(username, tuple(sorted(names & _CONSUMER)))
