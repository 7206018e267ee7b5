"""GET requests for releases: https, timeouts, few retries, errors with a remedy.

Not the platform's session: this one talks to GitHub, to a mirror or to a URL that the user named. Proxies and
`.netrc` of the environment are honoured, as corporate mirrors need them.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import requests
import requests.adapters
import urllib3.exceptions
from urllib3.util.ssl_ import create_urllib3_context

from mlflow_ae5_deploy.common.clock import Clock, Deadline
from mlflow_ae5_deploy.common.errors import (
    Configuration,
    DeadlineExceeded,
    Denied,
    DeployError,
    Refused,
    UnexpectedAnswer,
    Unreachable,
    chain,
)
from mlflow_ae5_deploy.common.redaction import register

_log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 3
_PAUSES = (1.0, 3.0)  # seconds before the second and the third try
_CHUNK = 1 << 16
_LARGEST_DOCUMENT = 8 << 20
_LONG_ENOUGH_FOR_A_SECRET = 16  # of a query's values: shorter ones are words such as "true"


class NotThere(Exception):
    """404 or 410: the server does not have it."""


class TransientError(Exception):
    """A failure that may pass. error: raised when the retries are used up."""

    def __init__(self, error: DeployError) -> None:
        super().__init__(error.what)
        self.error = error


@dataclass(frozen=True)
class Timeouts:
    """Seconds for making a connection, and between two pieces of an answer."""

    connect: float
    read: float


class _Session(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called for every redirect, before it is followed."""
        check_url(prepared_request.url or "", "the redirect's target")
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]


class _TrustingAlso(requests.adapters.HTTPAdapter):
    """Trust the authorities of a file as well as the usual ones."""

    def __init__(self, ca_file: Path) -> None:
        self._context = create_urllib3_context()
        try:
            self._context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror if error.errno and error.strerror else "it holds no certificate"
            raise Configuration(
                f"The file of certificate authorities cannot be used: {reason}.", where=str(ca_file)
            ) from None
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        return super().proxy_manager_for(proxy, **more, ssl_context=self._context)


