"""API calls over a line: refuse what a plan may not do, sign in once more when needed, read the answer strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from mlflow_ae5_deploy.ae5.error_map import shielded
from mlflow_ae5_deploy.ae5.providers.provider import Connection
from mlflow_ae5_deploy.ae5.responses import SessionExpired, is_write
from mlflow_ae5_deploy.ae5.session import Expect, Files
from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer, WriteForbidden


class ApiCaller:
    """base: the path, from the host's root, below which relative paths lie."""

    def __init__(self, line: Connection, hostname: str, *, base: str, read_only: bool) -> None:
        self._line = line
        self._hostname = hostname
        self._base = f"https://{hostname}/{base.strip('/')}/"
        self._read_only = read_only
        self.signed_in = False

    def sign_in(self) -> None:
        self.signed_in = False
        shielded(self._line.sign_in, host=self._hostname)
        self.signed_in = True

    def sign_out(self) -> None:
        if self.signed_in:
            self.signed_in = False
            shielded(self._line.sign_out, host=self._hostname)

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Any = None,
        files: Files | None = None,
        params: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        expect: Expect = "json",
    ) -> Any:
        full_path = self._full_path(path)
        write = is_write(method, full_path)
        if self._read_only and write:
            raise WriteForbidden(f"{method} {full_path} was stopped: only reading is allowed now.")
        given = {"json": json, "data": data, "files": files, "params": params, "timeout": timeout}
        request = {name: value for name, value in given.items() if value is not None}
        if not self.signed_in:
            self.sign_in()
        try:
            response = self._send(method, path, write, request)
        except SessionExpired:
            # whatever the method, the platform has not acted: it did not know who was asking
            response = None
        if response is None:
            self.sign_in()
            response = self._send(method, path, write, request)
        return _read(response, expect, f"{method} {self._hostname}{full_path}")

    def _full_path(self, path: str) -> str:
        if "://" in path or path.startswith("//"):
            raise ValueError("an API path, not an address, is wanted here")
        return urlsplit(urljoin(self._base, path)).path

    def _send(self, method: str, path: str, write: bool, request: dict[str, Any]) -> requests.Response:
        for _, file in (request.get("files") or {}).values():
            file.seek(0)  # a repeated upload starts at the beginning
        # a copy, because ae5-tools takes entries out of what it is given
        return shielded(lambda: self._line.send(method, path, **dict(request)), host=self._hostname, write=write)


def _read(response: requests.Response, expect: Expect, where: str) -> Any:
    kind = response.headers.get("content-type", "")
    if not response.content:
        return {"json": None, "bytes": b"", "text": ""}[expect]
    if kind.startswith("text/html") and expect != "json":
        raise UnexpectedAnswer("A web page came where none was due.", where=where, status=response.status_code)
    if expect == "bytes":
        return response.content
    if expect == "text":
        return response.text
    if "json" not in kind:
        raise UnexpectedAnswer(
            f"An answer of type {kind.split(';')[0] or 'unknown'} came where JSON was due.",
            where=where,
            status=response.status_code,
            remedy="Check that platform.hostname is the address of an AE5 platform.",
        )
    try:
        return json_input.parse(response.content)
    except ValueError:
        answer_is_broken = True
    if answer_is_broken:
        raise UnexpectedAnswer("An answer that is not valid JSON came.", where=where, status=response.status_code)
    return None
