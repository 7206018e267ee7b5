"""The built-in provider: login form, cookies and admin token over `requests`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin

import requests

from mlflow_ae5_deploy.ae5 import auth
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin, Guard

ADMIN_BASE = "auth/admin/realms/AnacondaPlatform"


class _BuiltInConnection:
    base: str

    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        self.http = requests.Session()
        self.adapter = guard(self.http)
        self.http.headers.update(auth.cloudflare_headers())
        self._hostname = hostname
        self._login = login

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        url = urljoin(f"https://{self._hostname}/{self.base}/", path)
        return self.http.request(method, url, allow_redirects=False, **request)


class BuiltInUserConnection(_BuiltInConnection):
    base = "api/v2"

    def sign_in(self) -> None:
        self.http.cookies.clear()
        if self._login.impersonate is not None:
            auth.adopt_cookies(self.http, self._login.impersonate())
        page = auth.start_login(self.http, self._hostname)
        action = auth.find_login_form(page.text, page.url)
        if action is not None and self._login.password is not None:
            form = {"username": self._login.username, "password": self._login.password.reveal()}
            self.http.post(action, data=form)
        if not auth.is_signed_in(self.http.cookies):
            raise auth.explain_failed_login(self.adapter, self._hostname, self._login.username)

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        xsrf = next((c.value for c in self.http.cookies if c.name == auth.XSRF_COOKIE), None)
        return super().send(method, path, headers={"x-xsrftoken": xsrf} if xsrf else {}, **request)

    def sign_out(self) -> None:
        auth.end_user_session(self.http, self._hostname)
        self.http.cookies.clear()


class BuiltInAdminConnection(_BuiltInConnection):
    base = ADMIN_BASE

    def __init__(self, hostname: str, login: AccountLogin, guard: Guard) -> None:
        super().__init__(hostname, login, guard)
        self._token: dict[str, Any] = {}

    def sign_in(self) -> None:
        self.http.headers.pop("Authorization", None)
        self._token = auth.fetch_admin_token(self.http, self._hostname, self._login.username, self._login.password)
        self.http.headers["Authorization"] = f"Bearer {self._token['access_token']}"

    def sign_out(self) -> None:
        auth.end_admin_session(self.http, self._hostname, self._token)
        self._token = {}
        self.http.headers.pop("Authorization", None)
