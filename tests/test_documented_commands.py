"""The commands in the documents work.

Every `mlflow-ae5-deploy` command in a `sh` block is run, in the order it is written in, against a sandbox: what
README.md tells to try at once with the bundled release and real MLflow, the rest with a stand-in for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.cli.collecting import make_collecting_release
from tests.cli.snapshotting import make_snapshotting_release
from tests.documents import PROGRAM, README, TEXTS, Command, blocks, commands
from tools import json_forms

CLUSTER = "\n## First real cluster\n"

NOT_RUN = {
    "conda": "environments are not made in tests, and ae5-tools' channel may be out of reach",
    "python3": "the README's own set-up; `.ci/run` does it",
    "python": "installs this very project, or downloads packages; `python tests` is the suite itself",
    "mv": "renames what the command before it wrote",
    "tar": "in a test of its own",
    "source": "a shell's own",
    "read": "asks a person",
    "export": "a shell's own",
    "ae5": "ae5-tools comes from conda only; tests/sandbox drives it where it is installed",
}
NEEDS_SANDBOX = (
    "plan",
    "install",
    "status",
    "doctor",
    "verify",
    "env",
    "runbook",
    "rotate-token",
    "schedule-rotation",
    "schedule-gc",
    "share",
    "open",
    "logs",
    "history",
    "backup",
    "restore",
    "drill",
    "upgrade",
    "uninstall",
)
DATABASE_URI = "postgresql+psycopg://mlflow:not-a-password@db.example.com/mlflow"
TAKES_RELEASE = ("plan", "install", "status", "doctor", "restore", "upgrade")
# Their stand-in keeps data, and makes snapshots of it.
KEEPS_DATA = ("README.md", "tutorial.md", "how-to/backup-and-restore.md", "how-to/upgrade.md", "how-to/automate.md")
SAVED = {"saved_20261123_001122_ab12cd": "kept-1"}  # the saved copy in a document, and that of the stand-in
DISASTER = "\n## The cluster is gone\n"
# Their reader has nothing installed yet; every other page is for a server that runs.
NOT_INSTALLED = (
    "README.md",
    "tutorial.md",
    "how-to/air-gapped.md",
    "how-to/install.md",
    "how-to/two-environments.md",
    "reference/json.md",
    "reference/sandbox.md",
)
CONFIGURATION = "mlflow-ae5-deploy.yaml"


def test_what_is_not_run_is_known_with_its_reason():
    names = {command.name for text in TEXTS.values() for command in commands(text)}

    assert names - {PROGRAM, "mlflow"} == set(NOT_RUN)


class Reader:
    """Types what a document says, in a folder and with a state of its own."""

    def __init__(self, folder: Path, release: str | None, *, keeps_data: bool = False) -> None:
        self.folder = folder
        self.release = release
        self.keeps_data = keeps_data or release is None
        self.exported: dict[str, str] = {}
        self.documents: dict[str, Any] = {}
        self.stilled: SandboxInfo | None = None
        (folder / "quick.yaml").write_text("platform:\n  lost_answer_deadline: 0.5\nrelease:\n  mirror: mirror\n")

    def arguments(self, command: Command) -> list[str]:
        """On the sandbox where a cluster is meant, and with the stand-in where a release is not named."""
        words = [SAVED.get(word, word) for word in command.words[1:]]
        if words[0] in NEEDS_SANDBOX and "--sandbox" not in words:
            words.append("--sandbox")
        if words[0] in NEEDS_SANDBOX and not {"--config", "-c", "--profile", "-p"} & set(words):
            words += ["--config", "quick.yaml"]
        if "--release" in words:
            self.release = words[words.index("--release") + 1]  # and stays with it
        elif (
            words[0] in TAKES_RELEASE and not {"--list-saved", "--drop-saved"} & set(words) and self.release is not None
        ):
            words += ["--release", self.release]
        return words

    def type(self, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
        words = self.arguments(command)
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        assert code in self.expected(words), f"{command.line}\nexit code {code}\n{printed.out}\n{printed.err}"
        assert "Traceback" not in printed.err
        self.still_the_clock()
        if "--json" in words:
            self.documents[words[0]] = json.loads(printed.out)
            json_forms.check(self.documents[words[0]])
        else:
            self.exported |= dict(re.findall(r"^ *export (\w+)=(\S+)$", printed.out, re.M))

    def still_the_clock(self) -> None:
        """No job runs but those that are asked for."""
        info = lifecycle.status(self.folder / "state" / "sandbox")
        if info is not None and info != self.stilled:
            RemoteControl(info).change_settings(clock="still")
            self.stilled = info

    def expected(self, words: list[str]) -> set[int]:
        if "--exit-code" in words:
            return {errors.EXIT_DONE, errors.EXIT_CHANGES_PENDING}
        if words[0] == "verify" and not self.keeps_data:
            return {errors.VerificationFailed.exit_code}  # the stand-in keeps nothing, and verify must notice
        if words[0] == "schedule-gc" and "--dry-run" in words and not self.keeps_data:
            return {errors.StageFailed.exit_code}  # the stand-in knows no dry run, and must not be asked for one
        if "nagios" in words:
            return {0, 1}  # a warning where there is no backup yet
        if words[0] == "uninstall" and "--yes" not in words:
            return {errors.Conflict.exit_code}  # nobody is there to agree
        return {errors.EXIT_DONE}

    def run_mlflow(self, command: Command) -> None:
        """MLflow's own client, with what `env` has exported."""
        environment = {**os.environ, **self.exported}
        client = [sys.executable, "-m", *command.words]
        done = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "Default" in done.stdout