class HttpClient:
    """Requests that share a deadline. Use as a context manager."""

    def __init__(self, deadline: Deadline, timeouts: Timeouts, ca_file: Path | None, remedy: str) -> None:
        self.clock: Clock = deadline.clock
        self.deadline = deadline
        self._timeouts = timeouts
        self._remedy = remedy
        self._session = _Session()
        self._session.max_redirects = 5
        if ca_file is not None:
            self._session.mount("https://", _TrustingAlso(ca_file))

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def retrying(self, attempt: Callable[[], T]) -> T:
        """Up to TRIES attempts, as long as they fail with TransientError and there is time."""
        for number in range(TRIES):
            try:
                return attempt()
            except TransientError as failure:
                if number == TRIES - 1 or self.deadline.expired():
                    raise failure.error from None
                self.clock.sleep(min(_PAUSES[number], self.deadline.remaining()))
        raise AssertionError("not reached")

    def document(self, url: str, accept: str) -> bytes:
        """A small answer, whole. Raises NotThere, or a DeployError."""

        def attempt() -> bytes:
            with self.opened(url, {"Accept": accept}) as response:
                body = bytearray()
                for chunk in self.chunks(response, url):
                    body += chunk
                    if len(body) > _LARGEST_DOCUMENT:
                        raise UnexpectedAnswer("The answer is too long.", where=public_form(url))
                return bytes(body)

        return self.retrying(attempt)

    @contextmanager
    def opened(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """Send one request, its body unread.

        Raises NotThere, TransientError or a DeployError for other statuses than 200, 206 and 416.
        """
        if self.deadline.expired():
            raise self.too_late(url)
        left = self.deadline.remaining()
        timeouts = (min(self._timeouts.connect, left), min(self._timeouts.read, left))
        # No compression in transit: sizes and ranges are those of the file, and a .gz stays one.
        headers = {"Accept-Encoding": "identity", **headers}
        with self._translated(url):
            response = self._session.get(url, headers=headers, stream=True, timeout=timeouts)
        _log.info("GET %s %d", public_form(url), response.status_code)
        with response:
            if response.status_code not in (200, 206, 416):
                raise self._failure(response, url)
            yield response

    def chunks(self, response: requests.Response, url: str) -> Iterator[bytes]:
        """The body's bytes as sent. TransientError for a short body, DeadlineExceeded."""
        stream: Iterator[bytes] = response.raw.stream(_CHUNK, decode_content=False)
        while True:
            with self._translated(url):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield chunk
            if self.deadline.expired():
                raise self.too_late(url)

    def too_late(self, url: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"Timed out after {self.deadline.seconds:.0f} s downloading the release.",
            where=public_form(url),
            remedy="Run it again: it resumes the download. " + self._remedy,
        )

    def unreachable(self, url: str, reason: str) -> Unreachable:
        return Unreachable(f"{host_of(url)} cannot be reached: {reason}.", where=public_form(url), remedy=self._remedy)

    def _failure(self, response: requests.Response, url: str) -> Exception:
        status = response.status_code
        message = f"HTTP {status}"
        if status in (404, 410):
            return NotThere()
        if status == 429 or (status == 403 and response.headers.get("X-RateLimit-Remaining") == "0"):
            error = self.unreachable(url, f"it limits the number of requests ({message}); try again later")
            return TransientError(error) if status == 429 else error
        if status in (401, 403, 407):
            return Denied(
                f"{host_of(url)} refuses access ({message}).",
                where=public_form(url),
                remedy="Put the credentials for it into ~/.netrc. " + self._remedy,
                status=status,
            )
        if status >= 500:
            return TransientError(self.unreachable(url, f"it answers {message}"))
        return Refused(f"{host_of(url)} answers {message}.", where=public_form(url), remedy=self._remedy, status=status)

    @contextmanager
    def _translated(self, url: str) -> Iterator[None]:
        """Foreign errors carry whole URLs, tokens included, so their texts are not used."""
        try:
            yield
        except requests.exceptions.TooManyRedirects:
            raise self.unreachable(url, "it redirects in circles") from None
        except requests.exceptions.ProxyError:
            raise TransientError(self.unreachable(url, "the proxy (HTTPS_PROXY) does not work")) from None
        except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
            raise Unreachable(
                f"The certificate of {host_of(url)} is not trusted: {_innermost(error)}.",
                where=public_form(url),
                remedy="Name the file with its certificate authority in the configuration (ca_file). " + self._remedy,
            ) from None
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            raise TransientError(self.unreachable(url, "no answer in time")) from None
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            urllib3.exceptions.HTTPError,
        ) as error:
            raise TransientError(self.unreachable(url, _innermost(error))) from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise Configuration(
                f"{public_form(url)} cannot be requested ({type(error).__name__}).", where=public_form(url)
            ) from None
        except OSError as error:  # REQUESTS_CA_BUNDLE names a file that is not there
            raise Configuration(
                "The environment's certificate authorities (REQUESTS_CA_BUNDLE) cannot be used.",
                where=str(getattr(error, "filename", None) or "REQUESTS_CA_BUNDLE"),
            ) from None


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of a chain of errors, without addresses."""
    seen = list(chain(error))
    for one in seen:
        if isinstance(one, ssl.SSLCertVerificationError):
            return one.verify_message or "verification failed"
    for one in seen:
        if isinstance(one, ssl.SSLError):
            return (one.reason or "TLS failed").lower().replace("_", " ")
        if isinstance(one, socket.gaierror):
            return "unknown host name"
        if isinstance(one, urllib3.exceptions.IncompleteRead):
            return "the download ended too early"
        if isinstance(one, OSError) and one.strerror:
            return one.strerror.lower()
    return "the connection broke"


def public_form(url: str) -> str:
    """The URL for messages and records: without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def check_url(url: str, called: str) -> str:
    """The URL if it is https, or http on loopback. Registers its secrets."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Configuration(f"The address of {called} is not a URL.", where=called) from None
    for secret in (parts.password or "", unquote(parts.password or "")):
        register(secret)
    for _, value in parse_qsl(parts.query):
        if len(value) >= _LONG_ENOUGH_FOR_A_SECRET:
            register(value)
    if not host:
        raise Configuration(f"The address of {called} names no host.", where=public_form(url))
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return url
    raise Configuration(
        f"The address of {called} is not https.",
        where=public_form(url),
        remedy="Use an https:// address; http:// is accepted for this machine only.",
    )


def host_of(url: str) -> str:
    """Host and port, without userinfo."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
