"""The platform as one client: all resource APIs over one session."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.deployments import DeploymentsApi
from mlflow_ae5_deploy.ae5.jobs import JobsApi
from mlflow_ae5_deploy.ae5.models import ResourceProfile
from mlflow_ae5_deploy.ae5.parsing import as_list, parse_resource_profile
from mlflow_ae5_deploy.ae5.projects import ProjectsApi
from mlflow_ae5_deploy.ae5.secrets import SecretsApi
from mlflow_ae5_deploy.ae5.session import UserSession


class Client(ProjectsApi, DeploymentsApi, SecretsApi, JobsApi):
    """Every AE5 call of this tool.

    Records are found by id or by exact owner and name, never by pattern. Every wait has a deadline and a reason.
    A write whose answer was lost is repeated only if its effect does not show. Errors are PlatformError (or
    Configuration for a name that AE5 cannot accept, or Locked for a run that has lost its lock) and hold no secret.
    """

    @property
    def session(self) -> UserSession:
        return self._session

    def resource_profiles(self) -> list[ResourceProfile]:
        """Profiles that an administrator offers; sizes are in the descriptions, as text."""
        answer = self._session.call("GET", "projects/actions", params={"q": "create_action"})
        profiles: list[ResourceProfile] = []
        for action in as_list(answer, "resource profiles"):
            profiles.extend(parse_resource_profile(record) for record in action.get("resource_profiles") or [])
        return profiles
