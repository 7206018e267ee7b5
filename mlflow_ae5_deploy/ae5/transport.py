"""The transport of every request to the platform, whichever provider sends it.

An adapter, mounted on the `requests` session of ae5-tools as well as on our own. It verifies TLS unless
`platform.verify_tls` is off. It sends nothing without a time limit and no write in a plan; to another host it sends no
write, and of the credentials only cookies of that domain and, below the platform's name, the headers of Cloudflare. It
repeats only GET, HEAD and OPTIONS, and raises on answers that ae5-tools or `requests` would misread. Above it,
`session.py` repeats any call once on an expired session: the platform refused it unseen.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import disable_warnings
from urllib3.exceptions import InsecureRequestWarning

from mlflow_ae5_deploy.ae5.error_map import CONNECT_TIMEOUT, READ_TIMEOUT, MappedError, diagnose
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.responses import BUSY_STATUSES, SAFE_METHODS, is_write, judge
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, UnexpectedAnswer, WriteForbidden
from mlflow_ae5_deploy.common.http_log import log_exchange

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_LONGEST_PAUSE = 10.0  # seconds, whatever Retry-After says
_PRIVATE_HEADERS = ("x-xsrftoken", "Authorization")
_CLOUDFLARE_HEADERS = ("CF-Access-Client-Id", "CF-Access-Client-Secret")


OnSent = Callable[[int, int], None]
"""Called with the bytes of a request's body, and how many of them are sent."""


def guard(session: requests.Session, options: ConnectionOptions, clock: Clock, *, read_only: bool) -> TransportAdapter:
    """Mount a new adapter on a session, and remove what `requests` adds by itself."""
    adapter = TransportAdapter(options, clock, read_only=read_only)
    session.mount("https://", adapter)
    session.mount("http://", _NoPlainHttp())
    session.verify = True  # for readers of the object; the adapter decides
    session.cert = None
    session.auth = lambda request: request  # else a ~/.netrc entry replaces the Authorization header
    session.max_redirects = 10
    if not options.verify_tls:
        disable_warnings(InsecureRequestWarning)  # warned of once by the environment stage, not on every request
    session.hooks["response"] = []  # ae5-tools' API_DEBUG prints addresses, which carry login codes
    return adapter


@dataclass(frozen=True)
class DatedAnswer:
    """The platform's time in an answer, and when the request was sent, by both clocks of this machine."""

    stated: datetime
    sent: datetime
    monotonic: float


class _Reported(io.BytesIO):
    """The body of a request, which reports how much of it was read to be sent."""

    def __init__(self, body: bytes, on_sent: OnSent) -> None:
        super().__init__(body)
        self._report = partial(on_sent, len(body))

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        self._report(self.tell())
        return part


