"""The few calls of MLflow's REST API that a drill makes. Every failure is an UnreachableError that says which call."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Any
from urllib.parse import quote

import requests

from mlflow_ae5_server.errors import UnreachableError
from mlflow_ae5_server.scrub import scrub

_SECONDS = 60.0  # for one answer to begin
_PIECE = 1024 * 1024


class Api:
    """One server, whose address never leaves this machine: no proxy and no credentials of the environment are used."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._session.close()

    def answers(self) -> bool:
        """Whether it answers from its database; `/health` would say so without one."""
        try:
            self.post("experiments/search", max_results=1)
        except UnreachableError:
            return False
        return True

    def post(self, name: str, /, **body: Any) -> dict[str, Any]:
        return self._json("POST", name, json=body)

    def get(self, name: str, /, **query: Any) -> dict[str, Any]:
        return self._json("GET", name, params=query)

    def delete(self, name: str, /, **body: Any) -> dict[str, Any]:
        return self._json("DELETE", name, json=body)

    def upload(self, path: str, data: bytes) -> None:
        self._call("PUT", _artifact(path), data=data)

    def remove(self, path: str) -> None:
        self._call("DELETE", _artifact(path))

    def digest(self, path: str) -> tuple[int, str]:
        """Size and SHA-256 of an artifact as a client gets it."""
        size, digest = 0, hashlib.sha256()
        with self._call("GET", _artifact(path), stream=True) as answer:
            try:
                for piece in answer.iter_content(_PIECE):
                    size += len(piece)
                    digest.update(piece)
            except requests.RequestException as error:
                raise UnreachableError(f"download of {path!r} broke off: {type(error).__name__}") from None
        return size, digest.hexdigest()

    def _json(self, method: str, name: str, **arguments: Any) -> dict[str, Any]:
        answer = self._call(method, f"/api/2.0/mlflow/{name}", **arguments)
        try:
            decoded: dict[str, Any] = answer.json()
        except ValueError:
            raise UnreachableError(f"{method} {name} answered with something that is not JSON") from None
        return decoded

    def _call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            answer = self._session.request(
                method, self._uri + path, timeout=(5, _SECONDS), allow_redirects=False, **arguments
            )
        except requests.RequestException as error:
            raise UnreachableError(f"{method} {path} got no answer: {type(error).__name__}") from None
        if answer.status_code != 200:
            said = scrub(" ".join(answer.text.split())[:300])
            raise UnreachableError(f"{method} {path} answered {answer.status_code}: {said}")
        return answer


def _artifact(path: str) -> str:
    return "/api/2.0/mlflow-artifacts/artifacts/" + quote(path, safe="/")
