"""The command line against a sandbox of its own: run a verb, read what it printed, see what reached the platform."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common.redaction import MASK
from mlflow_ae5_deploy.config.state_dir import installation_dir
from mlflow_ae5_deploy.engine.lease import PREFIX as LEASE
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.sandbox.support import Client, make_project_archive, new_session, wait_for
from tools import json_forms

Popen = subprocess.Popen[str]
ACCOUNT = "mlflow-service"
ROOT = Path(__file__).resolve().parents[2]
SIGNING = ("/auth/", "/login", "/logout")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON document, in the form that is published for its verb."""
        document = json.loads(self.out)
        json_forms.check(document)
        return document


class Bench:
    """`folder` is what MLFLOW_AE5_DEPLOY_STATE names; the sandbox is below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.release = make_project_archive(folder / "release.tar.gz")
        (folder / "mlflow-ae5-deploy.yaml").write_text("platform:\n  lost_answer_deadline: 0.5\n")

    @property
    def info(self) -> SandboxInfo:
        found = lifecycle.status(self.folder / "state" / "sandbox")
        assert found is not None
        return found

    def start(self) -> None:
        settings = {"stop_grace_seconds": 3, "restart_backoff_seconds": 0.1, "clock": "still"}
        lifecycle.up(self.folder / "state" / "sandbox", settings=settings)

    def stop(self) -> None:
        lifecycle.reset(self.folder / "state" / "sandbox")

    def run(self, capsys: pytest.CaptureFixture[str], *argv: str) -> Outcome:
        capsys.readouterr()
        code = main(list(argv))
        printed = capsys.readouterr()
        assert f"/{MASK}" not in printed.out + printed.err, "a path is masked"
        return Outcome(code, printed.out, printed.err)

    def install(self, capsys: pytest.CaptureFixture[str], *argv: str) -> Outcome:
        return self.run(capsys, "install", "--sandbox", "--json", "--release", str(self.release), *argv)

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a process of its own. Nothing of this machine's configuration reaches it."""
        ours = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **ours,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_AE5_DEPLOY_STATE": str(self.folder / "state"),
            "AE5_TOOLS_CONFIG_DIR": str(self.folder / "ae5-tools"),
            "TERM": "dumb",
            **changes,
        }

    @contextlib.contextmanager
    def spawn(
        self, *argv: str, environment: dict[str, str] | None = None, **popen: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """The program as a process of its own, in the bench's folder; gone when the block ends, however it ends."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_ae5_deploy", *argv],
            cwd=self.folder,
            env=environment or self.environment(),
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def process(self, *argv: str, **popen: Any) -> Outcome:
        with self.spawn(*argv, **popen) as process:
            out, err = process.communicate(timeout=200)
        return Outcome(process.returncode, out or "", err or "")

    def configure(self, text: str) -> Path:
        """Another configuration file, for --config."""
        path = self.folder / f"config-{len(list(self.folder.glob('config-*')))}.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def another(self, name: str = "another") -> Path:
        """A configuration of another installation on the same sandbox."""
        names = f"project: {{name: {name}}}\ngc: {{name: gc {name}}}\n"
        names += f"deployment: {{name: dev {name}, endpoint: {name}}}\n"
        return self.configure(f"{names}platform: {{lost_answer_deadline: 0.5}}\n")

    @property
    def state_folder(self) -> Path:
        """Where journal, state, lock and archives of the installation are."""
        return installation_dir(self.folder / "state", self.info.hostname, ACCOUNT, "mlflow.tracking.server")

    # the platform's side ----------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body: Any = None) -> Any:
        info = self.info
        session = new_session(info)
        session.headers["Authorization"] = f"Bearer {info.control_token_file.read_text().strip()}"
        answer = session.request(method, f"{info.control_url.rstrip('/')}{path}", json=body, timeout=30)
        assert answer.status_code == 200, f"{answer.status_code} {answer.reason}"
        return answer.json()

    @contextlib.contextmanager
    def fault(self, method: str, path: str, **fault: Any) -> Iterator[None]:
        """A fault of the platform while the block runs. times=None: at every such request."""
        self.control("POST", "/faults", {"method": method, "path": path, **fault})
        try:
            yield
        finally:
            self.control("DELETE", "/faults")

    @contextlib.contextmanager
    def held(self, words: Sequence[str], method: str, path: str, *, skip: int = 0, **popen: Any) -> Iterator[Popen]:
        """The program as a process of its own, at the moment at which this request of it hangs."""
        with self.fault(method, path, skip=skip, hold=True), self.spawn(*words, **popen) as process:
            wait_for(lambda: self.control("GET", "/")["held"] or process.poll() is not None, f"{method} {path}")
            assert process.poll() is None, process.communicate()
            yield process
        wait_for(lambda: not self.control("GET", "/")["held"], "the request to end")

    def calls(self) -> list[dict[str, Any]]:
        found = self.control("GET", "/calls")
        return found["calls"] if isinstance(found, dict) else found

    def forget_calls(self) -> None:
        self.control("DELETE", "/calls")

    def writes(self) -> list[str]:
        return [
            f"{call['method']} {call['path']}"
            for call in self.calls()
            if call["method"] not in ("GET", "HEAD")
            and call["surface"] == "platform"
            and (not call["path"].startswith(SIGNING) or "/users" in call["path"])
            and not call["path"].endswith("/impersonation")
            and not call["secret"].startswith(LEASE)  # the lock changes nothing of an installation
        ]

    def everything(self) -> dict[str, Any]:
        """What the service account has on the platform, as far as it can be told apart."""
        owner = self.owner()
        found = {
            "projects": sorted(p["id"] for p in owner.get("projects") if p["owner"] == ACCOUNT),
            "deployments": sorted(d["id"] for d in owner.get("deployments")),
            "jobs": sorted((j["id"], j["schedule"]) for j in owner.get("jobs")),
            "secrets": sorted(owner.get("credentials/user")["data"]),
            "shared": [
                [c["id"] for c in owner.get(f"deployments/{d['id']}/collaborators")] for d in owner.get("deployments")
            ],
        }
        owner.call("GET", "/logout")
        return found

    def owner(self) -> Client:
        """The service account, signed in by itself."""
        return Client(self.info, ACCOUNT)


def make_release(folder: Path, name: str, **files: str) -> Path:
    return make_project_archive(folder / name, files={key.replace("__", "."): text for key, text in files.items()})
