"""The built-in provider: the platform's login form, cookies and admin token over `requests`. For the sandbox only."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urljoin

import requests

from mlflow_ae5_deploy.ae5 import auth
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.transport import guarded_session
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.redaction import Secret

ADMIN_BASE = "auth/admin/realms/AnacondaPlatform"


class BuiltInUserConnection:
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
        self.http, self.adapter = guarded_session(options, clock, read_only=read_only)
        self.http.headers.update(auth.cloudflare_headers())
        self._hostname = options.hostname
        self._username = username
        self._password = password
        self._impersonate = impersonate

    def sign_in(self) -> None:
        self.http.cookies.clear()
        if self._impersonate is not None:
            auth.adopt_cookies(self.http, self._impersonate())
        page = auth.start_login(self.http, self._hostname)
        form = auth.find_login_form(page.text, page.url)
        if form is not None and self._password is not None:
            self.http.post(form.action, data={"username": self._username, "password": self._password.reveal()})
        if not auth.is_signed_in(self.http.cookies):
            raise auth.explain_failed_login(self.adapter, self._hostname, self._username)

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        xsrf = next((c.value for c in self.http.cookies if c.name == auth.XSRF_COOKIE), None)
        headers = {"x-xsrftoken": xsrf} if xsrf else {}
        url = urljoin(f"https://{self._hostname}/api/v2/", path)
        return self.http.request(method, url, allow_redirects=False, headers=headers, **request)

    def sign_out(self) -> None:
        auth.end_user_session(self.http, self._hostname)
        self.http.cookies.clear()


class BuiltInAdminConnection:
    def __init__(
        self, options: ConnectionOptions, clock: Clock, username: str, password: Secret, *, read_only: bool
    ) -> None:
        self.http, self.adapter = guarded_session(options, clock, read_only=read_only)
        self.http.headers.update(auth.cloudflare_headers())
        self._hostname = options.hostname
        self._username = username
        self._password = password
        self._token: dict[str, Any] = {}

    def sign_in(self) -> None:
        self.http.headers.pop("Authorization", None)
        self._token = auth.fetch_admin_token(self.http, self._hostname, self._username, self._password)
        self.http.headers["Authorization"] = f"Bearer {self._token['access_token']}"

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        url = urljoin(f"https://{self._hostname}/{ADMIN_BASE}/", path)
        return self.http.request(method, url, allow_redirects=False, **request)

    def sign_out(self) -> None:
        auth.end_admin_session(self.http, self._hostname, self._token)
        self._token = {}
        self.http.headers.pop("Authorization", None)