@pytest.fixture
def typing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [n for n in os.environ if n.startswith(("AE5_", "MLFLOW_", "CF_ACCESS_")) or n == "REQUESTS_CA_BUNDLE"]:
        monkeypatch.delenv(name)  # no test may reach the cluster of whoever runs it
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GC_DATABASE_URI", DATABASE_URI)
    (tmp_path / "gc-database-uri").write_text(DATABASE_URI)
    (tmp_path / "gc-database-uri").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    lifecycle.reset(tmp_path / "state" / "sandbox")


def stand_ins(mirror: Path, keeps_data: bool) -> Path:
    """Two releases; the first of them is returned."""
    mirror.mkdir()
    first, second = (mirror / f"mlflow.tracking.server.{version}.tar.gz" for version in ("1.0.0", "1.2.0"))
    if keeps_data:
        make_snapshotting_release(second, schema="schema-2", version="3.18.0")
        return make_snapshotting_release(first)
    make_collecting_release(second, knows_dry_run=False, files={"new.txt": "newer"})
    return make_collecting_release(first, knows_dry_run=False)


def shape(value: object, path: str = "") -> set[str]:
    """The path of every field, whatever its value."""
    if isinstance(value, dict):
        return {path} | {found for key, item in value.items() for found in shape(item, f"{path}.{key}")}
    if isinstance(value, list):
        return {path} | {found for item in value for found in shape(item, f"{path}[]")}
    return {path}


def lose_everything(folder: Path) -> None:
    """The installation, its secrets, its data and what this machine remembers of it. Only the snapshots stay."""
    assert main(["uninstall", "--sandbox", "--yes", "--purge-secrets", "--config", "quick.yaml"]) == 0
    (folder / "state" / "sandbox" / "volumes" / "mlflow-service" / "data" / "db").unlink()
    for memory in (folder / "state").glob("localhost*/state.json"):
        memory.unlink()


def test_what_the_readme_tells_to_try_works(typing, capsys):
    reader = Reader(typing, release=None)

    for command in commands(README.partition(CLUSTER)[0]):
        if command.name == PROGRAM:
            reader.type(command, capsys)
        elif command.name == "mlflow":
            reader.run_mlflow(command)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_said_about_a_cluster_works(name, typing, capsys):
    text = TEXTS[name].partition(CLUSTER)[2] or TEXTS[name]
    reader = Reader(typing, str(stand_ins(typing / "mirror", name in KEEPS_DATA)), keeps_data=name in KEEPS_DATA)

    if name not in NOT_INSTALLED and any(command.name == PROGRAM for command in commands(text)):
        reader.type(Command("install", (PROGRAM, "install")), capsys)
    if name == "how-to/two-environments.md":
        (typing / CONFIGURATION).write_text(blocks(text, "yaml")[0])
    for number, part in enumerate(text.split(DISASTER)):
        if number:
            lose_everything(typing)
        for command in commands(part):
            assert command.name != "mlflow", "its client needs a real server: put it into README.md"
            if command.name == PROGRAM:
                reader.type(command, capsys)

    for block in blocks(text, "json"):
        example = json.loads(block)
        printed = reader.documents[example["verb"]]
        assert shape(example) <= shape(printed), "it shows a field that the program does not print"
