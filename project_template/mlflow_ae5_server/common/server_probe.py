"""Probe a server: does it accept this token, and reach its stores?

`/health` answers 200 even if the database is down or the token stale: it tests neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import Configuration, LoginFailed, ProjectError, Unreachable
from mlflow_ae5_server.common.redaction import scrub

DEADLINE = 10.0  # seconds for all probes together
_PER_REQUEST = 6.0


@dataclass(frozen=True)
class Experiment:
    """Enough of an experiment to recognise it in the database."""

    experiment_id: str
    creation_time: int


class Prober:
    """Probes one server, with token and trust settings of `environ`."""

    def __init__(
        self,
        uri: str | None,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not uri:
            raise Configuration(
                "MLFLOW_TRACKING_URI is not set, so the server cannot be probed",
                "set it to the URL of the server's endpoint, as an AE5 secret or a variable of the job",
            )
        if not uri.lower().startswith(("http://", "https://")):
            raise Configuration("MLFLOW_TRACKING_URI is not an http(s) URL", "set it to the server's endpoint")
        self._uri = uri.rstrip("/")
        self._shown = scrub(self._uri)
        token = environ.get("MLFLOW_TRACKING_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._verify: bool | str = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
        bundle = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or environ.get("REQUESTS_CA_BUNDLE")
        if bundle and not Path(bundle).exists():
            raise Configuration(
                f"there is no certificate file {bundle}",
                "correct MLFLOW_TRACKING_SERVER_CERT_PATH or REQUESTS_CA_BUNDLE",
            )
        if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
            self._verify = False
        self._clock, self._sleep = clock, sleep
        self._deadline = clock() + DEADLINE

    def check(self) -> Experiment | None:
        """The server's first experiment, if it has one, after its stores answered.

        Raises Unreachable, LoginFailed or Configuration within DEADLINE plus one request's timeout.
        """
        answer = self._call("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1, "view_type": "ALL"})
        self._call("GET", "/api/2.0/mlflow-artifacts/artifacts", params={"path": ".probe"})
        experiments = answer.get("experiments") or []
        if not experiments:
            return None
        return Experiment(str(experiments[0]["experiment_id"]), int(experiments[0].get("creation_time") or 0))

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        pause = 0.5
        while True:
            try:
                return self._once(method, path, **arguments)
            except Unreachable:
                if self._clock() + pause >= self._deadline:
                    raise
            self._sleep(pause)
            pause = min(pause * 2, 4.0)

    def _once(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        import requests

        seconds = max(1.0, min(_PER_REQUEST, self._deadline - self._clock()))
        try:
            answer = requests.request(
                method,
                self._uri + path,
                headers=self._headers,
                verify=self._verify,
                timeout=(seconds, seconds),
                allow_redirects=False,
                **arguments,
            )
        except requests.exceptions.SSLError as error:
            raise Configuration(
                f"the certificate of {self._shown} is not trusted: {_first_line(error)}",
                "set REQUESTS_CA_BUNDLE or MLFLOW_TRACKING_SERVER_CERT_PATH to the file of the CA that issued it",
            ) from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise self._down(_first_line(error)) from None
        return self._judge(answer.status_code, answer.headers.get("Content-Type", ""), answer.text, path)

    def _judge(self, status: int, content_type: str, text: str, path: str) -> dict[str, Any]:
        import json

        excerpt = scrub(" ".join(text.split())[:200])
        if status in {401, 403} and "Invalid Host header" in text:
            raise Configuration(
                f"{self._shown} rejected the host name: {excerpt}", "use the address of the static endpoint"
            )
        if 300 <= status < 400 or status in {401, 403}:
            raise LoginFailed(
                f"{self._shown} did not accept the token (HTTP {status})",
                "issue a new token for the running deployment and store it as the secret MLFLOW_TRACKING_TOKEN",
            )
        if status >= 500 or status in {408, 429}:
            raise self._down(f"HTTP {status} from {path}: {excerpt}")
        if status != 200:
            raise Configuration(
                f"{self._shown} is not an MLflow server: HTTP {status} from {path}: {excerpt}",
                "set MLFLOW_TRACKING_URI to the server's endpoint",
            )
        try:
            decoded = json.loads(text) if "json" in content_type else None
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict):
            raise LoginFailed(
                f"{self._shown} answered with an HTML page instead of JSON: a login page or another application",
                "check MLFLOW_TRACKING_URI, and store a new token as the secret MLFLOW_TRACKING_TOKEN",
            )
        return decoded

    def _down(self, reason: str) -> ProjectError:
        return Unreachable(
            f"the server {self._shown} is not available: {reason}",
            "check the deployment's log, and start it again",
        )


def _first_line(error: BaseException) -> str:
    """First line of the innermost error, which requests and urllib3 wrap."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    text = str(cause).rpartition("object at")[2] if "object at" in str(cause) else str(cause)
    return scrub((text.splitlines() or [type(error).__name__])[0])[:300]
