"""The calls of MLflow's REST API that a drill makes.

Every failure is an Unreachable that names the call.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import requests

from mlflow_ae5_server.common.errors import Unreachable
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.locations import WORKSPACE_HEADER, workspace_of

_TIMEOUT = (5, 60.0)  # seconds: connect, first byte of the answer
_PIECE = 1024 * 1024
DEFAULT = "default"  # the workspace of a call that names none


class MlflowApi:
    """A client of a local server, without proxy and credentials of the environment."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._session = requests.Session()
        self._session.trust_env = False
        self.workspace = ""
        """The workspace of all calls; empty for the default one, and for a server without workspaces."""
        self._enabled: bool | None = None

    def close(self) -> None:
        self._session.close()

    def is_ready(self) -> bool:
        """Whether it reaches its database; `/health` answers without one."""
        try:
            self.post("experiments/search", max_results=1)
        except Unreachable:
            return False
        return True

    def workspaces(self) -> list[str]:
        """The names of the workspaces; one empty name for a server without any."""
        if not self._has_workspaces():
            return [""]
        return [entry["name"] for entry in self._json("GET", "workspaces", version="3.0")["workspaces"]]

    def post(self, name: str, /, **body: Any) -> dict[str, Any]:
        return self._json("POST", name, json=body)

    def get(self, name: str, /, **query: Any) -> dict[str, Any]:
        return self._json("GET", name, params=query)

    def delete(self, name: str, /, **body: Any) -> dict[str, Any]:
        return self._json("DELETE", name, json=body)

    def upload(self, path: str, data: bytes) -> None:
        self._call("PUT", _artifact(path), self._workspace_of(path), data=data)

    def remove(self, path: str) -> None:
        self._call("DELETE", _artifact(path), self._workspace_of(path))

    def digest(self, path: str) -> tuple[int, str]:
        """Download an artifact; its size and SHA-256."""
        size, digest = 0, hashlib.sha256()
        with self._call("GET", _artifact(path), self._workspace_of(path), stream=True) as answer:
            try:
                for piece in answer.iter_content(_PIECE):
                    size += len(piece)
                    digest.update(piece)
            except requests.RequestException as error:
                raise Unreachable(f"download of {path!r} was interrupted: {type(error).__name__}") from None
        return size, digest.hexdigest()

    def _has_workspaces(self) -> bool:
        if self._enabled is None:
            self._enabled = bool(self._json("GET", "server-info", version="3.0").get("workspaces_enabled"))
        return self._enabled

    def _workspace_of(self, path: str) -> str:
        """The workspace of an artifact; empty for a server without workspaces."""
        name = workspace_of(path)
        return name if name and self._has_workspaces() else ""

    def _json(self, method: str, name: str, version: str = "2.0", **arguments: Any) -> dict[str, Any]:
        answer = self._call(method, f"/api/{version}/mlflow/{name}", self.workspace, **arguments)
        try:
            decoded: dict[str, Any] = answer.json()
        except (ValueError, RecursionError):
            raise Unreachable(f"{method} {name} answered with something that is not JSON") from None
        return decoded

    def _call(self, method: str, path: str, workspace: str, **arguments: Any) -> requests.Response:
        headers = {WORKSPACE_HEADER: workspace} if workspace else {}
        try:
            answer = self._session.request(
                method,
                self._uri + path,
                headers=headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
                **arguments,
            )
        except requests.RequestException as error:
            raise Unreachable(f"{method} {path} got no answer: {type(error).__name__}") from None
        if answer.status_code != 200:
            message = scrub(" ".join(answer.text.split())[:300])
            raise Unreachable(f"{method} {path} answered {answer.status_code}: {message}")
        return answer


def _artifact(path: str) -> str:
    return "/api/2.0/mlflow-artifacts/artifacts/" + quote(path, safe="/")
