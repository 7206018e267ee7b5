"""Sessions: refuse writes in a plan, renew the login, read answers strictly."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Literal
from urllib.parse import urljoin, urlsplit

import requests

from mlflow_ae5_deploy.ae5.browser import Browser, EndpointAnswer
from mlflow_ae5_deploy.ae5.error_map import shielded, translate
from mlflow_ae5_deploy.ae5.providers.provider import Connection
from mlflow_ae5_deploy.ae5.responses import SessionExpired, is_write
from mlflow_ae5_deploy.ae5.transport import DatedAnswer
from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import DeployError, PlatformError, UnexpectedAnswer, WriteForbidden

_log = logging.getLogger(__name__)

Expect = Literal["json", "bytes", "text"]
Files = Mapping[str, tuple[str, BinaryIO]]  # part name -> (file name to state, open file)


class Session:
    """A session of an account. base: path from the host's root for relative paths."""

    def __init__(self, connection: Connection, hostname: str, username: str, *, base: str, read_only: bool) -> None:
        self.hostname = hostname
        self.username = username
        self.connection = connection
        self._base = f"https://{hostname}/{base.strip('/')}/"
        self._read_only = read_only
        self._signed_in = False
        self.before_call: Callable[[bool], None] | None = None
        """Called before each call, with whether it is a write. Raises Locked where the run has lost its lock."""

    @property
    def requests_made(self) -> int:
        """HTTP requests sent to the platform's own host, login included, retries counted."""
        return self.connection.adapter.requests_made

    @property
    def writes_made(self) -> int:
        """Requests that could have changed something."""
        return self.connection.adapter.writes_made

    @property
    def dated(self) -> DatedAnswer:
        """The last answer with the platform's time. Raises UnexpectedAnswer if there was none."""
        dated = self.connection.adapter.dated
        if dated is None:
            raise UnexpectedAnswer(
                "The platform's answers have no `Date`, so its time is not known.", where=self.hostname
            )
        return dated

    def sign_in(self) -> None:
        self._signed_in = False
        _log.info("sign in as %s", self.username)
        shielded(self.connection.sign_in, host=self.hostname)
        self._signed_in = True

    def close(self) -> None:
        """Sign out. Never raises; may be called twice."""
        if self._signed_in:
            self._signed_in = False
            with contextlib.suppress(PlatformError):  # it must not hide the error that ended the work
                shielded(self.connection.sign_out, host=self.hostname)

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
        """One API call; returns parsed JSON (None for an empty body), bytes or text.

        path: relative to the base, or from the host's root when it starts with "/".
        timeout: longest silence in seconds, instead of the options' read_timeout.
        Signs in again, and repeats the call once, when the session has expired.
        Raises PlatformError: Unreachable, LoginFailed, Denied, DeadlineExceeded, Conflict, NotFound, Refused,
        UnexpectedAnswer; AnswerLost for a write of unknown outcome; WriteForbidden in a read-only session. And what
        `before_call` raises.
        """
        full_path, write = self._checked(method, path)
        if self.before_call is not None:
            self.before_call(write)
        given = {"json": json, "data": data, "files": files, "params": params, "timeout": timeout}
        request = {name: value for name, value in given.items() if value is not None}
        failure: DeployError | None = None
        for last in (False, True):
            if not self._signed_in:
                self.sign_in()
            for _, file in (files or {}).values():
                file.seek(0)  # a repeated upload starts at the beginning
            try:
                response = self.connection.send(method, path, **request)
            except Exception as error:
                failure = translate(error, host=self.hostname, write=write)
                if failure is None:
                    raise
            else:
                return _read(response, expect, f"{method} {self.hostname}{full_path}")
            # Safe for writes too: the platform does not act on a request without a session.
            if last or not isinstance(failure, SessionExpired):
                break
            self._signed_in = False
        # Outside of `except`: the foreign exception, and the request in it, is not attached to ours.
        raise failure or AssertionError

    def _checked(self, method: str, path: str) -> tuple[str, bool]:
        """The full path, and whether the call is a write. WriteForbidden in a read-only session."""
        if "://" in path or path.startswith("//"):
            raise ValueError("the path of an API call is not an address")
        full_path = urlsplit(urljoin(self._base, path)).path
        write = is_write(method, full_path)
        if self._read_only and write:
            raise WriteForbidden(f"{method} {full_path} was stopped: this session is read-only.")
        return full_path, write


class UserSession(Session):
    """The session of an account of the platform."""

    def __init__(self, connection: Connection, hostname: str, username: str, *, read_only: bool) -> None:
        super().__init__(connection, hostname, username, base="api/v2", read_only=read_only)
        self._browser = Browser(connection, hostname, self.sign_in)

    def browse(self, url: str, *, timeout: float | None = None, host: str | None = None) -> EndpointAnswer:
        """GET an https URL of a deployment as the signed-in account.

        timeout: seconds for each request of it, instead of the options'. host: the Host header, instead of the URL's
        own. Raises Unreachable and nothing else.
        """
        return self._browser.browse(url, timeout, host)


def _read(response: requests.Response, expect: Expect, where: str) -> Any:
    kind = response.headers.get("content-type", "")
    if not response.content:
        return {"json": None, "bytes": b"", "text": ""}[expect]
    if kind.startswith("text/html") and expect != "json":
        raise UnexpectedAnswer("The platform answered with a web page.", where=where, status=response.status_code)
    if expect == "bytes":
        return response.content
    if expect == "text":
        return response.text
    if "json" not in kind:
        raise UnexpectedAnswer(
            f"The platform answered with {kind.split(';')[0] or 'unknown content'} instead of JSON.",
            where=where,
            status=response.status_code,
            remedy="Check that platform.hostname is the address of an AE5 platform.",
        )
    try:
        return json_input.parse(response.content)
    except ValueError:
        pass  # raised below: the parser's exception quotes the answer
    raise UnexpectedAnswer("The platform answered with invalid JSON.", where=where, status=response.status_code)
