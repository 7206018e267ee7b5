"""Restart the server as it was, for `rotate-token --restart`, whatever the configuration says by now.

The definition comes from the running deployment: name, endpoint, command, resource profile, revision, variables and
sharing. It is recorded on disk before the stop, so the next run can resume an interrupted one; an upgrade uses it to
start the server again. `install` restarts the server as configured, with `restart` of resources/deployment.py; both
stop and start it with the functions there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Collaborator, Deployment, Revision
from mlflow_ae5_deploy.common.errors import Conflict, DeployError, StageFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying
from mlflow_ae5_deploy.engine.records import DeploymentDefinition, DeploymentSpec, PendingRestart
from mlflow_ae5_deploy.jobs import other_machines
from mlflow_ae5_deploy.resources.current_deployment import match_deployment
from mlflow_ae5_deploy.resources.deployment import (
    STAGE,
    STOPPED,
    RestartDeployment,
    RollBackDeployment,
    await_serving,
    check_before_start,
    restart_consequences,
    start,
    stop,
)

_INTERRUPTED = "A restart was interrupted after the stop, and the"


@dataclass(frozen=True)
class RestartResult:
    deployment: Deployment
    since: datetime  # when the previous token became invalid
    failed: DeployError | None = None  # why the first start failed, when `deployment` is the result of a rollback
    notes: tuple[str, ...] = field(default=())


def define(
    current: Deployment, shared: Sequence[Collaborator], revisions: Sequence[Revision], endpoint: str
) -> DeploymentDefinition:
    """Pure. endpoint: the configured one, for a deployment that has none."""
    return DeploymentDefinition(
        DeploymentSpec(
            name=current.name,
            endpoint=current.endpoint or endpoint,
            command=current.command,
            resource_profile=current.resource_profile,
            revision=kept_revision(current, revisions),
        ),
        variables=dict(current.variables),
        shared=tuple((c.type, c.id, c.permission) for c in shared),
    )


def kept_revision(current: Deployment, revisions: Sequence[Revision]) -> str:
    """The revision to start again, with `latest` pinned to that of the start.

    revisions: newest first.
    """
    if current.revision != "latest" or current.created is None:
        return current.revision
    made = current.created
    older = [r for r in revisions if r.created is not None and r.created <= made]
    newest = revisions[0] if revisions else None
    if not older or newest is None or newest.created is None or newest.created <= made:
        return current.revision
    return older[0].name


def restart_as_it_was(context: Context, current: Deployment, before_stop: Callable[[], None]) -> RestartResult:
    """Stop and start again as it was. StageFailed when the rollback fails, too.

    before_stop: called when nothing else can keep it from being stopped.
    """
    project = context.cached.project(context.settings.project.name)
    revisions = context.cached.revisions(project) if project else []
    endpoint = context.settings.deployment.endpoint
    definition = define(current, context.cached.collaborators(current.id), revisions, endpoint)
    check_before_start(context, definition.spec, project)
    if project is not None:
        other_machines.refuse_meanwhile(context, project)
    notes = []
    if current.public:
        notes.append(
            "The previous deployment was public; the new one is private, because anyone could delete experiments."
        )
    if definition.spec.revision != current.revision:
        notes.append(f"The revision stays {definition.spec.revision}, although a newer one exists.")
    with applying(restarting(current, "requested"), context.journal):
        pending = PendingRestart(current.id, context.clock.now(), definition)
        before_stop()
        context.state.restart = pending  # saved by stop, before its request
        stop(context, current)
        return _bring_up(context, pending, None, tuple(notes))


def restarting(current: Deployment, reason: str) -> RestartDeployment:
    meaning = restart_consequences(current)
    return RestartDeployment(name=current.name, id=current.id, reason=reason, consequences=meaning)


def resume(context: Context, pending: PendingRestart, current: Deployment | None) -> RestartResult:
    """Resume a restart that was interrupted after the stop. current: started since.

    A failed one is replaced.
    """
    if current is not None:
        variables = {
            name: current.variables.get(name) if v is None else v for name, v in pending.definition.variables.items()
        }
        pending = replace(pending, definition=replace(pending.definition, variables=variables))
        if not current.is_started and not current.is_starting:
            refuse_lost_variables(pending.definition, _INTERRUPTED)
            stop(context, current)
            current = None
    if current is None:
        context.outputs.no_server = STOPPED
        refuse_lost_variables(pending.definition, _INTERRUPTED)
    return _bring_up(context, pending, current, ())


def refuse_lost_variables(definition: DeploymentDefinition, beginning: str = "The") -> None:
    """Raise Conflict if the deployment cannot be started as it was. beginning: of the sentence."""
    if lost := definition.lost_variables:
        raise Conflict(
            f"{beginning} previous values of {', '.join(lost)} were not saved, because they look like credentials.",
            where=f"deployment {definition.spec.name}",
            remedy="Set them as secrets (server.secrets), then run `install`, which starts the server.",
        )


def _bring_up(
    context: Context, pending: PendingRestart, current: Deployment | None, notes: tuple[str, ...]
) -> RestartResult:
    project = context.cached.project(context.settings.project.name)
    definition, failed = pending.definition, None
    try:
        started = current or start(context, definition.spec, project, definition.saved_variables)
        deployment = await_serving(context, started)
    except DeployError as error:
        failed = error
    if failed is not None:
        deployment = _roll_back(context, definition, failed)
    share_again(context, deployment, definition)
    return RestartResult(deployment, pending.since, failed, notes)


def _roll_back(context: Context, definition: DeploymentDefinition, failed: DeployError) -> Deployment:
    """Stop the failed deployment, and start the previous definition again."""
    context.journal.write("failed", kind=failed.kind, what=failed.what)
    project = context.cached.project(context.settings.project.name)
    try:
        with applying(RollBackDeployment(name=definition.spec.name, reason=failed.what), context.journal):
            context.cached.forget("deployments", "endpoints")
            left = match_deployment(context).current
            if left is not None:
                stop(context, left)
            return await_serving(context, start(context, definition.spec, project, definition.saved_variables))
    except DeployError as error:
        again = error
    raise StageFailed(
        f"The server did not start after the restart: {failed.what} The rollback failed, too: {again.what}",
        stage=STAGE,
        where=again.where or failed.where,
        remedy="The server is down. Fix the cause, then run this again to start it as it was, or `install` to start it "
        "as configured.",
        detail="\n".join(
            f"{title}:\n{error.detail}"
            for title, error in (("First start", failed), ("Rolled back", again))
            if error.detail
        ),
    )


def share_again(context: Context, deployment: Deployment, definition: DeploymentDefinition) -> None:
    desired = {
        Collaborator(id=name, type="group" if kind == "group" else "user", permission=permission)
        for kind, name, permission in definition.shared
    }
    present = context.platform.collaborators(deployment.id)
    if missing := desired - set(present):
        context.platform.set_collaborators(deployment.id, [*present, *sorted(missing)])
        names = sorted(f"{item.type} {item.id}" for item in missing)
        context.journal.effect("share", "deployment", id=deployment.id, added=names)
        context.cached.forget("collaborators")
