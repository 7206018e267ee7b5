"""The MLflow server as its clients use it: public URL and bearer token.

Nothing here trusts a status alone. A private endpoint redirects unauthenticated requests to a login page that
answers 200, and MLflow's `/health` answers 200 without its database.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.http_log import log_exchange
from mlflow_ae5_deploy.common.redaction import Secret, scrub

PROBE = "api/2.0/mlflow/experiments/search?max_results=1"
LOGIN_FORM = b"kc-form-login"
_LONGEST_QUOTE = 300


class _Bearer(AuthBase):
    """As an auth object: requests replaces a plain Authorization header by ~/.netrc's."""

    def __init__(self, token: Secret | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        return request


@dataclass(frozen=True)
class Answer:
    """status 0 means that no answer came; `problem` then says why."""

    status: int
    content_type: str
    body: bytes
    problem: str = ""

    def json(self) -> Any:
        """The parsed body, or None when it is not JSON."""
        try:
            return json_input.parse(self.body)
        except ValueError:
            return None

    @property
    def message(self) -> str:
        """The answer in a form for messages."""
        if self.problem:
            return self.problem
        if 300 <= self.status < 400:
            return f"{self.status}, a redirect"
        if LOGIN_FORM in self.body:
            return f"{self.status} with the platform's login page"
        answer = self.json()
        if isinstance(answer, dict) and isinstance(answer.get("message"), str):  # MLflow's own errors
            text = f"{answer.get('error_code', '')} {answer['message'].partition(chr(10))[0]}"
        else:
            text = self.body[:2000].decode("utf-8", "replace")
        text = scrub(" ".join(text.split()))
        return f"{self.status} {text[:_LONGEST_QUOTE]}{'…' if len(text) > _LONGEST_QUOTE else ''}".strip()


@dataclass(frozen=True)
class Health:
    """status: healthy | unauthorised | unhealthy. message: what was seen, without a full stop."""

    status: str
    message: str
    answered: bool = True
    """Whether anything answered at all."""

    @property
    def healthy(self) -> bool:
        return self.status == "healthy"


def health_of(status: int, content_type: str, body: bytes, message: str) -> Health:
    """The health that an answer to PROBE shows."""
    if status == 200 and "json" in content_type:
        try:
            answer = json_input.parse(body)
        except ValueError:
            answer = None
        # MLflow leaves the list out when there is no experiment at all.
        if answer == {} or (isinstance(answer, dict) and isinstance(answer.get("experiments"), list)):
            return Health("healthy", "the MLflow API answered from its database")
    if status in (301, 302, 303, 307, 308, 401) or (status == 200 and LOGIN_FORM in body):
        return Health("unauthorised", message)
    if status == 403:
        if b"Invalid Host header" in body:
            return Health("unhealthy", "403: MLflow rejects the endpoint's host name (MLFLOW_SERVER_ALLOWED_HOSTS)")
        return Health("unauthorised", message)
    return Health("unhealthy", message or "no answer")


class ServerApi:
    """Calls to one server. Redirects, as to the login page, are not followed."""

    def __init__(
        self,
        url: str,
        token: Secret | None,
        *,
        ca_file: Path | None = None,
        verify_tls: bool = True,
        timeout: tuple[float, float] = (10.0, 30.0),
    ) -> None:
        self.url = url.rstrip("/")
        self._verify: bool | str = str(ca_file) if ca_file and verify_tls else verify_tls
        self._timeout = timeout
        self._http = requests.Session()
        self._http.auth = _Bearer(token)

    def call(
        self, method: str, path: str, *, body: Any = None, data: bytes | None = None, timeout: float | None = None
    ) -> Answer:
        try:
            answer = self._http.request(
                method,
                f"{self.url}/{path.lstrip('/')}",
                json=body,
                data=data,
                verify=self._verify,
                timeout=(self._timeout[0], timeout or self._timeout[1]),
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            return Answer(0, "", b"", f"TLS failed: {scrub(str(error))[:_LONGEST_QUOTE]}")
        except requests.exceptions.Timeout:
            return Answer(0, "", b"", "no answer in time")
        except requests.exceptions.RequestException as error:
            return Answer(0, "", b"", f"no connection ({type(error).__name__})")
        log_exchange(answer.request, answer, answer.elapsed.total_seconds())
        return Answer(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

    def health(self, timeout: float | None = None) -> Health:
        answer = self.call("GET", PROBE, timeout=timeout)
        return health_of(answer.status, answer.content_type, answer.body, answer.message)

    def close(self) -> None:
        self._http.close()
