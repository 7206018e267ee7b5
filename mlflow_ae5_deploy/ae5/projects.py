"""Projects, their archives and revisions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.ae5.models import Project, Revision
from mlflow_ae5_deploy.ae5.parsing import as_list, as_record, parse_project, parse_revision
from mlflow_ae5_deploy.ae5.resource_api import ResourceApi, part
from mlflow_ae5_deploy.ae5.transport import OnSent
from mlflow_ae5_deploy.common.errors import (
    Configuration,
    DeployError,
    LoginFailed,
    Refused,
    UnexpectedAnswer,
)
from mlflow_ae5_deploy.common.redaction import scrub

_ACTIVITY_PAGE = 20  # newest first; ours is among them unless twenty others follow within seconds


class ProjectsApi(ResourceApi):
    _fresh_projects: tuple[float, list[Project]] | None = None

    @property
    def username(self) -> str:
        return self._session.username

    def whoami(self) -> str:
        """Test the session, and name the account; the next `projects()` reuses the answer."""
        listed = self._list_projects()
        self._fresh_projects = (self._clock.monotonic(), listed)
        if not self._session.username:
            raise LoginFailed("The session belongs to no account.", where=self._session.hostname)
        return self._session.username

    def projects(self) -> list[Project]:
        """Everything visible: own projects and those shared with the account."""
        fresh, self._fresh_projects = self._fresh_projects, None
        if fresh is not None and self._clock.monotonic() - fresh[0] <= self._waits.reuse:
            return fresh[1]
        return self._list_projects()

    def project(self, owner: str, name: str) -> Project | None:
        """The project of exactly that owner and name; neither is a pattern."""
        return next((item for item in self.projects() if item.owner == owner and item.name == name), None)

    def upload(self, name: str, archive: Path, on_sent: OnSent | None = None) -> Project:
        """Create a project from an archive; wait until it is processed and listed. on_sent: see OnSent.

        Raises Conflict if the account has a project of that name, Refused if the platform cannot process it (the
        half-made project is removed), DeadlineExceeded after `waits.project`. After a lost answer a project of this
        account and name counts as the uploaded one.
        """
        if not archive.is_file():
            raise Configuration(f"There is no archive {archive}.", where=str(archive))
        self._fresh_projects = None

        def send() -> dict[str, Any]:
            adapter = self._session.connection.adapter
            adapter.on_sent = on_sent
            try:
                with archive.open("rb") as file:
                    answer = self._send(
                        "POST", "projects/upload", data={"name": name}, files={"project_file": (archive.name, file)}
                    )
            finally:
                adapter.on_sent = None
            return as_record(answer, "an upload")

        def find() -> dict[str, Any] | None:
            found = self.project(self.username, name)
            return {"id": found.id} if found else None

        record = self._write_once(send, find, f"the upload of {name}")
        project_id = str(record.get("project_id") or record.get("id") or "")
        if not project_id:
            raise UnexpectedAnswer("The answer to the upload has no id.", where="upload.id")
        self._await_processing(project_id, record.get("action"))
        return self._poll(
            lambda: next((item for item in self.projects() if item.id == project_id), None),
            f"project {name} to be listed",
            self._waits.project,
        )

    def delete_project(self, project_id: str) -> None:
        """Delete by id; a missing one is fine."""
        self._fresh_projects = None
        self._write("DELETE", f"projects/{part(project_id)}", missing_ok=True, expect="text")

    def revisions(self, project_id: str) -> list[Revision]:
        """Revisions, newest first; waits for the first one of a new project."""
        path = f"projects/{part(project_id)}/revisions"

        def probe() -> list[Revision] | None:
            answer = self._session.call("GET", path)
            return [parse_revision(record) for record in as_list(answer, "revisions")] or None

        return self._poll(probe, "a revision of the project to be listed", self._waits.visible)

    def download_archive(self, project_id: str) -> bytes:
        """The gzip'ed tar archive of the newest revision."""
        path = f"projects/{part(project_id)}/revisions/latest/archive"
        content: bytes = self._session.call("GET", path, expect="bytes")
        if not content.startswith(b"\x1f\x8b"):
            raise UnexpectedAnswer("The downloaded archive is not a gzip file.", where=path)
        return content

    def _list_projects(self) -> list[Project]:
        return [parse_project(record) for record in as_list(self._session.call("GET", "projects"), "projects")]

    def _await_processing(self, project_id: str, action: Any) -> None:
        """Wait until the upload's action is done, if the answer has one."""
        if not isinstance(action, dict):
            return
        final = action if _is_over(action) else self._follow(project_id, str(action.get("id") or ""))
        if final.get("error"):
            with contextlib.suppress(DeployError):
                self.delete_project(project_id)  # else it blocks the name
            message = scrub(str(final.get("message") or "no reason given"))
            raise Refused(f"The platform could not create a project from the archive: {message}", where="upload")

    def _follow(self, project_id: str, action_id: str) -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            params = {"sort": "-updated", "page[size]": _ACTIVITY_PAGE}
            answer = self._session.call("GET", f"projects/{part(project_id)}/activity", params=params)
            entries = as_list(answer, "a project's activity")
            return next((entry for entry in entries if entry.get("id") == action_id and _is_over(entry)), None)

        return self._poll(probe, "the upload to be processed", self._waits.project)


def _is_over(action: dict[str, Any]) -> bool:
    return bool(action.get("done") or action.get("error"))
