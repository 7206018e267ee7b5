"""Completion by the shell: the program is asked by environment variables, as the function it installs does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.verbs import GROUPS, VERBS
from mlflow_ae5_deploy.common.text import PROGRAM
from mlflow_ae5_deploy.config.settings import PlatformSettings
from mlflow_ae5_deploy.config.state_dir import installation_dir, private_dir
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.operations import logs
from mlflow_ae5_deploy.render import env as client_environment
from tests.manual_clock import ManualClock

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
        command, env=environment(program) | more, capture_output=True, text=True, timeout=200, check=False
    )


def completed(program: Path, line: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What bash is told when TAB is pressed at the end of `line`."""
    variables = {
        "_MLFLOW_AE5_DEPLOY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
    }
    return run([sys.executable, *options, str(program)], program, **variables | more)


def completed_by_zsh(program: Path, line: str, **more: str) -> set[str]:
    """What zsh is told to offer; it gets code, in which `_files` has it look for files."""
    variables = {"_MLFLOW_AE5_DEPLOY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
    done = run([sys.executable, str(program)], program, **variables | more)
    assert (done.returncode, done.stderr) == (0, "")
    return set(re.findall(r'^"([^"]+)"', done.stdout.partition("_arguments '*: :((")[2], re.MULTILINE))


def verbs() -> set[str]:
    return set(VERBS)


@pytest.mark.parametrize(
    ("line", "desired"),
    [
        ("", verbs()),
        ("sche", {"schedule-gc", "schedule-rotation"}),
        ("sandbox ", {"up", "down", "status", "logs", "reset"}),
        ("backup ", set(GROUPS["backup"])),
        ("backup --reh", {"--rehash"}),
        ("backup --sandbox --allow-", {"--allow-external", "--allow-empty"}),
        ("backup prune --keep-l", {"--keep-last"}),
        ("rotate-token --re", {"--restart"}),
        ("install --lock-w", {"--lock-wait"}),
    ],
    ids=[
        "verbs",
        "part of a verb",
        "verbs of the sandbox",
        "verbs of backup",
        "of its default verb",
        "behind an option",
        "of its verb",
        "option",
        "part",
    ],
)
def test_verbs_and_options_are_offered(program, line, desired):
    done = completed(program, f"{PROGRAM} {line}")

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == desired
    assert done.stderr == ""


CONFIGURATION = """
release: {mirror: mirror}
profiles: {dev: {}, prod: {}, prod-eu: {}}
"""
VALUES = [
    ("env --format ", {"shell", "dotenv", "python", "notebook", "conda", "json"}),
    ("logs --sandbox --part ", {"app", "events", "proxy"}),
    ("plan --session ", {"auto", "ae5-tools", "built-in"}),
    ("sandbox up --database p", {"postgresql"}),
    ("install --release ", {"bundled", "latest", "0.9.0", "1.2.0"}),
    ("upgrade --release 1", {"1.2.0"}),
    ("status --profile ", {"dev", "prod", "prod-eu"}),
    ("status -p prod", {"prod", "prod-eu"}),
    ("status --config other.yaml --profile ", {"other"}),
    ("status --config hostile.yaml --profile ", {"fine-1"}),
    ("status --config broken.yaml --profile ", set()),
    ("status --config missing.yaml --profile ", set()),
    ("install --release ./", set()),  # the shell looks for files then
]


@pytest.fixture
def configured(tmp_path):
    """A folder with configurations and a mirror."""
    (tmp_path / "mlflow-ae5-deploy.yaml").write_text(CONFIGURATION)
    (tmp_path / "other.yaml").write_text("profiles: {other: {}}")
    # zsh evaluates what it is offered
    hostile = ["$(touch made)x", "`touch made`", "a b", "a\nb", "a:b", "a'b", 'a"b', "a;b", "a\\b", "", "fine-1"]
    (tmp_path / "hostile.yaml").write_text(json.dumps({"profiles": {name: {} for name in hostile}}))
    (tmp_path / "broken.yaml").write_text("profiles: [")
    (tmp_path / "mirror").mkdir()
    for version in ("0.9.0", "1.2.0"):
        (tmp_path / "mirror" / f"mlflow.tracking.server.{version}.tar.gz").touch()
    return {"MLFLOW_AE5_DEPLOY_CONFIG": str(tmp_path / "mlflow-ae5-deploy.yaml")}


@pytest.mark.parametrize(("line", "desired"), VALUES, ids=[line for line, _ in VALUES])
def test_values_are_offered(program, configured, tmp_path, line, desired):
    line = line.replace("--config ", f"--config {tmp_path}/")
    done = completed(program, f"{PROGRAM} {line}", **configured)

    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == desired


@pytest.mark.parametrize(
    ("line", "desired"), [VALUES[0], ("logs --part=e", {"events"}), ("status -p pr", {"prod", "prod-eu"})]
)
def test_values_are_offered_to_zsh(program, configured, line, desired):
    assert completed_by_zsh(program, f"{PROGRAM} {line}", **configured) == desired


MADE = ["20261128T023000Z-0a1b2c", "20261129T023000Z-3d4e5f"]
SNAPSHOTS = [
    ("backup verify --snapshot ", ["latest", MADE[1], MADE[0]]),
    ("restore --snapshot 20261129", [MADE[1]]),
    ("drill --snapshot ", ["latest", MADE[1], MADE[0]]),
    ("install --restore l", ["latest"]),
    ("backup show --username other --snapshot ", ["latest"]),
    ("backup show --sandbox --snapshot ", ["latest"]),
    ("backup show --config broken.yaml --snapshot ", ["latest"]),
]


@pytest.mark.parametrize(("line", "desired"), SNAPSHOTS, ids=[line for line, _ in SNAPSHOTS])
def test_snapshots_made_from_this_machine_are_offered(program, configured, tmp_path, line, desired):
    state = tmp_path / "state"
    folder = installation_dir(state, "ae5.example.com", "svc", "mlflow.tracking.server")
    journal = Journal(private_dir(folder), ManualClock(), verb="backup")
    for name in ("$(touch owned)", *MADE):
        journal.effect("back up", "snapshot", name)
    (tmp_path / "other.yaml").write_text("platform: {hostname: ae5.example.com}\naccount: {username: svc}\n")
    configured |= {"MLFLOW_AE5_DEPLOY_CONFIG": str(tmp_path / "other.yaml"), "MLFLOW_AE5_DEPLOY_STATE": str(state)}

    done = completed(program, f"{PROGRAM} {line.replace('--config ', f'--config {tmp_path}/')}", **configured)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == desired
    assert not (state / "sandbox").exists()


def test_the_values_are_those_that_are_taken():
    assert get_args(PlatformSettings.model_fields["session"].annotation) == completion.SESSIONS
    assert tuple(client_environment.FORMATS) == completion.FORMATS
    assert logs.PARTS == completion.PARTS


def test_nothing_heavy_is_loaded_for_it(program):
    done = completed(program, f"{PROGRAM} status --", "-X", "importtime")

    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "--json" in done.stdout.split()
    assert "mlflow_ae5_deploy" in loaded
    assert loaded.isdisjoint(HEAVY)


# what is typed before TAB -> what it becomes
TYPED = [
    ("schedule-r", "schedule-rotation"),
    ("backup sch", "schedule"),
    ("backup prune --keep-l", "--keep-last"),
    ("env --format do", "dotenv"),
    ("status --profile de", "dev"),
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes_after_installing_it(program, configured):
    # Typer goes by the shell that it was called from.
    installed = run(["bash", "-c", f"'{program}' --install-completion bash; exit $?"], program)
    assert installed.returncode == 0, installed.stderr
    press_tab = f"""
        source "$HOME/.bashrc"
        COMP_WORDS=({PROGRAM} "$@") COMP_CWORD=$#
        "$(complete -p {PROGRAM} | sed 's/.*-F //; s/ .*//')" {PROGRAM}
        echo "${{COMPREPLY[@]}}"
    """

    for line, desired in TYPED:
        done = run(["bash", "--norc", "-c", press_tab, "bash", *line.split()], program, **configured)

        assert (done.stdout.split(), done.stderr) == ([desired], "")


ANY_SHELL = [
    ("zsh", ".zfunc/_mlflow-ae5-deploy", "#compdef"),
    ("bash", ".bash_completions/mlflow-ae5-deploy.sh", "complete -o"),
    ("fish", ".config/fish/completions/mlflow-ae5-deploy.fish", "complete --command"),
]


@pytest.mark.parametrize(("shell", "file", "script"), ANY_SHELL)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_can_be_named_in_another_one(program, shell, file, script):
    done = run(["bash", "-c", f"'{program}' --install-completion {shell}; exit $?"], program)

    assert (done.returncode, done.stderr) == (0, "")
    assert file in done.stdout
    assert script in (program.parent.parent / file).read_text()
    shown = run(["bash", "-c", f"'{program}' --show-completion={shell}; exit $?"], program)
    assert script in shown.stdout


def test_an_unsupported_shell_is_refused(program):
    done = run([str(program), "--install-completion", "tcsh"], program)

    assert done.returncode == 2
    assert "bash, zsh or fish, not 'tcsh'" in done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_itself_completes_after_installing_it_from_bash(program, configured):
    run(["bash", "-c", f"'{program}' --install-completion zsh"], program)
    press_tab = f"""
        compdef() {{ :; }}
        compset() {{ print -r -- "compset $@"; }}
        _arguments() {{ print -r -- "$@"; }}
        source ~/.zfunc/_{PROGRAM}
        words=({PROGRAM} "$@") CURRENT=$(($# + 1))
        _mlflow_ae5_deploy_completion
    """

    for line, desired in TYPED:
        done = run(["zsh", "-f", "-c", press_tab, "zsh", *line.split()], program, **configured)

        assert done.stderr == ""
        assert re.findall(r'^"([^"]+)"', done.stdout.removeprefix("*: :(("), re.M) == [desired]

    done = run(["zsh", "-f", "-c", press_tab, "zsh", "env", "--format=sh"], program, **configured)
    assert done.stdout.splitlines() == ["compset -P *=", '*: :(("shell"))']  # zsh takes `shell` for what follows `=`