class TransportAdapter(HTTPAdapter):
    """The guarded adapter. last_page: latest HTML text, to explain a failed login. dated: latest answer with a time.

    on_sent: called while a body of bytes is sent.
    """

    def __init__(self, options: ConnectionOptions, clock: Clock, *, read_only: bool) -> None:
        super().__init__(max_retries=0)
        self._options = options
        self._clock = clock
        self._read_only = read_only
        self.requests_made = 0
        self.writes_made = 0
        self.last_page = ""
        self.dated: DatedAnswer | None = None
        self.on_sent: OnSent | None = None

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - the body is always read here, under our deadline
        timeout: Any = None,
        verify: bool | str = True,  # noqa: ARG002 - a caller or the environment may not weaken this
        cert: Any = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One checked answer. Raises PlatformError, never a foreign network error."""
        method, url = (request.method or "GET").upper(), request.url or ""
        at_home = _address(url) == _address(f"https://{self._options.hostname}")
        self._check(request, method, url, at_home)
        retries = self._options.retries if at_home and method in SAFE_METHODS else 0
        for attempt in range(retries + 1):
            sent, began = self._clock.now(), self._clock.monotonic()
            response, trouble = self._attempt(request, timeout, proxies, at_home)
            log_exchange(request, response, self._clock.monotonic() - began)
            again = trouble.transient if trouble else response is not None and response.status_code in BUSY_STATUSES
            if attempt == retries or not again:
                break
            pause = _pause(attempt, response)
            _log.info("retry %d of %d in %.1f s", attempt + 1, retries, pause)
            self._clock.sleep(pause)
        if response is None:
            parts = urlsplit(url)  # without the query, which may carry login codes
            write = at_home and is_write(method, parts.path)
            where = f"{method} {parts.netloc}{parts.path}"
            connect, silence = self._limits(timeout)
            seconds = connect if trouble is CONNECT_TIMEOUT else silence
            raise (trouble or READ_TIMEOUT).as_error(parts.netloc, write=write, where=where, seconds=seconds)
        if at_home:
            if (stated := _date_of(response)) is not None:
                self.dated = DatedAnswer(stated, sent, began)
            if response.headers.get("content-type", "").startswith("text/html"):
                self.last_page = response.text
            if error := judge(method, url, response):
                raise error
        return response

    def _check(self, request: requests.PreparedRequest, method: str, url: str, at_home: bool) -> None:
        if self._read_only and is_write(method, urlsplit(url).path):
            raise WriteForbidden(f"{method} {urlsplit(url).path} was stopped: this session is read-only.")
        if request.headers.get("Authorization", "").startswith("Basic "):
            del request.headers["Authorization"]  # from ~/.netrc; requests looks there again at every redirect
        if at_home:
            return
        host = urlsplit(url).hostname or ""
        if method not in SAFE_METHODS:
            raise UnexpectedAnswer(
                f"The platform redirects a write to another host, {host}; nothing was sent.",
                where=self._options.hostname,
                remedy="If that host is the platform's proper name, set platform.hostname to it.",
            )
        for header in _PRIVATE_HEADERS:
            request.headers.pop(header, None)
        if not host.endswith("." + self._options.hostname.split(":")[0]):
            for header in _CLOUDFLARE_HEADERS:
                request.headers.pop(header, None)

    def _attempt(
        self, request: requests.PreparedRequest, timeout: Any, proxies: Mapping[str, str] | None, at_home: bool
    ) -> tuple[requests.Response | None, MappedError | None]:
        """One request on the wire: the answer, or the error behind a foreign exception."""
        if at_home:
            self.requests_made += 1
            self.writes_made += is_write(request.method or "GET", urlsplit(request.url or "").path)
        options, (connect, silence) = self._options, self._limits(timeout)
        if self.on_sent is not None and isinstance(body := request.body, bytes):
            request = request.copy()
            request.body = _Reported(body, self.on_sent)  # type: ignore[assignment]
        try:
            response = super().send(
                request,
                stream=True,
                timeout=(connect, silence),
                verify=options.trust(),
                cert=str(options.client_cert) if options.client_cert and at_home else None,
                proxies=proxies,
            )
            self._read_body(response, max(options.upload_timeout, silence) if timeout is None else silence)
        except DeadlineExceeded:
            return None, READ_TIMEOUT
        except Exception as error:
            trouble = diagnose(error)
            if trouble is None:
                raise
            return None, trouble
        return response, None

    def _limits(self, timeout: Any) -> tuple[float, float]:
        """Seconds to wait for a connection, and for an answer. timeout: of this request, for both."""
        options = self._options
        if not isinstance(timeout, int | float):
            return options.connect_timeout, options.read_timeout
        return min(options.connect_timeout, timeout), timeout

    def _read_body(self, response: requests.Response, seconds: float) -> None:
        """Read the whole answer. An answer that trickles without end counts as none."""
        end = self._clock.monotonic() + seconds
        chunks = []
        # read1 returns what is there; read would wait, without a limit of its own, until a chunk is full
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            chunks.append(chunk)
            if self._clock.monotonic() > end:
                response.close()
                raise DeadlineExceeded("The answer did not end.")
        response._content = b"".join(chunks)


class _NoPlainHttp(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        host = urlsplit(request.url or "").netloc
        raise UnexpectedAnswer(f"The platform redirects to plain http at {host}; nothing was sent there.", where=host)

    def close(self) -> None:
        pass


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or 443


def _date_of(response: requests.Response) -> datetime | None:
    try:
        stated = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)


def _pause(attempt: int, response: requests.Response | None) -> float:
    """Seconds before the next attempt: 0.5, 1, 2... or Retry-After, bounded."""
    requested = response.headers.get("retry-after", "") if response is not None else ""
    seconds = float(requested) if requested.isascii() and requested.isdigit() else 0.5 * 2.0**attempt
    return min(seconds, _LONGEST_PAUSE)
