"""The contract of a provider: one signed-in connection that sends requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any, Protocol

import requests

from mlflow_ae5_deploy.ae5.transport import TransportAdapter
from mlflow_ae5_deploy.common.redaction import Secret

Guard = Callable[[requests.Session], TransportAdapter]
"""Mounts the transport on a session; see `transport.guard`."""


@dataclass(frozen=True)
class AccountLogin:
    """Sign in with the account's password, or with cookies made by impersonation."""

    username: str
    password: Secret | None = None
    impersonate: Callable[[], CookieJar] | None = None


class Connection(Protocol):
    @property
    def adapter(self) -> TransportAdapter:
        """The transport of every request."""

    @property
    def http(self) -> requests.Session:
        """The holder of cookies and headers."""

    def sign_in(self) -> None:
        """Start a new session, forgetting the old one. Raises PlatformError."""

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        """Send one request below the base, or from the root for a path with a slash."""

    def sign_out(self) -> None: ...
