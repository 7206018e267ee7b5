"""A folder with a sandbox in it, an installation made through the command line, and clients of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.cli.bench import ACCOUNT, Outcome
from tests.sandbox.support import Client, new_session, wait_for

_FOREIGN = re.compile(r"AE5_|MLFLOW_|CF_ACCESS_|REQUESTS_CA_BUNDLE\Z")


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.client_folder = folder / "client"
        self.client_folder.mkdir()

    # the tool -----------------------------------------------------------------------------------------------------

    def run(self, *argv: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            for name in [n for n in os.environ if _FOREIGN.match(n)]:
                patch.delenv(name)
            patch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(self.state))
            patch.chdir(self.folder)
            code = main(list(argv))
        return Outcome(code, out.getvalue(), err.getvalue())

    def install(self, *argv: str) -> Outcome:
        """From then on, no job runs but those that a test asks for."""
        outcome = self.run("install", "--sandbox", "--json", *argv)
        if lifecycle.status(self.sandbox) is not None:
            RemoteControl(self.info).change_settings(clock="still")
        return outcome

    def configure(self, text: str) -> tuple[str, str]:
        """Options that name a new configuration file."""
        path = self.folder / f"config-{len(list(self.folder.glob('config-*')))}.yaml"
        path.write_text(text)
        return "--config", str(path)

    def client_environment(self) -> dict[str, str]:
        """What `env --show-token` prints, understood as a shell would."""
        printed = self.run("env", "--sandbox", "--show-token")
        assert printed.code == 0, printed.err
        words = shlex.split(printed.out)
        return dict(word.split("=", 1) for word in words if word != "export")

    # clients ------------------------------------------------------------------------------------------------------

    def client(self, helper: Path, environment: dict[str, str], *steps: str) -> list[Any]:
        """The real MLflow package in a process of its own; its answer to each step."""
        bare = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            [sys.executable, str(helper), *steps],
            env={**bare, "HOME": str(self.client_folder), **environment},
            cwd=self.client_folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = [line for line in done.stdout.splitlines() if line.startswith('{"answer":')]
        return [json.loads(line)["answer"] for line in answers]

    def ask(self, environment: dict[str, str], path: str, **query: str) -> requests.Response:
        """What the client asks, without loading it: that takes two seconds."""
        session = new_session(self.info)
        session.headers["Authorization"] = f"Bearer {environment['MLFLOW_TRACKING_TOKEN']}"
        return session.get(f"{environment['MLFLOW_TRACKING_URI']}/api/2.0/{path}", params=query, timeout=30)

    def call(self, method: str, environment: dict[str, str], path: str, body: Any = None) -> Any:
        return self.send(method, environment, f"api/{path}", json=body).json()

    def send(self, method: str, environment: dict[str, str], path: str, **kwargs: Any) -> requests.Response:
        """A request that must succeed."""
        session = new_session(self.info)
        session.headers["Authorization"] = f"Bearer {environment['MLFLOW_TRACKING_TOKEN']}"
        answer = session.request(method, f"{environment['MLFLOW_TRACKING_URI']}/{path}", timeout=30, **kwargs)
        assert answer.status_code == 200, answer.text
        return answer

    def read(self, environment: dict[str, str], run: str) -> dict[str, Any]:
        """As the client's step of this name."""
        answer = self.ask(environment, "mlflow/runs/get", run_id=run)
        assert answer.status_code == 200, answer.text
        info, data = (answer.json()["run"][part] for part in ("info", "data"))
        (loss,) = (metric["value"] for metric in data["metrics"] if metric["key"] == "loss")
        folder = urlsplit(info["artifact_uri"])
        assert folder.scheme == "mlflow-artifacts"
        note = self.ask(environment, f"mlflow-artifacts/artifacts/{folder.path.strip('/')}/note.txt")
        return {"loss": loss, "note": note.text, "stage": info["lifecycle_stage"]}

    def exists(self, environment: dict[str, str], run: str) -> bool:
        answer = self.ask(environment, "mlflow/runs/get", run_id=run)
        if answer.status_code == 404:
            assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
            return False
        assert answer.status_code == 200, answer.text
        return True

    # the platform -------------------------------------------------------------------------------------------------

    @property
    def sandbox(self) -> Path:
        return self.state / "sandbox"

    @property
    def info(self) -> SandboxInfo:
        found = lifecycle.status(self.sandbox)
        assert found is not None
        return found

    def owner(self) -> Client:
        return Client(self.info, ACCOUNT)

    def deployment(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.owner().get("deployments")
        assert len(found) == 1
        return found[0]

    def run_gc(self) -> tuple[dict[str, Any], str]:
        """Run the scheduled job now; its run, and the run's log."""
        owner = self.owner()
        (job,) = owner.get("jobs")
        run = owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])
        log = owner.call("GET", f"runs/{run['id']}/logs")
        return run, log.json()["job"]

    def data(self) -> Path:
        """The service account's persistent volume."""
        return self.sandbox / "volumes" / ACCOUNT / "data"

    def health(self, environment: dict[str, str]) -> int:
        """Status of an API call that reaches the database; 0 when nothing answers."""
        try:
            return self.ask(environment, "mlflow/experiments/search", max_results="1").status_code
        except OSError:
            return 0

    def await_health(self, environment: dict[str, str]) -> None:
        wait_for(lambda: self.health(environment) == 200, "the server to answer again")

    def processes(self) -> list[psutil.Process]:
        """Everything that runs because of this site: named by its folder, or started by what is."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                texts = [*process.cmdline(), process.cwd()]
                if process.pid != os.getpid() and any(str(self.folder) in text for text in texts):
                    found |= {p.pid: p for p in [process, *process.children(recursive=True)]}
        return list(found.values())

    def reset(self) -> None:
        lifecycle.reset(self.sandbox)
