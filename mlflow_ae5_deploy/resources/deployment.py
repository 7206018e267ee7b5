"""Start, stop and restart the server. Errors name stage 8.

AE5 cannot restart a deployment: a new one is started in its place. `restart` starts it as configured (stage 8 of
`install`); operations/restart_as_it_was.py as it was (`rotate-token --restart`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project, Revision, StaticEndpoint
from mlflow_ae5_deploy.ae5.resource_api import VISIBLE
from mlflow_ae5_deploy.common.errors import (
    Conflict,
    NotFound,
    PlatformError,
    StageFailed,
)
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.jobs.spec import check_command, check_profile
from mlflow_ae5_deploy.resources import interrupted
from mlflow_ae5_deploy.resources.current_deployment import Drift, drift, no_deployment, project_name
from mlflow_ae5_deploy.resources.health import await_health, failure

STAGE = 8
STOPPING = "The server is stopped, or about to stop."
STOPPED = "No server runs."
STARTING = "No server runs yet: one is starting."
DOWN = Consequence(Impact.DOWNTIME, "the server is down until it has started again")
TOKENS = Consequence(
    Impact.TOKENS,
    "all tokens are invalidated: the account and its consumers get the new one, other clients need one from "
    "`env --show-token`",
)


class StartDeployment(Change):
    verb, resource, of_project = "start", "deployment", True


class RestartDeployment(Change):
    """Stop the deployment and start another one. id: of the one that is stopped."""

    verb, resource = "restart", "deployment"


class RollBackDeployment(Change):
    """Stop what did not come up and start the previous definition once more."""

    verb, resource = "roll back", "deployment"


class StopDeployment(Change):
    verb, resource = "stop", "deployment"


class MakePrivate(Change):
    verb, resource = "make private", "deployment"

    @property
    def phrase(self) -> str:
        return f"make {self.target} private"


class AwaitDeployment(Change):
    verb, resource, waits = "wait for", "deployment", True


def restart_consequences(current: Deployment) -> tuple[Consequence, ...]:
    """Consequences of stopping this deployment and starting another in its place."""
    return (DOWN, TOKENS) if current.is_started or current.is_starting else (TOKENS,)


def new_address(current: Deployment, endpoint: str) -> tuple[Consequence, ...]:
    """The consequence of starting the other one on this endpoint; none where it stays."""
    if current.endpoint == endpoint or not current.url:
        return ()
    text = f"the server's address changes: clients and bookmarks of {current.url} stop working"
    return (Consequence(Impact.ACCESS, text),)


def check_before_start(context: Context, desired: DeploymentSpec, project: Project | None) -> None:
    """Raise what would make the start fail, before anything is stopped.

    project: None in a plan, while it does not exist yet or is to be replaced.
    """
    check_profile(context, desired.resource_profile, "deployment.resource_profile")
    claim_on(context, desired.endpoint)
    if project is not None:
        revision_for(project, context.cached.revisions(project), desired.revision, desired.command)


def claim_on(context: Context, endpoint: str) -> StaticEndpoint | None:
    """The claim of our project, if there is one. Raises Conflict for that of another project."""
    claim = next((item for item in context.cached.static_endpoints() if item.name == endpoint), None)
    ours = context.cached.project(context.settings.project.name)
    if claim is not None and (ours is None or claim.project_id != ours.id):
        raise Conflict(
            f"The endpoint `{endpoint}` is claimed by another project ({project_name(context, claim.project_id)}).",
            where="deployment.endpoint",
            remedy="Choose another deployment.endpoint, or have that project release it "
            "(AE5 keeps the claim until the project is deleted).",
        )
    return claim


def refuse_rival(context: Context, endpoint: str, rival: Deployment | None) -> None:
    """Raise Conflict where a deployment of another project is on the endpoint."""
    if rival is not None:
        raise Conflict(
            f"The endpoint `{endpoint}` is in use by deployment `{rival.name}` of another project "
            f"({project_name(context, rival.project_id)}, owner {rival.owner}).",
            where="deployment.endpoint",
            remedy="Choose another deployment.endpoint, or have that deployment stopped.",
        )


def revision_for(project: Project, revisions: Sequence[Revision], name: str, command: str) -> Revision:
    """The revision of that name (or `latest`), which must have the command."""
    by_name = {revision.name: revision for revision in revisions}
    revision = revisions[0] if name == "latest" else by_name.get(name)
    if revision is None:
        raise NotFound(
            f"Project {project.name} has no revision `{name}`.",
            where="deployment.revision",
            remedy=f"It has: {', '.join(by_name)}. Set deployment.revision to `latest` or to one of them.",
        )
    check_command(revision, command, where="deployment.command, gc.command")
    return revision


def start(
    context: Context, desired: DeploymentSpec, project: Project | None, variables: Mapping[str, str] | None = None
) -> Deployment:
    """Request a private deployment. It is starting then; see `await_serving`.

    One with this name and definition that exists already is taken for it: an interrupted run has just started it.
    """
    if project is None:
        raise StageFailed("There is no project to deploy.", stage=STAGE)
    revision = revision_for(project, context.cached.revisions(project), desired.revision, desired.command)
    context.outputs.no_server = STARTING
    try:
        deployment = context.platform.start_deployment(
            project=project,
            revision=revision,
            revision_name=desired.revision,
            command=desired.command,
            name=desired.name,
            endpoint=desired.endpoint,
            resource_profile=desired.resource_profile,
            variables=variables,
        )
    except Conflict:
        listed = _shows_up(context, desired, project)
        if listed is None:
            raise
        deployment = listed
    context.journal.effect("start", "deployment", desired.name, id=deployment.id)
    context.state.stale_secrets = context.state.uncertain_secrets = ()
    context.state.save()
    context.cached.forget("deployments", "endpoints")
    return deployment


def stop(context: Context, deployment: Deployment, *, another_serves: bool = False) -> None:
    """Stop it; its tokens are recorded as invalid before the request.

    another_serves: it is a duplicate of the server that goes on running, whose tokens stay valid.
    """
    if not another_serves:
        context.state.invalidate_tokens()
        context.outputs.no_server = STOPPING
        if deployment.is_started:
            context.outputs.down_since = context.clock.monotonic()
    context.platform.stop_deployment(deployment.id)
    if not another_serves:
        context.outputs.no_server = STOPPED
        context.progress.server_down(down=True)
    context.journal.effect("stop", "deployment", deployment.name, id=deployment.id)
    context.cached.forget("deployments", "endpoints")


def restart(context: Context, current: Deployment, desired: DeploymentSpec, project: Project | None) -> Deployment:
    """Stop `current`, start `desired` in its place, and wait until it serves."""
    stop(context, current)
    return await_serving(context, start(context, desired, project))


def await_serving(context: Context, deployment: Deployment) -> Deployment:
    """Wait until it has started and is healthy; the error has the end of its log."""
    try:
        started = context.platform.wait_started(deployment)
    except PlatformError as error:
        raise failure(context, deployment, error.what) from None
    context.outputs.deployment = started
    await_health(context, started)
    context.outputs.no_server = ""
    if context.outputs.down_since is not None:
        context.outputs.downtime = context.clock.monotonic() - context.outputs.down_since
        context.outputs.down_since = None
    context.progress.server_down(down=False)
    _note_running(context)

    def listed() -> bool | None:
        context.cached.forget("deployments")
        return True if any(item.id == started.id for item in context.cached.deployments()) else None

    context.poll(listed, f"deployment {started.name} to be listed", VISIBLE)  # later steps read the list
    return started


def _note_running(context: Context) -> None:
    """A running server ends a started restore.

    An interrupted upgrade that has not touched the schema must stop the server again: its snapshot is no longer the
    last state of the data.
    """
    interrupted.end_started_restore(context.state)
    upgrade = context.state.upgrade
    if upgrade is not None and not upgrade.schema_touched and not upgrade.failure and upgrade.phase != "starting":
        context.state.upgrade = replace(upgrade, phase="stopping", snapshot=None)
        context.state.save()


def _shows_up(context: Context, desired: DeploymentSpec, project: Project) -> Deployment | None:
    """Wait for this deployment to be listed. None if its definition differs."""

    def probe() -> list[Deployment] | None:
        return [item for item in context.platform.deployments() if item.name == desired.name] or None

    listed = context.shows_up(probe, f"deployment {desired.name} to be listed")
    ours = (item for item in listed or () if item.project_id == project.id and (item.is_started or item.is_starting))
    return next((item for item in ours if drift(item, desired) == Drift((), ())), None)


def required_running(context: Context) -> tuple[str, str]:
    """(id, URL) of the running deployment; raises NotFound when there is none.

    One that is starting is awaited, except in a read-only run: probing it takes a token.
    """
    name, project = context.settings.deployment.name, context.cached.project(context.settings.project.name)
    deployment = next(
        (d for d in context.cached.deployments() if project and d.project_id == project.id and d.name == name), None
    )
    if deployment is not None and deployment.is_starting and not context.options.dry:
        deployment = await_serving(context, deployment)
    if deployment is None:
        raise no_deployment(context)
    if not deployment.url or not deployment.is_started:
        raise NotFound(
            f"Deployment `{name}` of `{context.account}` is {deployment.state}; it must be started.",
            where=context.access.target.options.hostname,
            remedy="Wait until it has started; `mlflow-ae5-deploy status` shows it."
            if deployment.is_starting
            else "Run `mlflow-ae5-deploy install` first.",
        )
    return deployment.id, deployment.url.rstrip("/")
