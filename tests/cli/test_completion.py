"""Completion by the shell: the program is asked by environment variables, as the function it installs does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_ae5_deploy.cli.main import PROGRAM, app

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "import sys; sys.argv[0] = {name!r}; from mlflow_ae5_deploy.__main__ import entrypoint; entrypoint()"
HEAVY = ("aiohttp", "mlflow", "requests", "rich", "ruamel")  # typer itself looks for pydantic


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The installed command: the script that the package declares, made here because it may not be installed."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / PROGRAM
    script.write_text(f"#!{sys.executable}\n{ENTRY.format(name=str(script))}\n")
    script.chmod(0o755)
    return script


def environment(program: Path) -> dict[str, str]:
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(program.parent.parent),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
    }


def run(command: list[str], program: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(program) | more, capture_output=True, text=True, timeout=60, check=False
    )


def completed(program: Path, line: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What bash is told when TAB is pressed at the end of `line`."""
    asked = {
        "_MLFLOW_AE5_DEPLOY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
    }
    return run([sys.executable, *options, str(program)], program, **asked)


def verbs() -> set[str]:
    return {command.name or "" for command in app.registered_commands} | {"release", "sandbox"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", verbs()),
        ("sche", {"schedule-gc", "schedule-rotation"}),
        ("sandbox ", {"up", "down", "status", "logs", "reset"}),
        ("backup ", {"create", "verify", "list", "show", "prune"}),
        ("rotate-token --re", {"--restart"}),
        ("install --lock-w", {"--lock-wait"}),
    ],
    ids=["verbs", "part of a verb", "verbs of the sandbox", "actions", "option", "part of an option"],
)
def test_verbs_and_options_are_offered(program, line, wanted):
    done = completed(program, f"{PROGRAM} {line}")

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == wanted
    assert done.stderr == ""


def test_nothing_heavy_is_loaded_for_it(program):
    done = completed(program, f"{PROGRAM} status --", "-X", "importtime")

    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "--json" in done.stdout.split()
    assert "mlflow_ae5_deploy" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes_after_installing_it(program):
    # Typer goes by the shell that it was called from.
    installed = run(["bash", "-c", f"'{program}' --install-completion bash; exit $?"], program)
    assert installed.returncode == 0, installed.stderr
    press_tab = f"""
        source "$HOME/.bashrc"
        COMP_WORDS=({PROGRAM} schedule-r) COMP_CWORD=1
        "$(complete -p {PROGRAM} | sed 's/.*-F //; s/ .*//')" {PROGRAM}
        echo "${{COMPREPLY[@]}}"
    """

    done = run(["bash", "--norc", "-c", press_tab], program)

    assert done.stderr == ""
    assert done.stdout.split() == ["schedule-rotation"]
