"""What the typed verbs need of a signed-in connection, whichever provider made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any, BinaryIO, Literal, Protocol

from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.common.redaction import Secret

Expect = Literal["json", "bytes", "text"]
Files = Mapping[str, tuple[str, BinaryIO]]  # part name -> (file name to state, open file)


@dataclass(frozen=True)
class EndpointAnswer:
    """What an address answered to a browser-like GET.

    text: the first 64 KiB. url: where the last answer came from, without its query (which may carry login codes).
    """

    status: int
    content_type: str
    text: str
    url: str


class Session(Protocol):
    """A signed-in account of the platform.

    requests_made: HTTP requests sent to the platform's own host, login included, retries counted.
    writes_made: those of them that could have changed something; signing in and out and impersonation do not count.
    """

    @property
    def hostname(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def requests_made(self) -> int: ...
    @property
    def writes_made(self) -> int: ...

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

        path: relative to /api/v2/, or from the host's root when it starts with "/".
        timeout: seconds of silence to bear, instead of the options' read_timeout.
        Signs in once more, and repeats the call once, when the platform no longer knows the session.
        Raises only PlatformError: Unreachable, LoginFailed, Denied, DeadlineExceeded, Conflict, NotFound, Refused,
        UnexpectedAnswer; AnswerLost for a write of unknown outcome; WriteForbidden in a read-only session.
        """

    def browse(self, url: str, *, timeout: float | None = None, host: str | None = None) -> EndpointAnswer:
        """GET an absolute https URL at a deployment as the signed-in person, following redirects.

        For looking at a private endpoint as its owner. host: what to state as Host instead of the URL's own.
        Raises Unreachable and nothing else.
        """

    def close(self) -> None:
        """Sign out. Never raises; may be called twice."""


class AdminSession(Protocol):
    """A signed-in administrator of the identity provider (Keycloak). Counters as in Session."""

    @property
    def hostname(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def requests_made(self) -> int: ...
    @property
    def writes_made(self) -> int: ...

    def users(self) -> list[User]:
        """All accounts of the platform's realm."""

    def find_user(self, username: str) -> User | None:
        """The account of that name, compared as Keycloak does: without regard to case."""

    def create_user(self, username: str, email: str, first_name: str, last_name: str, password: Secret) -> User:
        """Create an enabled account in the group `everyone` with the platform's default role. Conflict if it exists."""

    def impersonate(self, user: User) -> CookieJar:
        """Cookies of a new session of that account. LoginFailed if the platform refuses."""

    def close(self) -> None:
        """Sign out. Never raises; may be called twice."""
