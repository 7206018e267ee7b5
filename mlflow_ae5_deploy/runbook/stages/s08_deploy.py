"""Stage 8: the server runs as a private deployment on the static endpoint, and is healthy.

Healthy means that a call which reaches the database answers through the public URL. The secrets the server reads
at its start are stored first; a running server does not see new values, so a changed one means a new start.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.errors import Conflict, PlatformError, StageFailed
from mlflow_ae5_deploy.common.mlflow_api import PROBE, Health, judge
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.resources import served_database, server_secrets
from mlflow_ae5_deploy.resources.current_deployment import desired_deployment, project_name
from mlflow_ae5_deploy.resources.deployment import await_serving, check_before_start, restart_consequences, start, stop
from mlflow_ae5_deploy.resources.deployment_spec import DeploymentSpec, DeploymentState, drift, select
from mlflow_ae5_deploy.resources.secrets import SET, setting

START, RESTART, PATCH, STOP, WAIT = "start", "restart", "correct", "stop", "wait for"
_PRIVATE = ("clients without a token or a sign-in are rejected from then on",)
_AFTER_PATCH = (
    "Whether AE5 keeps a deployment's tokens when it is made private is not documented. If clients are turned away "
    "afterwards, `rotate-token` gives them a new one."
)


class DeployStage:
    number: ClassVar[int] = 8
    name: ClassVar[str] = "deploy"
    promise: ClassVar[str] = "the server runs as a private deployment on the static endpoint, and is healthy"

    # observe ----------------------------------------------------------------------------------------------------

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
        return DeploymentState(
            desired=desired,
            project=project,
            secrets=secrets,
            stale=tuple(context.memory.stale_server()),
            current=current,
            duplicates=chosen.duplicates,
            rival=chosen.rival,
            health=health,
            unsure=tuple(context.memory.unsure_server()),
            other_database=self._other_database(context, current),
        )

    def _other_database(self, context: Context, current: Deployment | None) -> str:
        if current is None or not current.is_started:
            return ""
        seen = served_database.observe(context, current.id)
        return "" if seen is None or seen.same else seen.difference

    def _health(self, context: Context, current: Deployment) -> Health | None:
        """As the signed-in owner, because that needs no token; None while it is not started."""
        if not current.is_started or not current.url:
            return None
        token = context.outputs.token if context.outputs.token_deployment == current.id else None
        if token is not None:
            return context.server(current.url, token).health()
        try:
            answer = context.platform.session.browse(f"{current.url.rstrip('/')}/{PROBE}")
        except PlatformError as error:
            return Health("unhealthy", error.what)
        return judge(answer.status, answer.content_type, answer.text.encode(), f"{answer.status} at {answer.url}")

    # plan -------------------------------------------------------------------------------------------------------

    def plan(self, state: DeploymentState, context: Context) -> Decision:
        if state.rival is not None:
            raise Conflict(
                f"The endpoint `{state.desired.endpoint}` is in use by deployment `{state.rival.name}` of another "
                f"project ({project_name(context, state.rival.project_id)}, owner {state.rival.owner}).",
                where="deployment.endpoint",
                remedy="Choose another deployment.endpoint, or have that deployment stopped.",
            )
        actions = setting(state.secrets)
        actions += [
            Action(
                STOP,
                f"deployment {d.name} ({d.id})",
                "a second server on the same data is dangerous",
                ("clients that use its address lose it, and its tokens are invalidated",),
            )
            for d in state.duplicates
        ]
        decision = self._plan_server(state)
        warnings = [*decision.warnings, *(secret.note for secret in state.secrets if secret.note)]
        unknown = sorted({*state.unsure, *(secret.name for secret in state.secrets if secret.state == "unknown")})
        if unknown and state.current is not None and not any(a.verb in (START, RESTART) for a in decision.actions):
            warnings.append(
                f"Whether the running server was started with the configured values of {', '.join(unknown)} is not "
                "known: this machine does not remember what was stored before. If in doubt, run `install`, then "
                "`rotate-token --restart`: it starts the server with what is stored."
            )
        actions += decision.actions
        if state.other_database and not any(action.verb in (START, RESTART) for action in decision.actions):
            raise self._wrong_database(state.current, state.other_database)
        self._foresee(decision, state, context)
        if actions:
            return Decision.do(*actions, warnings=warnings)
        return replace(decision, warnings=tuple(warnings))

    def _foresee(self, decision: Decision, state: DeploymentState, context: Context) -> None:
        """Refuse now what could not be started later; in a forecast, tell the later stages what will be new."""
        if context.access.missing or not any(action.verb in (START, RESTART) for action in decision.actions):
            return
        going = state.project is None or context.cached.is_going(state.project)
        check_before_start(context, state.desired, None if going else state.project)
        if context.options.dry:
            current = state.current
            same = current is not None and current.url and current.endpoint == state.desired.endpoint
            context.outputs.url = current.url if current is not None and same else None
            context.outputs.deployment = None

    def _plan_server(self, state: DeploymentState) -> Decision:
        current, name = state.current, state.desired.name
        changed = [secret.name for secret in state.secrets if secret.is_news_to_the_server] + list(state.stale)
        if state.other_database:  # whatever was stored before, it is not what will be
            changed += [f.name for f in state.secrets if f.name == server_secrets.DATABASE and not f.right]
        if current is None:
            return Decision.do(Action(START, f"deployment {name}", "the project has no deployment of this name"))
        if not current.is_started and not current.is_starting:
            why = f"it is {current.state}" + (f" ({current.status_text})" if current.status_text else "")
            return Decision.do(Action(RESTART, f"deployment {name}", why, restart_consequences(current)))
        found = drift(current, state.desired)
        if found.restart or changed:
            reasons = [*found.restart, *found.patch]
            if changed:
                reasons.append(f"the running server does not see the new {', '.join(sorted(set(changed)))}")
            return Decision.do(Action(RESTART, f"deployment {name}", "; ".join(reasons), restart_consequences(current)))
        if found.patch:
            action = Action(PATCH, f"deployment {name}", "; ".join(found.patch), _PRIVATE)
            return Decision.do(action, warnings=[_AFTER_PATCH])
        if current.is_starting:
            return Decision.do(Action(WAIT, f"deployment {name}", "it is starting"))
        health = state.health
        if health is not None and health.healthy:
            return Decision.nothing(f"deployment {name} is as wanted and healthy: {health.message}")
        if health is not None and health.status == "unauthorised":
            return Decision.nothing(
                f"deployment {name} is as wanted and started",
                f"Its health was not observed: the endpoint did not accept the login session ({health.message}). "
                "`verify` proves it with a token.",
            )
        message = health.message if health else "no answer"
        return Decision.do(Action(WAIT, f"deployment {name}", f"it is started but not healthy: {message}"))

    # apply ------------------------------------------------------------------------------------------------------

    def apply(self, action: Action, state: DeploymentState, context: Context) -> None:
        if action.verb == SET:
            server_secrets.store(context, state.secrets, server_runs=state.current is not None)
        elif action.verb == STOP:
            for duplicate in state.duplicates:
                if duplicate.id in action.target:
                    stop(context, duplicate, another_serves=state.current is not None)
        elif action.verb == WAIT and state.current is not None:
            await_serving(context, state.current)
        elif action.verb == PATCH and state.current is not None:
            self._patch(state.current, state.desired, context)
        elif action.verb in (START, RESTART):
            check_before_start(context, state.desired, state.project)
            if action.verb == RESTART and state.current is not None:
                context.memory.forget_token()
                stop(context, state.current)
            await_serving(context, start(context, state.desired, state.project))

    def _patch(self, current: Deployment, desired: DeploymentSpec, context: Context) -> None:
        context.platform.patch_deployment(current.id, public=False)
        context.journal.write("effect", action="make private", target=f"deployment {desired.name}", id=current.id)
        context.cached.forget("deployments")
        now = context.platform.deployment(current.id)
        if now is None or now.public:
            raise StageFailed(
                f"Deployment {desired.name} is still public after it was told to be private.",
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
        if other := self._other_database(context, deployment):
            raise self._wrong_database(deployment, other)
        return f"deployment {deployment.name} ({deployment.id}) runs and the MLflow API answers from its database"

    def _wrong_database(self, deployment: Deployment | None, difference: str) -> StageFailed:
        return StageFailed(
            "The server works on another database than the configured one.",
            stage=self.number,
            where=f"deployment {deployment.name} ({deployment.id})" if deployment is not None else "",
            remedy="`rotate-token --restart` starts it with the stored secrets. If that does not help, the release "
            "does not read them: see in its documentation where it takes its database from.",
            detail=difference,
        )
