"""Stage 8: the server runs as a private deployment on the static endpoint, and is healthy.

Healthy means that a call which reaches the database answers through the public URL. The secrets the server reads
at its start are stored first; a running server does not see new values, so a changed one means a new start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from mlflow_ae5_deploy.errors import Configuration, Conflict, NotFound, PlatformError, StageFailed
from mlflow_ae5_deploy.mlflow_api import PROBE, Health, judge
from mlflow_ae5_deploy.platform.records import Deployment, Project
from mlflow_ae5_deploy.redaction import Secret
from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.deployment_facts import Facts, Wanted, drift, select
from mlflow_ae5_deploy.runbook.health import await_health, failure
from mlflow_ae5_deploy.runbook.model import Action, Decision
from mlflow_ae5_deploy.runbook.secret_facts import SET, observe_secret, setting

START, RESTART, PATCH, STOP, WAIT = "start", "restart", "correct", "stop", "wait for"


class Deploy:
    number: ClassVar[int] = 8
    name: ClassVar[str] = "deploy"
    promise: ClassVar[str] = "the server runs as a private deployment on the static endpoint, and is healthy"

    # observe ----------------------------------------------------------------------------------------------------

    def observe(self, context: Context) -> Facts:
        wanted = _wanted(context)
        project = context.look.project(context.settings.project.name)
        secrets = tuple(observe_secret(context, name, value) for name, value in self._values(context).items())
        chosen = select(context.look.deployments(), project, wanted)
        current = chosen.current
        health: Health | None = None
        if current is not None:
            if wanted.revision == "latest" and current.revision != "latest" and project is not None:
                newest = context.look.revisions(project)[0].name
                current = replace(current, revision="latest") if current.revision == newest else current
            health = self._health(context, current)
        context.found.deployment = current
        return Facts(
            wanted=wanted,
            project=project,
            secrets=secrets,
            stale=tuple(context.memory.stale_server()),
            current=current,
            duplicates=chosen.duplicates,
            rival=chosen.rival,
            health=health,
        )

    def _health(self, context: Context, current: Deployment) -> Health | None:
        """As the signed-in owner, because that needs no token; None while it is not started."""
        if not current.is_started or not current.url:
            return None
        token = context.found.token if context.found.token_deployment == current.id else None
        if token is not None:
            return context.server(current.url, token).health()
        try:
            answer = context.platform.session.browse(f"{current.url.rstrip('/')}/{PROBE}")
        except PlatformError as error:
            return Health("unhealthy", error.what)
        return judge(answer.status, answer.content_type, answer.text.encode(), f"{answer.status} at {answer.url}")

    # plan -------------------------------------------------------------------------------------------------------

    def plan(self, facts: Facts, context: Context) -> Decision:
        if facts.rival is not None:
            raise Conflict(
                f"The endpoint `{facts.wanted.endpoint}` is in use by deployment `{facts.rival.name}` of another "
                f"project ({_project_name(context, facts.rival.project_id)}, owner {facts.rival.owner}).",
                where="deployment.endpoint",
                remedy="Choose another deployment.endpoint, or have that deployment stopped.",
            )
        actions = setting(facts.secrets)
        actions += [
            Action(STOP, f"deployment {d.name} ({d.id})", "a second server on the same data is dangerous")
            for d in facts.duplicates
        ]
        decision = self._plan_server(facts)
        warnings = list(decision.warnings)
        unknown = [fact.name for fact in facts.secrets if fact.state == "unknown"]
        if unknown and facts.current is not None and not any(a.verb in (START, RESTART) for a in decision.actions):
            warnings.append(
                f"The running server was started with earlier values of {', '.join(unknown)}. If those differ from "
                "the configuration, stop the deployment and run this again."
            )
        actions += decision.actions
        if actions:
            return Decision.do(*actions, warnings=warnings)
        return replace(decision, warnings=tuple(warnings))

    def _plan_server(self, facts: Facts) -> Decision:
        current, name = facts.current, facts.wanted.name
        changed = [fact.name for fact in facts.secrets if fact.state == "different"] + list(facts.stale)
        if current is None:
            return Decision.do(Action(START, f"deployment {name}", "the project has no deployment of this name"))
        if not current.is_started and not current.is_starting:
            why = f"it is {current.state}" + (f" ({current.status_text})" if current.status_text else "")
            return Decision.do(Action(RESTART, f"deployment {name}", why))
        found = drift(current, facts.wanted)
        if found.restart or changed:
            reasons = [*found.restart, *found.patch]
            if changed:
                reasons.append(f"the running server does not see the new {', '.join(sorted(set(changed)))}")
            return Decision.do(Action(RESTART, f"deployment {name}", "; ".join(reasons)))
        if found.patch:
            return Decision.do(Action(PATCH, f"deployment {name}", "; ".join(found.patch)))
        if current.is_starting:
            return Decision.do(Action(WAIT, f"deployment {name}", "it is starting"))
        health = facts.health
        if health is not None and health.healthy:
            return Decision.nothing(f"deployment {name} is as wanted and healthy: {health.said}")
        if health is not None and health.verdict == "unauthorised":
            return Decision.nothing(
                f"deployment {name} is as wanted and started",
                f"Its health was not observed: the endpoint did not accept the login session ({health.said}). "
                "`verify` proves it with a token.",
            )
        said = health.said if health else "no answer"
        return Decision.do(Action(WAIT, f"deployment {name}", f"it is started but not healthy: {said}"))

    # apply ------------------------------------------------------------------------------------------------------

    def apply(self, action: Action, facts: Facts, context: Context) -> None:
        if action.verb == SET:
            self._set(facts, context)
        elif action.verb == STOP:
            for duplicate in facts.duplicates:
                if duplicate.id in action.target:
                    self._stop(duplicate, context)
        elif action.verb == WAIT and facts.current is not None:
            self._await(facts.current, context)
        elif action.verb == PATCH and facts.current is not None:
            self._patch(facts.current, facts.wanted, context)
        elif action.verb in (START, RESTART):
            self._check_before_start(facts, context)
            if action.verb == RESTART and facts.current is not None:
                context.memory.forget_token()
                self._stop(facts.current, context)
            self._start(facts, context)

    def _set(self, facts: Facts, context: Context) -> None:
        changed = [fact.name for fact in facts.secrets if fact.state == "different"]
        if changed and facts.current:
            # Noted before the write: a run that is killed in between must still know that a new start is due.
            context.memory.note_stale_server(changed)
        values = self._values(context)
        wrong = {fact.name: values[fact.name] for fact in facts.secrets if not fact.right}
        context.store_secrets(context.platform, context.account, wrong)

    def _check_before_start(self, facts: Facts, context: Context) -> None:
        """Everything that would make the start fail, found out before anything is stopped."""
        wanted = facts.wanted
        profiles = [profile.name for profile in context.look.resource_profiles()]
        if wanted.resource_profile not in profiles:
            raise Configuration(
                f"The platform has no resource profile `{wanted.resource_profile}`.",
                where="deployment.resource_profile",
                remedy=f"It has: {', '.join(profiles) or 'none that this account may use'}.",
            )
        if facts.project is None:
            raise StageFailed("There is no project to deploy.", stage=self.number)
        claim = next((e for e in context.look.static_endpoints() if e.name == wanted.endpoint), None)
        if claim is not None and claim.project_id != facts.project.id:
            raise Conflict(
                f"The endpoint `{wanted.endpoint}` is claimed by another project "
                f"({_project_name(context, claim.project_id)}).",
                where="deployment.endpoint",
                remedy="Choose another deployment.endpoint, or have that project release it "
                "(AE5 keeps the claim until the project is deleted).",
            )

    def _start(self, facts: Facts, context: Context) -> None:
        wanted, project = facts.wanted, facts.project
        if project is None:
            raise StageFailed("There is no project to deploy.", stage=self.number)
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
                stage=self.number,
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
        )
        context.journal.write("effect", action="start", target=f"deployment {wanted.name}", id=deployment.id)
        context.memory.clear_stale_server()
        context.look.forget("deployments", "endpoints")
        self._await(deployment, context)

    def _stop(self, deployment: Deployment, context: Context) -> None:
        context.platform.stop_deployment(deployment.id)
        context.journal.write("effect", action="stop", target=f"deployment {deployment.name}", id=deployment.id)
        context.look.forget("deployments", "endpoints")

    def _patch(self, current: Deployment, wanted: Wanted, context: Context) -> None:
        # Whether a patch keeps tokens is not documented, so the token stages issue a new one afterwards.
        context.memory.forget_token()
        context.platform.patch_deployment(current.id, public=False)
        context.journal.write("effect", action="make private", target=f"deployment {wanted.name}", id=current.id)
        context.look.forget("deployments")
        now = context.platform.deployment(current.id)
        if now is None or now.public:
            raise StageFailed(
                f"Deployment {wanted.name} is still public after it was told to be private.",
                stage=self.number,
                remedy="Stop it on the platform, then run this again.",
            )
        self._await(now, context)

    def _await(self, deployment: Deployment, context: Context) -> None:
        try:
            started = context.platform.wait_started(deployment)
        except PlatformError as error:
            raise failure(context, deployment, error.what) from None
        context.found.deployment = started
        await_health(context, started)

    def verify(self, context: Context) -> str | None:
        deployment = context.found.deployment
        if deployment is None or not deployment.url:
            raise StageFailed("The platform shows no running deployment.", stage=self.number)
        return f"deployment {deployment.name} ({deployment.id}) runs and the MLflow API answers from its database"

    def _values(self, context: Context) -> Mapping[str, Secret]:
        server, values = context.settings.server, context.values
        return {
            "MLFLOW_BACKEND_STORE_URI": values.store_uri(server.backend_store_uri),
            "MLFLOW_ARTIFACTS_DESTINATION": Secret.public(server.artifacts_destination),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": Secret.public(server.default_artifact_root),
            "MLFLOW_TRACKING_GC_TTL": Secret.public(server.gc_ttl),
            **{name: values.secret(ref, f"secret {name}") for name, ref in server.secrets.items()},
        }


def _wanted(context: Context) -> Wanted:
    wanted = context.settings.deployment
    return Wanted(
        account=context.account,
        name=wanted.name,
        endpoint=wanted.endpoint,
        command=wanted.command,
        resource_profile=wanted.resource_profile,
        revision=wanted.revision,
    )


def _project_name(context: Context, project_id: str) -> str:
    project: Project | None = next((p for p in context.look.projects() if p.id == project_id), None)
    return f"{project.owner}/{project.name}" if project else project_id
