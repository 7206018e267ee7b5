"""Follow the access token of an MLflow server on AE5, so that a training does not notice rotations and restarts.

For notebooks, jobs and scripts that log to the server, not for the tool: this file imports nothing of it, and needs
only MLflow's own dependencies (`pip install --no-deps`). Two lines:

    from mlflow_ae5_deploy.client import connect
    connect()

`connect` sets environment variables, so processes that start later follow the token too. `MLFLOW_TRACKING_AUTH=ae5`
alone does the same without code: MLflow finds `AuthProvider` by its entry point.

Every request of MLflow's tracking, registry, artifact and trace clients reads the token again. Requests that do not
pass MLflow's `http_request` do not: presigned URLs (they need no token), OpenTelemetry's own exporter
(OTEL_EXPORTER_OTLP_ENDPOINT) and SDKs that call the gateway.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

URL, REGISTRY, TOKEN = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN"
FOLDER = "MLFLOW_AE5_SECRETS_DIR"  # of the secret files; AE5's own by default
TOKEN_FILE = "MLFLOW_AE5_TOKEN_FILE"  # noqa: S105 - a file with the token, as `rotate-token` writes for a consumer
TOKEN_COMMAND = "MLFLOW_AE5_TOKEN_COMMAND"  # noqa: S105 - a command that prints the token; started without a shell
WAIT = "MLFLOW_AE5_TOKEN_WAIT"  # seconds to wait for a new token

_DEFAULT_FOLDER = "/var/run/secrets/user_credentials"
_DEFAULT_WAIT = 600.0
_RETRIES = "9"  # the most that every MLflow client accepts: 8 minutes, but 9 times Retry-After where a 503 has that
_COMMAND_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_ONE_WORD = re.compile(r"[!-~]+")

_log = logging.getLogger(__name__)
T = TypeVar("T")


class NoToken(requests.exceptions.RequestException):
    """There is no token, or none that the server accepts."""


def connect(
    url: str | None = None,
    *,
    token_file: str | os.PathLike[str] | None = None,
    token_command: str | None = None,
    wait: float | None = None,
) -> None:
    """Make MLflow log to the server on AE5, with a token that stays current.

    On AE5 no argument is needed: URL and token are secrets of the account. Elsewhere give the URL, and where the token
    comes from: a file that `rotate-token` keeps current, or a command that prints it.

    wait: seconds that a request may wait for a new token (600).
    """
    given = {TOKEN_FILE: token_file, TOKEN_COMMAND: token_command, WAIT: wait}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    address = url or _auth.address() or os.environ.get(URL)
    if not address:
        raise NoToken(
            f"No URL of the MLflow server: there is no {URL} in {_auth.folder}. On AE5, restart the session, or ask "
            "the administrator to make your account a consumer. Elsewhere call connect(url=...)."
        )
    _auth.token()
    os.environ.update({URL: address, REGISTRY: address, "MLFLOW_TRACKING_AUTH": AuthProvider.NAME})
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
    import mlflow

    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)


class FollowedToken(AuthBase):
    """Adds the current token to a request, and repeats the request when the token was replaced meanwhile.

    AE5's proxy checks the token before MLflow sees the request. It answers without one that it accepts with 401, with
    a redirect to the login page or that page, and with 404 while the endpoint has no deployment. Such a request was not
    executed, so also a POST may be sent again, as long as its body can be: text, bytes, or a file that can be rewound.
    All other failures, such as 503 or a lost connection, are left to MLflow's own retries, also those of a repeat.
    """

    def __init__(
        self,
        environment: MutableMapping[str, str] = os.environ,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment, self._sleep, self._monotonic = environment, sleep, monotonic
        self._lock = threading.Lock()
        self._waiting = 0  # requests; the first one logs
        self._printed: str | None = None  # by the command
        self._read = False  # a token was read before
        self._logged: set[str] = set()
        self._addresses: list[str] = []  # that the secret file has had, the current one last

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self._follow_address(request)
        if not self._is_server(request):
            self._say_once(f"No token is sent to {_origin(request.url)}: {URL} names another server.")
            return request
        _set_token(request, self.token())
        request.register_hook("response", self._answered)  # type: ignore[no-untyped-call]
        return request

    # the secrets ------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return Path(self._environment.get(FOLDER) or _DEFAULT_FOLDER)

    @property
    def wait(self) -> float:
        try:
            seconds = float(self._environment.get(WAIT) or _DEFAULT_WAIT)
        except ValueError:
            return _DEFAULT_WAIT
        return seconds if seconds >= 0 else _DEFAULT_WAIT  # NaN is not

    def address(self) -> str | None:
        """The URL in AE5's secret files; None without them.

        AE5's are two files with the same content: while one is half written, they differ.
        """
        file, registry = self.folder / URL, self.folder / REGISTRY
        if not file.exists():
            return None

        def read() -> str | None:
            found, other = _one_word(file), _one_word(registry)
            return found if found and (found == other or not registry.exists()) else None

        # Only the first is waited for.
        found = read() or (self._addresses[-1] if self._addresses else self._await(read, f"{file} is incomplete"))
        if found not in self._addresses[-1:]:
            self._addresses.append(found)
        return found

    def token(self) -> str:
        """The current token. While it is being written, it is waited for."""
        found = self._current()
        if found is not None:
            return found
        if not self._read and self._command:
            raise NoToken(f"No token of the MLflow server: the command in {TOKEN_COMMAND} printed none.")
        if not self._read and not self._token_file.exists():
            raise NoToken(
                f"No token of the MLflow server: there is no file {self._token_file}. On AE5, restart the session, or "
                "ask the administrator to make your account a consumer. Elsewhere call connect() with token_file or "
                "token_command."
            )
        return self._await(self._current, f"There is no complete token in {self._source}")

    def _current(self, *, renew: bool = False) -> str | None:
        """The token, or None while there is no whole one. renew: run the command again."""
        if not self._command:
            found = _one_word(self._token_file)
        else:
            with self._lock:
                if self._printed is None or renew:
                    self._printed = _output_of(self._command) or self._printed
                found = self._printed
        self._read = self._read or found is not None
        return found

    @property
    def _command(self) -> str | None:
        return self._environment.get(TOKEN_COMMAND)

    @property
    def _token_file(self) -> Path:
        return Path(self._environment.get(TOKEN_FILE) or self.folder / TOKEN)

    @property
    def _source(self) -> str:
        return TOKEN_COMMAND if self._command else str(self._token_file)

    # the server -------------------------------------------------------------------------------------------------------

    def _follow_address(self, request: requests.PreparedRequest) -> None:
        """Send to the current address what is for an earlier one."""
        current = self.address()
        earlier = {_origin(address) for address in self._addresses}
        here = _origin(request.url)
        if current and here in earlier and here != _origin(current):
            request.url = _origin(current) + (request.url or "")[len(here) :]

    def _is_server(self, request: requests.PreparedRequest) -> bool:
        """Whether the request is for the server: no other host gets the token."""
        named = [*self._addresses, self._environment.get(URL), self._environment.get(REGISTRY)]
        return _origin(request.url) in {_origin(address) for address in named if address}

    def _answered(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        """Return the answer, or that of the repeated request."""
        may_be_absent = _may_be_of_the_proxy(response)
        if not (may_be_absent or _is_rejection(response, kwargs)) or not _can_be_sent_again(response.request):
            return response
        what = f"{_host(response)} rejects the token in {self._source}"
        if may_be_absent:
            what += ", or no server runs there"
        what += f" (its answer was {response.status_code})"
        return self._await(lambda: self._sent_again(response, kwargs), what)

    def _sent_again(self, response: requests.Response, kwargs: dict[str, Any]) -> requests.Response | None:
        """The answer to the request with the current token; None while the proxy rejects it.

        A probe tests the token first, because the body may be large. MLflow answers unknown paths and hosts with 403
        and 404, too: such an answer is MLflow's if it accepts the token both before the repeat and after its answer.
        """
        again = response.request.copy()
        self._follow_address(again)
        if _is_rejection(response, kwargs) or not self._opens(again, kwargs):
            probed = None if _is_rejection(response, kwargs) else again.headers["Authorization"]
            token = self._current(renew=True)
            if token is None:
                return None
            _set_token(again, token)
            if again.headers["Authorization"] == probed or not self._opens(again, kwargs):
                return None
        if response.request.body is not None and not isinstance(response.request.body, str | bytes):
            requests.utils.rewind_body(again)
        response.content  # noqa: B018 - reads the rest, so that the connection can be used again
        response.close()
        repeated: requests.Response = response.connection.send(again, **kwargs)
        repeated.request = again
        if _is_rejection(repeated, kwargs) or (_may_be_of_the_proxy(repeated) and not self._opens(again, kwargs)):
            repeated.close()
            return None
        repeated.history.append(response)
        return repeated

    def _opens(self, request: requests.PreparedRequest, kwargs: dict[str, Any]) -> bool:
        """Whether MLflow answers to the request's token."""
        given = {name: kwargs.get(name) for name in ("verify", "cert", "proxies")}
        token = str(request.headers["Authorization"]).partition(" ")[2]

        def auth(probe: requests.PreparedRequest) -> requests.PreparedRequest:
            _set_token(probe, token)
            return probe

        try:
            answer = requests.get(
                f"{_origin(request.url)}/version", auth=auth, timeout=30, allow_redirects=False, **given
            )
        except requests.exceptions.RequestException:
            return False
        return answer.status_code == 200 and bool(re.fullmatch(r"\d+\.\d+\S*", answer.text.strip()))

    # waiting ----------------------------------------------------------------------------------------------------------

    def _await(self, read: Callable[[], T | None], what: str) -> T:
        """What `read` returns, once that is not None; NoToken after the wait."""
        found = read()
        if found is not None:
            return found
        began, pause = self._monotonic(), _FIRST_PAUSE
        with self._lock:
            self._waiting += 1
            first = self._waiting == 1
        if first:
            _log.warning("%s. Waiting up to %.0f s for a new one.", what, self.wait)
        try:
            while (left := began + self.wait - self._monotonic()) > 0:
                self._sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
                found = read()
                if found is not None:
                    _log.info("Waited %.1f s for the token of the MLflow server.", self._monotonic() - began)
                    return found
        finally:
            with self._lock:
                self._waiting -= 1
        raise NoToken(
            f"{what}. Waited {self.wait:.0f} s for a new one: ask the administrator to start the server or rotate the "
            "token."
        )

    def _say_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _log.warning(text)


