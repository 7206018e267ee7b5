"""The ae5-tools provider, for real clusters; imported only where it is used.

ae5-tools brings login form, cookies, XSRF and Cloudflare headers, admin token header and the API calls. Subclasses
correct the rest: the guarded adapter is mounted before the constructor sends anything, nothing is prompted for,
printed or stored, and this tool decides when to sign out.
"""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any, NoReturn

import requests
from ae5_tools import AEAdminSession, AEException, AEUserSession

from mlflow_ae5_deploy.ae5 import auth
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin, Guard
from mlflow_ae5_deploy.ae5.transport import TransportAdapter
from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret


class _Corrected:
    """Mixed in before ae5-tools' classes. Set `guard` before their constructor."""

    guard: Guard
    adapter: TransportAdapter
    session: requests.Session

    def _set_tls_verify(self) -> None:
        """Called before the first request; theirs switches verification off."""
        self.adapter = self.guard(self.session)

    def _is_login(self, _response: requests.Response) -> bool:
        return False  # the adapter has checked that; theirs fails on an answer without Content-Type

    @staticmethod
    def _password_prompt(key: str, last_valid: bool = True) -> NoReturn:  # noqa: ARG004
        raise LoginFailed(f"No password is configured for {key}; this tool does not prompt for one.")

    def __del__(self) -> None:
        """Do nothing; ae5-tools sends a logout whenever the object is collected."""


class _User(_Corrected, AEUserSession):  # type: ignore[misc, unused-ignore]
    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        self.guard = guard
        self._impersonate: Callable[[], CookieJar] | None = login.impersonate
        password = login.password.reveal() if login.password is not None else ""
        super().__init__(hostname, login.username, password=password, persist=False)

    def _connect(self, password: str) -> None:
        if self._impersonate is None:
            super()._connect(password)
            return
        # theirs lists all users again and treats the name as a pattern
        auth.adopt_cookies(self.session, self._impersonate())
        auth.start_login(self.session, self.hostname)


class _Admin(_Corrected, AEAdminSession):  # type: ignore[misc, unused-ignore]
    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        self.guard = guard
        super().__init__(hostname, login.username, password=login.password, persist=False)

    def _connect(self, password: Secret) -> None:
        """Fetch the token here, because ae5-tools prints every error and continues."""
        self._sdata = auth.fetch_admin_token(self.session, self.hostname, self.username, password)


class _Ae5ToolsConnection:
    def __init__(self, session: Any) -> None:
        self._ae5 = session
        self.http: requests.Session = session.session

    @property
    def adapter(self) -> TransportAdapter:
        adapter: TransportAdapter = self._ae5.adapter
        return adapter

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        self._ae5._set_header()
        response: requests.Response = self._ae5._api(method.lower(), path, format="response", **request)
        return response


class Ae5ToolsUserConnection(_Ae5ToolsConnection):
    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        super().__init__(_User(hostname, login, guard))

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

    def sign_out(self) -> None:
        auth.end_user_session(self.http, self._ae5.hostname)
        self._ae5.connected = False
        self.http.cookies.clear()


class Ae5ToolsAdminConnection(_Ae5ToolsConnection):
    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        super().__init__(_Admin(hostname, login, guard))

    def sign_in(self) -> None:
        self.http.headers.pop("Authorization", None)
        self._ae5._sdata = {}
        self._ae5.authorize()

    def sign_out(self) -> None:
        auth.end_admin_session(self.http, self._ae5.hostname, self._ae5._sdata or {})
        self._ae5._sdata = {}
        self._ae5.connected = False
        self.http.headers.pop("Authorization", None)
