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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.sandbox.support import Client, new_session, wait_for

ACCOUNT = "mlflow-service"
_FOREIGN = re.compile(r"AE5_|MLFLOW_|CF_ACCESS_|REQUESTS_CA_BUNDLE\Z")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


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
        return self.run("install", "--sandbox", "--json", *argv)

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
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = [line for line in done.stdout.splitlines() if line.startswith('{"answer":')]
        return [json.loads(line)["answer"] for line in answers]

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
        session = new_session(self.info)
        session.headers["Authorization"] = f"Bearer {environment['MLFLOW_TRACKING_TOKEN']}"
        url = f"{environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            return session.get(url, timeout=10).status_code
        except OSError:
            return 0

    def await_health(self, environment: dict[str, str]) -> None:
        wait_for(lambda: self.health(environment) == 200, "the server to answer again", 60)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs because of this site: named by its folder, or started by what is."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                texts = [*process.cmdline(), process.cwd()]
                if process.pid != os.getpid() and any(str(self.folder) in text for text in texts):
                    found |= {p.pid: p for p in [process, *process.children(recursive=True)]}
        return list(found.values())

    def servers(self) -> list[psutil.Process]:
        """The tracking server's first process, which the platform watches over."""
        return [
            process
            for process in self.processes()
            if "tracking-server" in process.cmdline()
            and (parent := process.parent()) is not None
            and "tracking-server" not in parent.cmdline()
        ]

    def reset(self) -> None:
        lifecycle.reset(self.sandbox)
