"""Artifacts that only the tracking server can reach, and kinds of store that MLflow's own code is left to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.locations import workspace_of
from mlflow_ae5_server.gc.stores import JOURNAL, FoundFolder, StoredSize, TroubleError

_API = "/api/2.0/mlflow-artifacts/artifacts"
_SERVER_INFO = "/api/3.0/mlflow/server-info"
_WORKSPACE = "X-MLFLOW-WORKSPACE"
_TRIES = 2
_TIMEOUT = (6, 60)  # seconds: connect, answer


class ServerStore:
    """The artifact root of the tracking server, over HTTP, with the token of this job."""

    through_server = True

    def __init__(self, uri: str, headers: dict[str, str], verify: bool | str) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self._uri = uri.rstrip("/")
        self.shown = scrub(self._uri)
        self._workspaces: bool | None = None  # whether the server has them; asked when a path first needs to know
        self._session = requests.Session()
        self._session.headers.update(headers)
        self._verify = verify  # with each request: the session's own gives way to REQUESTS_CA_BUNDLE
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=16))

    def look(self, path: str) -> StoredSize | None:
        files = size = 0
        waiting = [path]
        while waiting:
            destination = waiting.pop()
            for item in self._listed(destination):
                below = f"{destination}/{str(item['path']).rpartition('/')[2]}"
                if item.get("is_dir"):
                    waiting.append(below)
                else:
                    files, size = files + 1, size + int(item.get("file_size") or 0)
        return StoredSize(files, size) if files else None

    def remove(self, path: str) -> None:
        self._call("DELETE", f"{_API}/{quote(path)}", headers=self._workspace(path))

    def tidy(self, path: str) -> None:
        """The server offers nothing for it."""

    def top(self) -> set[str]:
        names = {str(item["path"]).strip("/").rpartition("/")[2] for item in self._listed("")}
        return {name for name in names if not name.startswith(JOURNAL)}

    def names(self, path: str) -> list[str]:  # noqa: ARG002
        raise TroubleError(
            "artifacts without a row cannot be told through the server: it does not say how old they are"
        )

    def age(self, path: str) -> FoundFolder:  # noqa: ARG002
        raise TroubleError("the server does not say how old artifacts are")

    def journal_write(self, name: str, content: bytes) -> None:
        self._call("PUT", f"{_API}/{JOURNAL}/{name}", data=content)

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        for item in sorted(str(item["path"]) for item in self._listed(JOURNAL)):
            name = item.rpartition("/")[2]
            yield name, self._call("GET", f"{_API}/{JOURNAL}/{quote(name)}").content

    def journal_drop(self, name: str) -> None:
        self._call("DELETE", f"{_API}/{JOURNAL}/{quote(name)}")

    def _listed(self, path: str) -> list[Any]:
        answer = self._call("GET", _API, params={"path": path} if path else {}, headers=self._workspace(path))
        try:
            return list(answer.json().get("files") or [])
        except (ValueError, AttributeError, RecursionError):
            raise TroubleError(f"{self.shown} answers with something else than a listing") from None

    def _workspace(self, path: str) -> dict[str, str]:
        """The header that a server with workspaces wants for this path, and one without refuses."""
        name = workspace_of(path)
        if name and self._workspaces is None:
            try:
                self._workspaces = bool(self._call("GET", _SERVER_INFO).json().get("workspaces_enabled"))
            except (ValueError, AttributeError, RecursionError):
                raise TroubleError(f"{self.shown} does not say whether it has workspaces") from None
        return {_WORKSPACE: name} if name and self._workspaces else {}

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        import requests

        reason = ""
        for _ in range(_TRIES):
            try:
                answer = self._session.request(
                    method,
                    self._uri + path,
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                    verify=self._verify,
                    **arguments,
                )
            except (requests.exceptions.RequestException, OSError) as error:
                reason = scrub(str(error).splitlines()[0] if str(error) else type(error).__name__)[:200]
                continue
            if answer.status_code == 200:
                return answer
            reason = f"HTTP {answer.status_code}"
            if answer.status_code < 500:
                break
        raise TroubleError(f"{self.shown} did not {method} the artifacts: {reason}")


class MlflowStore:
    """One store for which MLflow has code and we have none. `root` is as in Location."""

    through_server = False

    def __init__(self, root: str) -> None:
        # Their own defaults retry for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._root = root
        self.shown = scrub(root)

    def look(self, path: str) -> StoredSize | None:
        files = size = 0
        try:
            repository: Any = self._repository(path)
            waiting: list[str | None] = [None]
            while waiting:
                for item in repository.list_artifacts(waiting.pop()):
                    if item.is_dir:
                        waiting.append(item.path)
                    else:
                        files, size = files + 1, size + (item.file_size or 0)
        except Exception as error:  # every kind of store has exceptions of its own
            raise self._trouble("listed", error) from None
        return StoredSize(files, size) if files else None

    def remove(self, path: str) -> None:
        try:
            self._repository(path).delete_artifacts()
        except Exception as error:
            raise self._trouble("deleted from", error) from None

    def tidy(self, path: str) -> None:
        """Left as it is."""

    def top(self) -> set[str]:
        try:
            names = {item.path.strip("/").rpartition("/")[2] for item in self._repository("").list_artifacts()}
        except Exception as error:
            raise self._trouble("listed", error) from None
        return {name for name in names if not name.startswith(JOURNAL)}

    def names(self, path: str) -> list[str]:  # noqa: ARG002
        raise TroubleError(
            f"artifacts without a row cannot be told in {self.shown}: MLflow does not say how old they are"
        )

    def age(self, path: str) -> FoundFolder:  # noqa: ARG002
        raise TroubleError(f"MLflow does not say how old artifacts in {self.shown} are")

    def journal_write(self, name: str, content: bytes) -> None:
        try:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / name
                file.write_bytes(content)
                self._repository("").log_artifact(str(file), JOURNAL)
        except Exception as error:
            raise self._trouble("written to", error) from None

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        try:
            repository = self._repository("")
            for item in repository.list_artifacts(JOURNAL):
                with tempfile.TemporaryDirectory() as scratch:
                    content = Path(repository.download_artifacts(item.path, scratch)).read_bytes()
                yield item.path.rpartition("/")[2], content
        except Exception as error:
            raise self._trouble("read", error) from None

    def journal_drop(self, name: str) -> None:
        try:
            self._repository("").delete_artifacts(f"{JOURNAL}/{name}")
        except Exception as error:
            raise self._trouble("deleted from", error) from None

    def _repository(self, path: str) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(f"{self._root}/{path}".rstrip("/"))

    def _trouble(self, what: str, error: Exception) -> TroubleError:
        reason = scrub(" ".join(str(error).split()) or type(error).__name__)[:200]
        return TroubleError(f"{self.shown} cannot be {what}: {reason}")
