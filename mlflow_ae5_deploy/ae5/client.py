"""The platform as typed verbs over a session. Stages and operations know nothing below this."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.deployments import DeploymentsApi
from mlflow_ae5_deploy.ae5.jobs import JobsApi
from mlflow_ae5_deploy.ae5.models import ResourceProfile
from mlflow_ae5_deploy.ae5.parsing import as_list, parse_resource_profile
from mlflow_ae5_deploy.ae5.projects import ProjectsApi
from mlflow_ae5_deploy.ae5.secrets import SecretsApi
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.ae5.timeouts import WaitTimeouts

__all__ = ["Client", "WaitTimeouts"]


class Client(ProjectsApi, DeploymentsApi, SecretsApi, JobsApi):
    """Everything we ask of AE5.

    Records are found by id or by exact owner and name, never by pattern. Every wait has a deadline and a reason.
    After a write whose answer was lost the verb looks before it repeats. Errors are PlatformError (or Configuration
    for a name the platform could never accept) and hold no secret.
    """

    @property
    def session(self) -> UserSession:
        return self._session

    def resource_profiles(self) -> list[ResourceProfile]:
        """What an administrator offers; sizes are in the descriptions, as text."""
        answer = self._session.call("GET", "projects/actions", params={"q": "create_action"})
        profiles: list[ResourceProfile] = []
        for action in as_list(answer, "resource profiles"):
            profiles.extend(parse_resource_profile(record) for record in action.get("resource_profiles") or [])
        return profiles
