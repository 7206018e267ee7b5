"""Starting and stopping the server's deployment. Failures are those of stage 8, whoever asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_ae5_deploy.errors import Configuration, Conflict, NotFound, PlatformError, StageFailed
from mlflow_ae5_deploy.platform.records import Deployment, Project
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.current import project_name
from mlflow_ae5_deploy.runbook.deployment_facts import Wanted
from mlflow_ae5_deploy.runbook.health import await_health, failure

STAGE = 8


def check_before_start(context: Context, wanted: Wanted, project: Project | None) -> None:
    """Everything that would make the start fail, found out before anything is stopped."""
    profiles = [profile.name for profile in context.look.resource_profiles()]
    if wanted.resource_profile not in profiles:
        raise Configuration(
            f"The platform has no resource profile `{wanted.resource_profile}`.",
            where="deployment.resource_profile",
            remedy=f"It has: {', '.join(profiles) or 'none that this account may use'}.",
        )
    if project is None:
        raise StageFailed("There is no project to deploy.", stage=STAGE)
    claim = next((e for e in context.look.static_endpoints() if e.name == wanted.endpoint), None)
    if claim is not None and claim.project_id != project.id:
        raise Conflict(
            f"The endpoint `{wanted.endpoint}` is claimed by another project "
            f"({project_name(context, claim.project_id)}).",
            where="deployment.endpoint",
            remedy="Choose another deployment.endpoint, or have that project release it "
            "(AE5 keeps the claim until the project is deleted).",
        )


def start(
    context: Context, wanted: Wanted, project: Project | None, variables: Mapping[str, str] | None = None
) -> Deployment:
    """Ask for a private deployment. It is starting then; see `await_serving`."""
    if project is None:
        raise StageFailed("There is no project to deploy.", stage=STAGE)
    revisions = context.look.revisions(project)
    by_name = {revision.name: revision for revision in revisions}
    revision = revisions[0] if wanted.revision == "latest" else by_name.get(wanted.revision)
    if revision is None:
        raise NotFound(
            f"Project {project.name} has no revision `{wanted.revision}`.",
            where="deployment.revision",
            remedy=f"It has: {', '.join(by_name)}.",
        )
    if wanted.command not in {command.id for command in revision.commands}:
        raise StageFailed(
            f"Revision {revision.name} has no command `{wanted.command}`.",
            stage=STAGE,
            where="deployment.command",
            remedy=f"It has: {', '.join(command.id for command in revision.commands)}.",
        )
    deployment = context.platform.start_deployment(
        project=project,
        revision=revision,
        revision_name=wanted.revision,
        command=wanted.command,
        name=wanted.name,
        endpoint=wanted.endpoint,
        resource_profile=wanted.resource_profile,
        public=False,
        variables=variables,
    )
    context.journal.write("effect", action="start", target=f"deployment {wanted.name}", id=deployment.id)
    context.memory.clear_stale_server()
    context.look.forget("deployments", "endpoints")
    return deployment


def stop(context: Context, deployment: Deployment) -> None:
    context.platform.stop_deployment(deployment.id)
    context.journal.write("effect", action="stop", target=f"deployment {deployment.name}", id=deployment.id)
    context.look.forget("deployments", "endpoints")


def await_serving(context: Context, deployment: Deployment) -> Deployment:
    """Wait until it has started and its API answers from the database; its log is in the error if it does not."""
    try:
        started = context.platform.wait_started(deployment)
    except PlatformError as error:
        raise failure(context, deployment, error.what) from None
    context.found.deployment = started
    await_health(context, started)
    return started
