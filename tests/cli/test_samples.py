"""The samples of the page on automation: crontab, systemd units and a pipeline are valid, and their commands work."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common.cron import parse_cron
from tests import receivers
from tests.cli.snapshotting import make_snapshotting_release
from tests.documents import PROGRAM, TEXTS, blocks, simple_commands

PAGE = TEXTS["how-to/automate.md"]
INSTALLED = f"/opt/{PROGRAM}/bin/{PROGRAM}"
PIPELINE, CRONTAB = (
    next(block for block in blocks(PAGE, "text") if begin in block) for begin in ("\n  script:\n", "\n17 3 * * *")
)
SERVICE, TIMER = blocks(PAGE, "ini")


def lines() -> list[str]:
    """Every command line of the samples."""
    script = YAML(typ="safe", pure=True).load(PIPELINE)["mlflow"]["script"]
    service = [line.partition("=")[2] for line in SERVICE.splitlines() if line.startswith("ExecStart=")]
    return [*script, *service, *(line.split(maxsplit=5)[5] for line in CRONTAB.splitlines())]


def test_the_schedules_of_the_crontab_are_right() -> None:
    for line in CRONTAB.splitlines():
        assert parse_cron(" ".join(line.split()[:5]))
        assert "%" not in line


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    (tmp_path / "mlflow-status.service").write_text(SERVICE.replace(INSTALLED, sys.executable))
    (tmp_path / "mlflow-status.timer").write_text(TIMER)
    for unit in ("mlflow-status.service", "mlflow-status.timer"):
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_commands_of_the_samples_work(bench, capsys, monkeypatch) -> None:
    bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
    config = bench.configure("notify:\n  urls: [env:NOTIFY]\n")
    with receivers.webhook() as webhook:
        monkeypatch.setenv("NOTIFY", webhook.url)
        assert bench.install(capsys, "--config", str(config)).code == 0
        for line in lines():
            (command,) = simple_commands(line)
            words = list(command.words[1:])
            words[words.index("--config") + 1] = str(config)
            if words[0] in ("plan", "install", "status"):
                words += ["--release", str(bench.release)]
            code = main([*words, "--sandbox"])
            assert command.words[0] in (PROGRAM, INSTALLED), shlex.join(command.words)
            assert code == 0, capsys.readouterr().err
    assert webhook.messages == []
