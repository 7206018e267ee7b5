"""Artifacts behind the tracking server, and stores left to MLflow's own code."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.locations import PROXY, WORKSPACE_HEADER, workspace_of
from mlflow_ae5_server.gc.stores import JOURNAL, ArtifactFolder, StoredSize, StoreError

_SERVER_INFO = "/api/3.0/mlflow/server-info"
_TRIES = 2
_TIMEOUT = (6, 60)  # seconds: connect, answer


@contextlib.contextmanager
def _errors(shown: str, action: str) -> Iterator[None]:
    """Turn any exception into StoreError, as every kind of store has its own."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        reason = scrub(" ".join(str(error).split()) or type(error).__name__)[:300]
        raise StoreError(f"{shown} cannot be {action}: {reason}") from None


class _WithoutAges:
    """A store that does not report ages, so that no orphan can be found in it."""

    shown: str

    def folders(self, path: str) -> list[str]:  # noqa: ARG002
        raise StoreError(
            f"artifacts without a row cannot be found in {self.shown}: it does not report how old they are"
        )

    def folder(self, path: str) -> ArtifactFolder:
        raise StoreError(f"{self.shown} does not report how old {path} is")

    def remove_empty(self, path: str) -> None:
        """Do nothing: no call for it exists."""


class ServerStore(_WithoutAges):
    """The artifact root of the tracking server, over HTTP, with the token of this job."""

    through_server = True

    def __init__(self, uri: str, headers: dict[str, str], verify: bool | str) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self._uri = uri.rstrip("/")
        self.shown = scrub(self._uri)
        self._workspaces: bool | None = None  # whether the server has them; read when a path first needs to know
        self._session = requests.Session()
        self._session.headers.update(headers)
        self._verify = verify  # with each request: REQUESTS_CA_BUNDLE would overrule the session's own
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=16))

    def size(self, path: str) -> StoredSize | None:
        files = size = 0
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            for item in self._list(folder):
                below = f"{folder}/{str(item['path']).rpartition('/')[2]}"
                if item.get("is_dir"):
                    waiting.append(below)
                else:
                    files, size = files + 1, size + int(item.get("file_size") or 0)
        return StoredSize(files, size) if files else None

    def remove(self, path: str) -> None:
        self._call("DELETE", f"{PROXY}/{quote(path)}", headers=self._workspace(path))

    def top(self) -> set[str]:
        names = {str(item["path"]).strip("/").rpartition("/")[2] for item in self._list("")}
        return {name for name in names if not name.startswith(JOURNAL)}

    def journal_write(self, name: str, content: bytes) -> None:
        self._call("PUT", f"{PROXY}/{JOURNAL}/{name}", data=content)

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        for item in sorted(str(item["path"]) for item in self._list(JOURNAL)):
            name = item.rpartition("/")[2]
            yield name, self._call("GET", f"{PROXY}/{JOURNAL}/{quote(name)}").content

    def journal_drop(self, name: str) -> None:
        self._call("DELETE", f"{PROXY}/{JOURNAL}/{quote(name)}")

    def _list(self, path: str) -> list[Any]:
        answer = self._call("GET", PROXY, params={"path": path} if path else {}, headers=self._workspace(path))
        try:
            return list(answer.json().get("files") or [])
        except (ValueError, AttributeError, RecursionError):
            raise StoreError(f"{self.shown} answers with something other than a listing") from None

    def _workspace(self, path: str) -> dict[str, str]:
        """The header that a server with workspaces requires for this path."""
        name = workspace_of(path)
        if name and self._workspaces is None:
            try:
                self._workspaces = bool(self._call("GET", _SERVER_INFO).json().get("workspaces_enabled"))
            except (ValueError, AttributeError, RecursionError):
                raise StoreError(f"{self.shown} does not report whether it has workspaces") from None
        return {WORKSPACE_HEADER: name} if name and self._workspaces else {}

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        import requests

        reason = ""
        for _ in range(_TRIES):
            try:
                answer = self._session.request(
                    method, self._uri + path, timeout=_TIMEOUT, allow_redirects=False, verify=self._verify, **arguments
                )
            except (requests.exceptions.RequestException, OSError) as error:
                reason = scrub(str(error).splitlines()[0] if str(error) else type(error).__name__)[:200]
                continue
            if answer.status_code == 200:
                return answer
            reason = f"HTTP {answer.status_code}"
            if answer.status_code < 500:
                break
        raise StoreError(f"{self.shown} did not {method} the artifacts: {reason}")


class MlflowStore(_WithoutAges):
    """A store for which MLflow has code and we have none. `root` is as in Location."""

    through_server = False

    def __init__(self, root: str) -> None:
        # Their own defaults retry for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        self._root = root
        self.shown = scrub(root)

    def size(self, path: str) -> StoredSize | None:
        files = size = 0
        with _errors(self.shown, "listed"):
            repository: Any = self._repository(path)
            waiting: list[str | None] = [None]
            while waiting:
                for item in repository.list_artifacts(waiting.pop()):
                    if item.is_dir:
                        waiting.append(item.path)
                    else:
                        files, size = files + 1, size + (item.file_size or 0)
        return StoredSize(files, size) if files else None

    def remove(self, path: str) -> None:
        with _errors(self.shown, "deleted from"):
            self._repository(path).delete_artifacts()

    def top(self) -> set[str]:
        with _errors(self.shown, "listed"):
            names = {item.path.strip("/").rpartition("/")[2] for item in self._repository("").list_artifacts()}
        return {name for name in names if not name.startswith(JOURNAL)}

    def journal_write(self, name: str, content: bytes) -> None:
        with _errors(self.shown, "written to"), tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / name
            file.write_bytes(content)
            self._repository("").log_artifact(str(file), JOURNAL)

    def journal_read(self) -> Iterator[tuple[str, bytes]]:
        with _errors(self.shown, "read"):
            repository = self._repository("")
            for item in repository.list_artifacts(JOURNAL):
                with tempfile.TemporaryDirectory() as scratch:
                    content = Path(repository.download_artifacts(item.path, scratch)).read_bytes()
                yield item.path.rpartition("/")[2], content

    def journal_drop(self, name: str) -> None:
        with _errors(self.shown, "deleted from"):
            self._repository("").delete_artifacts(f"{JOURNAL}/{name}")

    def _repository(self, path: str) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(f"{self._root}/{path}".rstrip("/"))
