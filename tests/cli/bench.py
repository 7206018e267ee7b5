"""The command line against a sandbox of its own: run a verb, read what it printed, see what reached the platform."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.sandbox.support import Client, make_project_archive, new_session

ACCOUNT = "mlflow-service"
SIGNING = ("/auth/", "/login", "/logout")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


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
        settings = {"stop_grace_seconds": 3, "restart_backoff_seconds": 0.1}
        lifecycle.up(self.folder / "state" / "sandbox", settings=settings)

    def stop(self) -> None:
        lifecycle.reset(self.folder / "state" / "sandbox")

    def run(self, capsys: pytest.CaptureFixture[str], *argv: str) -> Outcome:
        capsys.readouterr()
        code = main(list(argv))
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    def install(self, capsys: pytest.CaptureFixture[str], *argv: str) -> Outcome:
        return self.run(capsys, "install", "--sandbox", "--json", "--release", str(self.release), *argv)

    # the platform's side ----------------------------------------------------------------------------------------

    def control(self, method: str, path: str, body: Any = None) -> Any:
        info = self.info
        session = new_session(info)
        session.headers["Authorization"] = f"Bearer {info.control_token_file.read_text().strip()}"
        answer = session.request(method, f"{info.control_url.rstrip('/')}{path}", json=body, timeout=30)
        assert answer.status_code == 200, f"{answer.status_code} {answer.reason}"
        return answer.json()

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
        ]

    def owner(self) -> Client:
        """The service account, signed in by itself."""
        return Client(self.info, ACCOUNT)


def make_release(folder: Path, name: str, **files: str) -> Path:
    return make_project_archive(folder / name, files={key.replace("__", "."): text for key, text in files.items()})
