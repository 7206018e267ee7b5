"""Requests to a deployment's address, as a signed-in account's browser sends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from mlflow_ae5_deploy.ae5 import auth
from mlflow_ae5_deploy.ae5.error_map import shielded
from mlflow_ae5_deploy.ae5.providers.provider import Connection
from mlflow_ae5_deploy.ae5.responses import LOGIN_FORM
from mlflow_ae5_deploy.common.errors import PlatformError, Unreachable

_MOST_REDIRECTS = 10
_MOST_TEXT = 64 * 1024


@dataclass(frozen=True)
class EndpointAnswer:
    """The answer of an address to a browser-like GET."""

    status: int
    content_type: str
    text: str  # the first 64 KiB
    url: str  # of the last answer, without its query, which may carry login codes


class Browser:
    """A browser with its own cookie jar, so that endpoints' cookies stay in it."""

    def __init__(self, connection: Connection, hostname: str, sign_in: Callable[[], None]) -> None:
        self._connection = connection
        self._hostname = hostname
        self._sign_in = sign_in
        self._http: requests.Session | None = None

    def browse(self, url: str, timeout: float | None, host: str | None = None) -> EndpointAnswer:
        problem: PlatformError
        try:
            answer = self._visit(url, timeout, host)
            if LOGIN_FORM.search(answer.text) and self._is_ours(answer.url, url):
                self._sign_in()  # the session has expired
                self._http = None
                answer = self._visit(url, timeout, host)
        except PlatformError as error:
            problem = error
        else:
            return answer
        if isinstance(problem, Unreachable):
            raise problem
        raise Unreachable(problem.what, where=problem.where, remedy=problem.remedy, status=problem.status)

    def _visit(self, url: str, timeout: float | None, host: str | None) -> EndpointAnswer:
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise Unreachable("This is not an https address of a deployment.", where=_bare(url))
        http, at = self._session(), url
        for _ in range(_MOST_REDIRECTS):
            headers = {"Host": host} if host and at == url else None
            request = partial(http.get, at, allow_redirects=False, timeout=timeout, headers=headers)
            response = shielded(request, host=_bare(at))
            location = response.headers.get("location", "").strip()
            following = urljoin(at, location)
            if not 300 <= response.status_code < 400 or not location or not self._is_ours(following, url):
                text = response.content[:_MOST_TEXT].decode("utf-8", errors="replace")
                return EndpointAnswer(response.status_code, response.headers.get("content-type", ""), text, _bare(at))
            at = following
        raise Unreachable("The address redirects without end.", where=_bare(url))

    def _session(self) -> requests.Session:
        if self._http is None:
            http = requests.Session()
            http.mount("https://", self._connection.adapter)
            http.auth = self._connection.http.auth
            http.headers.update(auth.cloudflare_headers())
            auth.adopt_cookies(http, self._connection.http.cookies)
            self._http = http
        return self._http

    def _is_ours(self, url: str, requested: str) -> bool:
        """Whether a redirect stays on the platform, its sub-domains or the requested host."""
        parts = urlsplit(url)
        host, home = (parts.hostname or "").lower(), self._hostname.split(":")[0].lower()
        allowed = host in (home, (urlsplit(requested).hostname or "").lower()) or host.endswith("." + home)
        return parts.scheme == "https" and allowed


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
