"""Test the server end to end: what a client does every day, and that unauthenticated requests are rejected.

Test data has names of its own and is deleted again, also when a step fails.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_ae5_deploy.common.durations import duration, parse_ttl
from mlflow_ae5_deploy.common.errors import VerificationFailed
from mlflow_ae5_deploy.common.mlflow_api import LOGIN_FORM, PROBE, Answer, ServerApi, health_of
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.variable_names import GC_TTL
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.resources import served_database
from mlflow_ae5_deploy.resources.served_database import Observation

API = "api/2.0/mlflow"
ARTIFACTS = "api/2.0/mlflow-artifacts/artifacts"
CONFIGURED_DATABASE = "configured database in use"
_SIZE = 64 * 1024


@dataclass(frozen=True)
class Check:
    """One test and its result. message: what was observed."""

    name: str
    passed: bool
    message: str
    seconds: float


@dataclass
class Verification:
    url: str
    checks: list[Check] = field(default_factory=list)
    skipped: int = 0
    """Checks that build on a failed one."""

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def data(self) -> dict[str, Any]:
        return {"url": self.url, "checks": [asdict(check) for check in self.checks]}


class _Failed(Exception):
    pass


Step = Callable[[], str]
OnCheck = Callable[[Check], None]


def verify(
    context: Context, url: str, token: Secret, on_check: OnCheck, *, deployment_id: str | None = None
) -> Verification:
    """Run every check against the server at `url`; a failed one skips those that build on it, never the clean-up.

    deployment_id: also check that this deployment uses the configured database, where its log shows which it uses.
    """
    database = served_database.observe(context, deployment_id) if deployment_id else None
    context.warn(database.lost_keys if database is not None else ())
    verifier = _Verifier(context, url, token, database)
    outcome = Verification(url)
    for name, step in verifier.steps():
        began = context.clock.monotonic()
        message, passed = verifier.run(step)
        check = Check(name, passed, message, context.clock.monotonic() - began)
        outcome.checks.append(check)
        on_check(check)
    outcome.skipped = verifier.skipped
    return outcome


class _Verifier:
    def __init__(self, context: Context, url: str, token: Secret, database: Observation | None) -> None:
        self._database = database
        self._api = context.server(url, token)
        wrong = context.server(url, Secret(f"not-a-token-{secrets.token_hex(16)}"))
        self._unauthenticated = {"without a token": context.server(url, None), "with a wrong token": wrong}
        self._clock = context.clock
        self._purged = purged(context.settings)
        self._tag = f"mlflow-ae5-deploy-verify-{secrets.token_hex(6)}"
        self._experiment = self._run = self._model = self._artifact = ""
        self._artifact_path = ""
        self._payload = secrets.token_bytes(_SIZE)
        self._failed = False
        self.skipped = 0

    def steps(self) -> Iterator[tuple[str, Step]]:
        as_client: list[tuple[str, Step]] = [
            ("MLflow API healthy", self._reaches_database),
            ("experiment and run created", self._create),
            ("parameter, metric and tag logged and read back", self._log),
            ("artifact uploaded through the server", self._upload),
            ("artifact downloaded", self._download),
            ("model version registered", self._register),
        ]
        if self._database is not None:
            as_client.insert(1, (CONFIGURED_DATABASE, self._on_the_configured_database))
        for step in as_client:
            if self._failed:
                self.skipped += 1
            else:
                yield step
        for how, api in self._unauthenticated.items():
            yield f"request {how} is rejected", functools.partial(self._refused, api)
        if self._experiment:  # made first: without it there is nothing to delete
            yield f"test data marked as deleted; GC removes it for good {self._purged}", self._clean

    def run(self, step: Step) -> tuple[str, bool]:
        """(what was observed, passed)."""
        try:
            return step(), True
        except _Failed as failure:
            message = str(failure)
        except (KeyError, TypeError) as error:  # JSON, but not of the form that MLflow documents
            message = f"unexpected answer ({type(error).__name__}: {error})"
        self._failed = True
        return message, False

    # the steps --------------------------------------------------------------------------------------------------

    def _reaches_database(self) -> str:
        health = self._api.health()
        if not health.healthy:
            raise _Failed(health.message)
        return health.message

    def _on_the_configured_database(self) -> str:
        if self._database is None or not self._database.same:
            raise _Failed(self._database.difference if self._database else "the server's log names no database")
        return f"{self._database.served}, according to its log"

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
            raise _Failed("the values read differ from those logged")
        return "same values"

    def _upload(self) -> str:
        scheme, _, rest = self._artifact.partition(":")
        if scheme != "mlflow-artifacts":
            raise _Failed(
                f"the server does not proxy artifacts: new runs store them on `{scheme}:`, which clients would need "
                "access to"
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
            raise _Failed(f"the {len(answer.body)} bytes received differ from the {len(self._payload)} sent")
        return f"{len(answer.body)} bytes, same SHA-256"

    def _register(self) -> str:
        self._model = self._tag
        self._post("registered-models/create", {"name": self._model})
        version = self._post(
            "model-versions/create", {"name": self._model, "source": f"{self._artifact}/verify", "run_id": self._run}
        )["model_version"]
        answer = self._api.call("GET", f"{API}/model-versions/get?name={self._model}&version={version['version']}")
        status = self._json(answer).get("model_version", {}).get("status")
        if status != "READY":
            raise _Failed(f"version {version['version']} is {status}")
        return f"version {version['version']} is READY"

    def _refused(self, api: ServerApi) -> str:
        answer = api.call("GET", PROBE)
        status = health_of(answer.status, answer.content_type, answer.body, answer.message).status
        if status == "healthy" or (answer.json() is not None and answer.status == 200):
            raise _Failed("the API answered")
        if status != "unauthorised":
            raise _Failed(f"unexpected answer: {answer.message}")
        return str(answer.status)

    def _clean(self) -> str:
        problems = []
        ended = {"run_id": self._run, "status": "FINISHED", "end_time": self._now_ms()}
        for identifier, method, path, body in (
            (self._model, "DELETE", f"{API}/registered-models/delete", {"name": self._model}),
            (self._artifact_path, "DELETE", f"{ARTIFACTS}/{self._artifact_path}", None),
            (self._run, "POST", f"{API}/runs/update", ended),  # a deleted run keeps its status
            (self._run, "POST", f"{API}/runs/delete", {"run_id": self._run}),
            (self._experiment, "POST", f"{API}/experiments/delete", {"experiment_id": self._experiment}),
        ):
            if identifier:
                answer = self._api.call(method, path, body=body)
                if answer.status not in (200, 204, 404):
                    problems.append(f"{path}: {answer.message}")
        if problems:
            raise _Failed("; ".join(problems))
        return f"experiment {self._experiment}, run {self._run}"

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


def purged(settings: Settings) -> str:
    """When garbage collection purges what is deleted now, by the configuration."""
    age = parse_ttl(settings.gc.variables.get(GC_TTL, settings.server.gc_ttl))
    return f"after {duration(age)}" if age else "at its next run"


def require(outcome: Verification) -> None:
    """Raise VerificationFailed, naming every check that failed."""
    failed = [check for check in outcome.checks if not check.passed]
    if failed:
        skipped = f"; {outcome.skipped} skipped" if outcome.skipped else ""
        raise VerificationFailed(
            f"{len(failed)} of {len(outcome.checks)} checks failed: "
            f"{', '.join(check.name for check in failed)}{skipped}.",
            where=outcome.url,
            remedy="Read the server's log with `logs`. `install` fixes differences from the configuration.",
        )
