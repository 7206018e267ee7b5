"""What a provider has to offer: one signed-in connection that can send a request. See builtin.py and ae5tools.py."""

from __future__ import annotations

from typing import Any, Protocol

import requests

from mlflow_ae5_deploy.ae5.transport import TransportAdapter


class Connection(Protocol):
    """adapter: what every request goes through. http: where its cookies and headers are."""

    @property
    def adapter(self) -> TransportAdapter: ...
    @property
    def http(self) -> requests.Session: ...

    def sign_in(self) -> None:
        """Start a new session, forgetting the old one. Raises PlatformError."""

    def send(self, method: str, path: str, **request: Any) -> requests.Response:
        """One request below the connection's base, or from the host's root for a path with a leading slash."""

    def sign_out(self) -> None: ...
