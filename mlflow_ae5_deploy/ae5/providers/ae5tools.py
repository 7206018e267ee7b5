"""The ae5-tools provider, for every real cluster. Imported only where ae5-tools is used.

ae5-tools brings login form, cookies, XSRF and Cloudflare headers, admin token header and the API calls. What it
does not bring is put right in subclasses: the guarded adapter goes in before its constructor sends anything, nothing
is prompted for, printed or stored, and signing out happens when we say so.
"""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any, NoReturn

import requests
from ae5_tools import AEAdminSession, AEException, AEUserSession

from mlflow_ae5_deploy.ae5 import auth
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.transport import TransportAdapter, guard
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret

Guard = Callable[[requests.Session], TransportAdapter]


class _Corrected:
    """Mixed in before ae5-tools' classes. Set `put_guard` before calling their constructor."""

    put_guard: Guard
    adapter: TransportAdapter
    session: requests.Session

    def _set_tls_verify(self) -> None:
        """Called by the constructor before the first request; theirs switches verification off."""
        self.adapter = self.put_guard(self.session)

    def _is_login(self, _response: requests.Response) -> bool:
        return False  # the adapter has seen to that; theirs fails on an answer without Content-Type

    @staticmethod
    def _password_prompt(key: str, last_valid: bool = True) -> NoReturn:  # noqa: ARG004
        raise LoginFailed(f"No password is known for {key}, and nobody is asked for one.")

    def __del__(self) -> None:
        """Theirs sends a logout whenever the object is collected."""


class _User(_Corrected, AEUserSession):  # type: ignore[misc, unused-ignore]
    def __init__(
        self, put_guard: Guard, hostname: str, username: str, password: str, impersonate: Callable[[], CookieJar] | None
    ) -> None:
        self.put_guard = put_guard
        self._impersonate = impersonate
        super().__init__(hostname, username, password=password, persist=False)

    def _connect(self, password: str) -> None:
        if self._impersonate is None:
            super()._connect(password)
            return
        # theirs lists all users again and treats the name as a pattern
        auth.adopt_cookies(self.session, self._impersonate())
        auth.start_login(self.session, self.hostname)


class _Admin(_Corrected, AEAdminSession):  # type: ignore[misc, unused-ignore]
    def __init__(self, put_guard: Guard, hostname: str, username: str, password: Secret) -> None:
        self.put_guard = put_guard
        super().__init__(hostname, username, password=password, persist=False)

    def _connect(self, password: Secret) -> None:
        """Theirs prints whatever goes wrong, and goes on."""
        self._sdata = auth.fetch_admin_token(self.session, self.hostname, self.username, password)


class Ae5ToolsUserConnection:
    """password: the account's own, or None when `impersonate` gives cookies of a session made for it."""

    def __init__(
        self,
        options: ConnectionOptions,
        clock: Clock,
        username: str,
        *,
        password: Secret | None,
        impersonate: Callable[[], CookieJar] | None,
        read_only: bool,
    ) -> None:
        def put_guard(session: requests.Session) -> TransportAdapter:
            return guard(session, options, clock, read_only=read_only)

        revealed = password.reveal() if password is not None else ""
        self._ae5 = _User(put_guard, options.hostname, username, revealed, impersonate)

    @property
    def adapter(self) -> TransportAdapter:
        return self._ae5.adapter

    @property
    def http(self) -> requests.Session:
        session: requests.Session = self._ae5.session
        return session

    def sign_in(self) -> None:
        # an old _xsrf cookie would make a failed login look like a success
        self.http.cookies.clear()
        self._ae5.connected = False
        failed = False
        try:
            self._ae5.authorize()
        except AEException:
            failed = True
        if failed:
            raise auth.explain_failed_login(self.adapter, self._ae5.hostname, self._ae5.username)

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        self._ae5._set_header()
        response: requests.Response = self._ae5._api(method.lower(), path, format="response", **request)
        return response

    def sign_out(self) -> None:
        auth.end_user_session(self.http, self._ae5.hostname)
        self._ae5.connected = False
        self.http.cookies.clear()


class Ae5ToolsAdminConnection:
    def __init__(
        self, options: ConnectionOptions, clock: Clock, username: str, password: Secret, *, read_only: bool
    ) -> None:
        def put_guard(session: requests.Session) -> TransportAdapter:
            return guard(session, options, clock, read_only=read_only)

        self._ae5 = _Admin(put_guard, options.hostname, username, password)

    @property
    def adapter(self) -> TransportAdapter:
        return self._ae5.adapter

    @property
    def http(self) -> requests.Session:
        session: requests.Session = self._ae5.session
        return session

    def sign_in(self) -> None:
        self.http.headers.pop("Authorization", None)
        self._ae5._sdata = {}
        self._ae5.authorize()

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        response: requests.Response = self._ae5._api(method.lower(), path, format="response", **request)
        return response

    def sign_out(self) -> None:
        auth.end_admin_session(self.http, self._ae5.hostname, self._ae5._sdata or {})
        self._ae5._sdata = {}
        self._ae5.connected = False
        self.http.headers.pop("Authorization", None)
