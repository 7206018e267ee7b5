"""Deployments, their tokens, collaborators and endpoints."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow_ae5_deploy.ae5.models import Collaborator, Deployment, DeploymentLogs, Project, Revision, StaticEndpoint
from mlflow_ae5_deploy.ae5.parsing import (
    as_list,
    as_record,
    parse_collaborator,
    parse_deployment,
    parse_logs,
    parse_static_endpoint,
)
from mlflow_ae5_deploy.ae5.resource_api import ResourceApi, part, workload
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import Configuration, Conflict, DeployError, NotFound, Refused, UnexpectedAnswer
from mlflow_ae5_deploy.common.redaction import Secret, scrub
from mlflow_ae5_deploy.config.checks import DNS_LABEL


@dataclass(frozen=True)
class _StartRequest:
    project: Project
    name: str
    endpoint: str | None
    body: dict[str, Any]


class DeploymentsApi(ResourceApi):
    def deployments(self) -> list[Deployment]:
        """Every deployment visible to the account."""
        return [self._parsed(record) for record in as_list(self._session.call("GET", "deployments"), "deployments")]

    def deployment(self, deployment_id: str) -> Deployment | None:
        try:
            answer = self._session.call("GET", f"deployments/{part(deployment_id)}")
        except NotFound:
            return None
        return self._parsed(as_record(answer, "a deployment"))

    def start_deployment(
        self,
        *,
        project: Project,
        revision: Revision,
        revision_name: str,
        command: str,
        name: str,
        endpoint: str | None,
        resource_profile: str,
        variables: Mapping[str, str] | None = None,
    ) -> Deployment:
        """Request a deployment and return its first record: it is starting, not started.

        revision_name: `latest`, or the revision's name. An endpoint that the same project still holds is waited for
        (`waits.endpoint_free`); one claimed by another project is a Conflict naming that project. variables: its own
        environment. ae5-tools never sends that field; AE5's published schema has it.
        """
        if endpoint is not None and not DNS_LABEL.match(endpoint):
            raise Configuration(
                f"{endpoint!r} cannot be an endpoint.",
                where="endpoint",
                remedy="Use at most 63 lower-case letters, digits and hyphens, no hyphen at either end.",
            )
        body = workload(
            revision,
            revision_name,
            command=command,
            name=name,
            resource_profile=resource_profile,
            variables=variables,
            public=False,
        )
        if endpoint is not None:
            body["static_endpoint"] = endpoint
        desired = _StartRequest(project, name, endpoint, body)
        return poll_until(
            partial(self._try_start, desired),
            waiting_for=f"the endpoint {endpoint} to be freed",
            deadline=Deadline(self._clock, self._waits.endpoint_free),
            first=2.0,
            longest=15.0,
            on_wait=self._on_wait,
            remedy="See which deployment uses it: `ae5 endpoint list`, and the deployments of the project.",
        )

    def wait_started(self, deployment: Deployment) -> Deployment:
        """Wait until it runs. Refused with AE5's message if it fails, NotFound if missing."""
        began = self._clock.monotonic()

        def probe() -> Deployment | None:
            now = self.deployment(deployment.id)
            if now is None:
                if self._clock.monotonic() - began < self._waits.visible:
                    return None
                raise NotFound(f"The deployment {deployment.id} has disappeared.", where=deployment.id)
            if now.is_starting:
                return None
            if not now.is_started:
                message = scrub(now.status_text) or "no reason given"
                raise Refused(f"The deployment did not start: {message} (state {now.state}).", where=deployment.id)
            return now

        return self._poll(
            probe,
            "the deployment to start",
            self._waits.deployment,
            "Check the deployment's log. Building its environment may take longer than platform.deployment_deadline.",
        )

    def patch_deployment(self, deployment_id: str, **fields: Any) -> Deployment:
        """Change public, resource_profile or revision in place, and wait until it shows."""
        unknown = set(fields) - {"public", "resource_profile", "revision"}
        if unknown or not fields:
            raise ValueError(f"cannot patch {sorted(unknown) or 'nothing'}")
        self._write("PATCH", f"deployments/{part(deployment_id)}", json=fields)

        def probe() -> Deployment | None:
            now = self.deployment(deployment_id)
            done = now is not None and all(getattr(now, name) == value for name, value in fields.items())
            return now if done else None

        return self._poll(probe, "the change of the deployment to show", self._waits.visible)

    def stop_deployment(self, deployment_id: str) -> None:
        """Stop by id and wait until it is no longer listed; a missing one is fine."""
        if self._write("DELETE", f"deployments/{part(deployment_id)}", missing_ok=True, expect="text") is None:
            return
        self._poll(
            lambda: None if any(item.id == deployment_id for item in self.deployments()) else True,
            "the deployment to stop",
            self._waits.stop,
        )

    def logs(self, deployment_id: str) -> DeploymentLogs:
        return parse_logs(self._session.call("GET", f"deployments/{part(deployment_id)}/logs"))

    def issue_token(self, deployment_id: str) -> Secret:
        """Issue a new access token. Tokens cannot be read back."""
        path = f"deployments/{part(deployment_id)}/token"
        answer = self._write("POST", path)
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[^\s<>]{8,}", token):
            raise UnexpectedAnswer("The platform's answer is not an access token.", where=path)
        return Secret(token)

    def collaborators(self, deployment_id: str) -> list[Collaborator]:
        answer = self._session.call("GET", f"deployments/{part(deployment_id)}/collaborators")
        return [parse_collaborator(record) for record in as_list(answer, "collaborators")]

    def set_collaborators(self, deployment_id: str, collaborators: Sequence[Collaborator]) -> list[Collaborator]:
        """Replace the whole list, and return AE5's. UnexpectedAnswer if one is missing."""
        path = f"deployments/{part(deployment_id)}/collaborators"
        body = [{"id": item.id, "type": item.type, "permission": item.permission} for item in collaborators]
        answer = self._write("PUT", path, json=body)
        action = answer.get("action") if isinstance(answer, dict) else None
        if isinstance(action, dict) and action.get("error"):
            message = scrub(str(action.get("message") or action["error"]))
            raise Refused(f"The platform refused to share the deployment: {message}", where=path)
        listed = answer.get("collaborators") if isinstance(answer, dict) else answer
        now = [parse_collaborator(record) for record in as_list(listed, "collaborators")]
        missing = {(item.type, item.id) for item in collaborators} - {(item.type, item.id) for item in now}
        if missing:
            names = ", ".join(f"{kind} {identity}" for kind, identity in sorted(missing))
            raise UnexpectedAnswer(f"The platform did not share the deployment with {names}.", where=path)
        return now

    def static_endpoints(self) -> list[StaticEndpoint]:
        """Endpoints claimed by a project, with or without a running deployment."""
        answer = self._session.call("GET", "/platform/deploy/api/v1/apps/static-endpoints")
        return [parse_static_endpoint(record) for record in as_list(answer, "static endpoints")]

    def _parsed(self, record: dict[str, Any]) -> Deployment:
        return parse_deployment(record, self._session.hostname)

    def _try_start(self, desired: _StartRequest) -> Deployment | None:
        """Try once; None while the endpoint is still held although no deployment uses it."""
        clash: Conflict | Refused | None = None
        try:
            what = f"the start of {desired.name}"
            return self._write_once(partial(self._post, desired), partial(self._find_started, desired), what)
        except (Conflict, Refused) as error:
            clash = error
        if desired.endpoint is None or _is_about_the_name(clash.what, desired.name):
            raise clash
        self._raise_if_claimed(desired.endpoint, desired.project, clash)
        if isinstance(clash, Refused):
            raise clash
        self._raise_if_used(desired.endpoint, clash)
        return None

    def _raise_if_claimed(self, endpoint: str, project: Project, clash: Conflict | Refused) -> None:
        """Raise Conflict for an endpoint of another project, without hiding a refusal."""
        claims: list[StaticEndpoint] = []
        with contextlib.suppress(*([DeployError] if isinstance(clash, Refused) else [])):
            claims = self.static_endpoints()
        holder = next((item for item in claims if item.name == endpoint), None)
        if holder is not None and holder.project_id not in ("", project.id):
            raise Conflict(
                f"The endpoint {endpoint} is claimed by another project, {holder.project_id}.",
                where=endpoint,
                remedy="Choose another endpoint, or delete that project.",
                status=clash.status,
            )

    def _raise_if_used(self, endpoint: str, clash: Conflict) -> None:
        user = next((item for item in self.deployments() if item.endpoint == endpoint), None)
        if user is not None:
            raise Conflict(
                f"The endpoint {endpoint} is used by the deployment {user.name} ({user.id}) of {user.owner}.",
                where=endpoint,
                remedy="Stop that deployment, or choose another endpoint.",
                status=clash.status,
            )

    def _post(self, desired: _StartRequest) -> Deployment:
        answer = self._send("POST", f"projects/{part(desired.project.id)}/deployments", json=desired.body)
        return self._parsed(as_record(answer, "a deployment"))

    def _find_started(self, desired: _StartRequest) -> Deployment | None:
        for item in self.deployments():
            same = item.project_id == desired.project.id and item.name == desired.name
            if same and item.endpoint in (desired.endpoint, None):  # a new record may have no URL yet
                return item
        return None


def _is_about_the_name(message: str, name: str) -> bool:
    """Whether a conflict is about the name, not the endpoint. AE5 documents neither."""
    rest = message.replace(name, "")
    return "name" in rest and "endpoint" not in rest.lower()
