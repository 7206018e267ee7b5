"""Stage 8: the server runs privately on the static endpoint, and is healthy.

Healthy: a call that reaches the database succeeds through the public URL. The secrets that the server reads at its
start are stored first; a running server does not see new values, so a changed one needs a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.common.variable_names import DATABASE
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.resources import receivers, served_database, server_secrets
from mlflow_ae5_deploy.resources.current_deployment import desired_deployment, drift, select
from mlflow_ae5_deploy.resources.deployment import (
    AwaitDeployment,
    MakePrivate,
    RestartDeployment,
    StartDeployment,
    StopDeployment,
    await_serving,
    check_before_start,
    new_address,
    refuse_rival,
    restart,
    restart_consequences,
    start,
    stop,
)
from mlflow_ae5_deploy.resources.health import health_once
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets, setting
from mlflow_ae5_deploy.resources.served_database import Observation

_PRIVATE = (Consequence(Impact.ACCESS, "clients without a token or a sign-in will be rejected"),)
_DUPLICATE = (
    Consequence(Impact.ACCESS, "clients of the duplicate's URL lose their connection"),
    Consequence(Impact.TOKENS, "tokens of the duplicate are invalidated"),
)
_AFTER_PATCH = (
    "AE5 does not document whether tokens stay valid when a deployment becomes private. If clients are rejected, run "
    "`rotate-token`."
)


@dataclass(frozen=True)
class DeploymentState:
    desired: DeploymentSpec
    project: Project | None
    secrets: tuple[SecretState, ...]
    stale: tuple[str, ...]  # names of secrets whose new value the running server has not seen
    current: Deployment | None
    duplicates: tuple[Deployment, ...]
    rival: Deployment | None
    health: Health | None  # None if not started
    uncertain: tuple[str, ...] = ()  # names of secrets stored over unknown values since the server started
    other_database: str = ""  # how the server's database differs from the configured one, where that is seen
    lost_keys: tuple[str, ...] = ()  # sentences of its log


class DeployStage(Stage[DeploymentState]):
    number = 8
    name = "deploy"

    def preflight(self, context: Context) -> None:
        receivers.check(context)

    def observe(self, context: Context) -> DeploymentState:
        desired = desired_deployment(context)
        project = context.cached.project(context.settings.project.name)
        secrets = server_secrets.observe(context)
        chosen = select(context.cached.deployments(), project, desired)
        current = chosen.current
        health: Health | None = None
        if current is not None:
            if desired.revision == "latest" and current.revision != "latest" and project is not None:
                newest = context.cached.revisions(project)[0].name
                current = replace(current, revision="latest") if current.revision == newest else current
            health = self._health(context, current)
            if health is not None and health.healthy:
                context.outputs.no_server = ""
        context.outputs.deployment = current
        served = self._served(context, current)
        return DeploymentState(
            desired=desired,
            project=project,
            secrets=secrets,
            stale=context.state.stale_secrets,
            current=current,
            duplicates=chosen.duplicates,
            rival=chosen.rival,
            health=health,
            uncertain=context.state.uncertain_secrets,
            other_database=_difference(served),
            lost_keys=served.lost_keys if served is not None else (),
        )

    def _served(self, context: Context, current: Deployment | None) -> Observation | None:
        return served_database.observe(context, current.id) if current is not None and current.is_started else None

    def _health(self, context: Context, current: Deployment) -> Health | None:
        """Probe as the owner, which needs no token; None while it is not started."""
        if not current.is_started or not current.url:
            return None
        token = context.outputs.token if context.outputs.token_deployment == current.id else None
        if token is not None:
            return context.server(current.url, token).health()
        return health_once(context, current.url)

    def check(self, state: DeploymentState, context: Context) -> None:
        """Find out now what could not be started later."""
        refuse_rival(context, state.desired.endpoint, state.rival)
        starts = _starts(self.diff(state).changes)
        if state.other_database and not starts:
            raise self._wrong_database(state.current, state.other_database)
        if starts and not context.access.account_missing:
            hidden = state.project is None or context.cached.is_hidden(state.project)
            check_before_start(context, state.desired, None if hidden else state.project)

    def diff(self, state: DeploymentState) -> Diff:
        stops = [
            StopDeployment(
                name=item.name,
                id=item.id,
                reason="a second server on the same data",
                consequences=_DUPLICATE,
            )
            for item in state.duplicates
        ]
        server = self._diff_server(state)
        warnings = [*server.warnings, *(secret.note for secret in state.secrets if secret.note)]
        unknown = sorted({*state.uncertain, *(secret.name for secret in state.secrets if secret.state == "unknown")})
        if unknown and state.current is not None and not _starts(server.changes):
            warnings.append(
                f"The running server may use other values of {', '.join(unknown)}: this machine "
                "has no record of the values before. If in doubt, run `install`, then `rotate-token --restart`."
            )
        if not _starts(server.changes):
            warnings += state.lost_keys
        changes = (*setting(state.secrets), *stops, *server.changes)
        if changes:
            return Changes(changes, tuple(warnings))
        return replace(server, warnings=tuple(warnings))

    def _diff_server(self, state: DeploymentState) -> Diff:
        current, name = state.current, state.desired.name
        if current is None:
            return Changes((StartDeployment(name=name, reason="not running"),))
        if (restarting := _restart(current, state)) is not None:
            return Changes((restarting,))
        if current.public:
            why = "; ".join(drift(current, state.desired).patch)
            return Changes((MakePrivate(name=name, id=current.id, reason=why, consequences=_PRIVATE),), (_AFTER_PATCH,))
        if current.is_starting:
            return Changes((AwaitDeployment(name=name, id=current.id, reason="it is starting"),))
        health = state.health
        if health is not None and health.healthy:
            return NoChange(f"deployment {name} is as configured and healthy: {health.message}")
        if health is not None and health.status == "unauthorised":
            unseen = (
                f"Health unknown: the endpoint did not accept the login session ({health.message}). "
                "Run `verify` to test it with a token."
            )
            return NoChange(f"deployment {name} is as configured and started", (unseen,))
        why = f"started but not healthy ({health.message if health else 'no answer'})"
        return Changes((AwaitDeployment(name=name, id=current.id, reason=why),))

    def assume(self, changes: Sequence[Change], state: DeploymentState, context: Context) -> None:
        """A started deployment gets a new id; the URL stays with the endpoint."""
        if _starts(changes):
            current = state.current
            same = current is not None and current.url and current.endpoint == state.desired.endpoint
            context.outputs.url = current.url if current is not None and same else None
            context.outputs.deployment = None
            context.outputs.restart_planned = current is not None

    def apply(self, change: Change, state: DeploymentState, context: Context) -> None:
        current = state.current
        match change:
            case SetSecrets():
                server_secrets.store(context, state.secrets, server_runs=current is not None)
            case StopDeployment():
                duplicate = next(item for item in state.duplicates if item.id == change.id)
                stop(context, duplicate, another_serves=current is not None)
            case AwaitDeployment() if current is not None:
                await_serving(context, current)
            case MakePrivate() if current is not None:
                self._make_private(current, state.desired, context)
            case RestartDeployment() if current is not None:
                check_before_start(context, state.desired, state.project)
                restart(context, current, state.desired, state.project)
            case StartDeployment():
                check_before_start(context, state.desired, state.project)
                await_serving(context, start(context, state.desired, state.project))
            case _:
                raise AssertionError(change)

    def _make_private(self, current: Deployment, desired: DeploymentSpec, context: Context) -> None:
        context.platform.patch_deployment(current.id, public=False)
        context.journal.effect("make private", "deployment", desired.name, id=current.id)
        context.cached.forget("deployments")
        now = context.platform.deployment(current.id)
        if now is None or now.public:
            raise StageFailed(
                f"Deployment {desired.name} is still public after the request to make it private.",
                stage=self.number,
                remedy="Stop it on the platform, then run this again.",
            )
        context.outputs.deployment = now
        health = self._health(context, now)
        if health is None or health.status == "unhealthy":
            await_serving(context, now)

    def verify(self, context: Context) -> str | None:
        deployment = context.outputs.deployment
        if deployment is None or not deployment.url:
            raise StageFailed("The platform shows no running deployment.", stage=self.number)
        served = self._served(context, deployment)
        if other := _difference(served):
            raise self._wrong_database(deployment, other)
        context.warn(served.lost_keys if served is not None else ())
        return "MLflow API healthy (database reachable)"

    def _wrong_database(self, deployment: Deployment | None, difference: str) -> StageFailed:
        return StageFailed(
            "The server uses another database than the configured one.",
            stage=self.number,
            where=f"deployment {deployment.name} ({deployment.id})" if deployment is not None else "",
            remedy="Run `rotate-token --restart` to start it with the stored secrets. If that does not help, the "
            "release does not read them: see its documentation for how it chooses its database.",
            detail=difference,
        )


def _difference(served: Observation | None) -> str:
    return "" if served is None or served.same else served.difference


def _starts(changes: Sequence[Change]) -> bool:
    return any(isinstance(change, StartDeployment | RestartDeployment) for change in changes)


def _restart(current: Deployment, state: DeploymentState) -> RestartDeployment | None:
    """None where no restart is needed."""

    def change(reason: str, differences: Sequence[str] = ()) -> RestartDeployment:
        return RestartDeployment(
            name=state.desired.name,
            id=current.id,
            reason=reason,
            differences=tuple(differences),
            consequences=(*restart_consequences(current), *new_address(current, state.desired.endpoint)),
        )

    if not current.is_started and not current.is_starting:
        return change(f"it is {current.state}" + (f" ({current.status_text})" if current.status_text else ""))
    unseen = {*state.stale, *(secret.name for secret in state.secrets if secret.is_news_to_the_server)}
    if state.other_database:  # whatever was stored before, it is not what will be
        unseen |= {item.name for item in state.secrets if item.name == DATABASE and not item.right}
    found = drift(current, state.desired)
    if not found.restart and not unseen:
        return None
    set_now = {secret.name for secret in state.secrets if not secret.right}  # by a change that shows them
    secrets = [f"{name}: the running server has the previous value" for name in sorted(unseen - set_now)]
    if not found.restart:
        return change("the server reads secrets only at its start", [*found.patch, *secrets])
    return change("", [*found.restart, *found.patch, *secrets])
