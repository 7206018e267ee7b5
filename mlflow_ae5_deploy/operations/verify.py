"""Prove the server from outside: what a client does every day, and what a stranger must not be able to do.

Everything is created under names of its own and taken away again, also when a step fails.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import VerificationFailed
from mlflow_ae5_deploy.common.mlflow_api import LOGIN_FORM, PROBE, Answer, ServerApi, judge
from mlflow_ae5_deploy.resources.served_database import Observation

API = "api/2.0/mlflow"
ARTIFACTS = "api/2.0/mlflow-artifacts/artifacts"
_SIZE = 64 * 1024


@dataclass(frozen=True)
class Check:
    """One thing that was tried. message: what was seen."""

    name: str
    passed: bool
    message: str
    seconds: float


@dataclass
class Verification:
    url: str
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


class _Failed(Exception):
    pass


class Verifier:
    """token_api opens the server with the good token; bare_api without any; wrong_api with a wrong one.

    database: what the server's log shows of it; None where it shows nothing, and then nothing is said of it.
    """

    def __init__(
        self,
        token_api: ServerApi,
        bare_api: ServerApi,
        wrong_api: ServerApi,
        clock: Clock,
        database: Observation | None = None,
    ) -> None:
        self._database = database
        self._api = token_api
        self._unauthenticated = (("no token gets nothing", bare_api), ("a wrong token gets nothing", wrong_api))
        self._clock = clock
        self._tag = f"mlflow-ae5-deploy-verify-{secrets.token_hex(6)}"
        self._experiment = self._run = self._model = self._artifact = ""
        self._artifact_path = ""
        self._payload = secrets.token_bytes(_SIZE)

    def verify(self, on_check: Callable[[Check], None] | None = None) -> Verification:
        """Run every check; a failed one skips those that build on it, never the clean-up."""
        outcome = Verification(self._api.url)
        steps: list[tuple[str, Callable[[], str]]] = [
            ("the API answers from its database", self._reaches_database),
            ("an experiment and a run are created", self._create),
            ("a parameter, a metric and a tag are logged and read back", self._log),
            ("an artifact is uploaded through the server", self._upload),
            ("the artifact comes back the same", self._download),
            ("a model version is registered", self._register),
        ]
        if self._database is not None:
            steps.insert(1, ("it works on the configured database", self._on_the_configured_database))
        stopped = False
        for name, step in steps:
            if stopped:
                continue
            check = self._try(name, step)
            outcome.checks.append(check)
            if on_check:
                on_check(check)
            stopped = not check.passed
        for name, api in self._unauthenticated:
            check = self._try(name, lambda api=api: self._refused(api))  # type: ignore[misc]
            outcome.checks.append(check)
            if on_check:
                on_check(check)
        check = self._try("what was created is taken away again", self._clean)
        outcome.checks.append(check)
        if on_check:
            on_check(check)
        return outcome

    def _try(self, name: str, step: Callable[[], str]) -> Check:
        began = self._clock.monotonic()
        try:
            message, passed = step(), True
        except _Failed as failure:
            message, passed = str(failure), False
        except (KeyError, TypeError) as error:  # JSON, but not what MLflow would say
            message, passed = f"the answer does not have the promised form ({type(error).__name__}: {error})", False
        return Check(name, passed, message, self._clock.monotonic() - began)

    # the steps --------------------------------------------------------------------------------------------------

    def _reaches_database(self) -> str:
        health = self._api.health()
        if not health.healthy:
            raise _Failed(health.message)
        return health.message

    def _on_the_configured_database(self) -> str:
        if self._database is None or not self._database.same:
            raise _Failed(self._database.difference if self._database else "nothing is known of it")
        return f"{self._database.served}, by its log"

    def _create(self) -> str:
        self._experiment = self._post("experiments/create", {"name": self._tag})["experiment_id"]
        run = self._post("runs/create", {"experiment_id": self._experiment, "start_time": self._now_ms()})["run"]
        self._run = run["info"]["run_id"]
        self._artifact = run["info"]["artifact_uri"]
        return f"experiment {self._experiment}, run {self._run}"

    def _log(self) -> str:
        self._post("runs/log-parameter", {"run_id": self._run, "key": "verify", "value": self._tag})
        self._post(
            "runs/log-metric", {"run_id": self._run, "key": "verify", "value": 0.25, "timestamp": self._now_ms()}
        )
        self._post("runs/set-tag", {"run_id": self._run, "key": "verify", "value": self._tag})
        answer = self._api.call("GET", f"{API}/runs/get?run_id={self._run}")
        data = self._json(answer).get("run", {}).get("data", {})
        param = {p["key"]: p["value"] for p in data.get("params", [])}.get("verify")
        metric = {m["key"]: m["value"] for m in data.get("metrics", [])}.get("verify")
        tag = {t["key"]: t["value"] for t in data.get("tags", [])}.get("verify")
        if (param, metric, tag) != (self._tag, 0.25, self._tag):
            raise _Failed("what was read back differs from what was logged")
        return "the same values came back"

    def _upload(self) -> str:
        scheme, _, rest = self._artifact.partition(":")
        if scheme != "mlflow-artifacts":
            raise _Failed(
                f"the server does not proxy artifacts: a new run's artifact folder is on `{scheme}:`, "
                "so clients would need their own access to it"
            )
        root = rest.lstrip("/")
        if rest.startswith("//"):  # mlflow-artifacts://host/path names a host first
            root = root.partition("/")[2]
        self._artifact_path = f"{root}/verify/payload.bin"
        answer = self._api.call("PUT", f"{ARTIFACTS}/{self._artifact_path}", data=self._payload, timeout=60)
        if answer.status != 200 or LOGIN_FORM in answer.body:
            raise _Failed(answer.message)
        return f"{_SIZE} bytes"

    def _download(self) -> str:
        answer = self._api.call("GET", f"{ARTIFACTS}/{self._artifact_path}", timeout=60)
        if answer.status != 200:
            raise _Failed(answer.message)
        sent, got = (hashlib.sha256(data).hexdigest() for data in (self._payload, answer.body))
        if sent != got:
            raise _Failed(f"{len(answer.body)} bytes came back and differ from the {len(self._payload)} sent")
        return f"{len(answer.body)} bytes, the same SHA-256"

    def _register(self) -> str:
        self._model = self._tag
        self._post("registered-models/create", {"name": self._model})
        version = self._post(
            "model-versions/create",
            {"name": self._model, "source": f"{self._artifact}/verify", "run_id": self._run},
        )["model_version"]
        answer = self._api.call("GET", f"{API}/model-versions/get?name={self._model}&version={version['version']}")
        status = self._json(answer).get("model_version", {}).get("status")
        if status != "READY":
            raise _Failed(f"version {version['version']} is {status}")
        return f"version {version['version']} is READY"

    def _refused(self, api: ServerApi) -> str:
        answer = api.call("GET", PROBE)
        status = judge(answer.status, answer.content_type, answer.body, answer.message).status
        if status == "healthy" or (answer.json() is not None and answer.status == 200):
            raise _Failed("the API answered")
        if status != "unauthorised":
            raise _Failed(f"neither let in nor turned away: {answer.message}")
        return f"turned away ({answer.status})"

    def _clean(self) -> str:
        problems = []
        for desired, method, path, body in (
            (self._model, "DELETE", f"{API}/registered-models/delete", {"name": self._model}),
            (self._artifact_path, "DELETE", f"{ARTIFACTS}/{self._artifact_path}", None),
            (self._run, "POST", f"{API}/runs/update", self._ended()),
            (self._run, "POST", f"{API}/runs/delete", {"run_id": self._run}),
            (self._experiment, "POST", f"{API}/experiments/delete", {"experiment_id": self._experiment}),
        ):
            if desired:
                answer = self._api.call(method, path, body=body)
                if answer.status not in (200, 204, 404):
                    problems.append(f"{path}: {answer.message}")
        if problems:
            raise _Failed("; ".join(problems))
        return "model and artifact are gone, experiment and run are deleted and left to garbage collection"

    def _ended(self) -> dict[str, Any]:
        """A run that is deleted keeps its status, and would count as going on for ever."""
        return {"run_id": self._run, "status": "FINISHED", "end_time": self._now_ms()}

    # helpers ----------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json(self._api.call("POST", f"{API}/{path}", body=body))

    def _json(self, answer: Answer) -> dict[str, Any]:
        parsed = answer.json()
        if answer.status != 200 or not isinstance(parsed, dict):
            raise _Failed(answer.message)
        return parsed

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def require(outcome: Verification) -> None:
    """Raise VerificationFailed, naming every check that failed."""
    failed = [check for check in outcome.checks if not check.passed]
    if failed:
        raise VerificationFailed(
            f"{len(failed)} of {len(outcome.checks)} checks failed: {', '.join(check.name for check in failed)}.",
            where=outcome.url,
            remedy="Look at the deployment's log on the platform; `install` mends what differs from the configuration.",
            detail="\n".join(f"{check.name}: {check.message}" for check in failed),
        )