class AuthProvider:
    """MLflow's plugin, `mlflow.request_auth_provider`: one token for the whole process."""

    NAME = "ae5"

    def get_name(self) -> str:
        return self.NAME

    def get_auth(self) -> FollowedToken:
        return _auth


def _set_token(request: requests.PreparedRequest, token: str) -> None:
    request.headers["Authorization"] = f"Bearer {token}"


def _origin(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}"


def _host(response: requests.Response) -> str:
    return urlsplit(response.url).netloc


def _is_rejection(response: requests.Response, kwargs: dict[str, Any]) -> bool:
    """What MLflow itself never answers. The page of a streamed answer may be an artifact."""
    if response.status_code == 401 or response.is_redirect:
        return True
    is_page = response.status_code == 200 and "html" in response.headers.get("Content-Type", "")
    return is_page and not kwargs.get("stream") and b"kc-form-login" in response.content


def _may_be_of_the_proxy(response: requests.Response) -> bool:
    """Whether it is a 403 or 404 without the JSON of MLflow's API or of its web framework."""
    if response.status_code not in (403, 404):
        return False
    try:
        answer = response.json()
    except ValueError:
        return True
    return not isinstance(answer, dict) or not {"error_code", "detail"} & answer.keys()


def _can_be_sent_again(request: requests.PreparedRequest) -> bool:
    """Whether the body can: a generator is spent, and requests notes where a file began only if it can be rewound."""
    return request.body is None or isinstance(request.body, str | bytes) or isinstance(request._body_position, int)


def _one_word(file: Path) -> str | None:
    """The file's content, if that is what a whole file has: one word."""
    try:
        return _word(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _output_of(command: str) -> str | None:
    """What the command prints, if that is one word. Its output is in no log and no error."""
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_SECONDS,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _log.debug("%s: %s", TOKEN_COMMAND, type(error).__name__)
        return None
    return _word(done.stdout.decode("ascii", "replace"))


def _word(text: str) -> str | None:
    """The text without spaces and line breaks around it, if that is one word."""
    word = text.strip()
    return word if _ONE_WORD.fullmatch(word) else None


_auth = FollowedToken()
