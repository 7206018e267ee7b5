"""The printed runbook, done by hand: its commands, as they stand, on a fresh sandbox, with the real `ae5`."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.bench import ACCOUNT

HAS_AE5_TOOLS = importlib.util.find_spec("ae5_tools") is not None
PLACEHOLDER = "   # put what it prints into the shell variable MLFLOW_TRACKING_TOKEN"
ORDER = (3, 1, 5, 6, 8, 9, 10, 11, 12, 13, 14)  # step 1 says that it comes after the exports of step 3


def steps(text: str) -> dict[int, list[str]]:
    """Number -> the command lines."""
    found = re.split(r"^## (\d+)\. .*$", text, flags=re.M)[1:]
    return {
        int(number): "".join(re.findall(r"```sh\n(.*?)```", body, re.S)).splitlines()
        for number, body in zip(found[::2], found[1::2], strict=True)
    }


def script(by_number: dict[int, list[str]]) -> str:
    """What the reader adds: passwords, and the token into its variable."""
    lines = ["set -euo pipefail"]
    for number in ORDER:
        for line in by_number[number]:
            if number == 3 and line == "ae5 login":
                continue  # of the account that step 1 makes
            if " user create " in line:
                line += ' --password "$NEW_PASSWORD"'
            if line.endswith(PLACEHOLDER):
                line = f'MLFLOW_TRACKING_TOKEN="$({line.removesuffix(PLACEHOLDER)})"'
            lines += [f"echo '== {number}' >&2", line]
        if number == 1:
            lines.append("ae5 login")
    return "\n".join(lines)


@pytest.mark.skipif(not HAS_AE5_TOOLS, reason="ae5-tools is not installed here (conda channel ae5-admin)")
def test_every_step_works_as_it_is_printed(bench, capsys):
    path = bench.configure(f"release: {{source: {bench.release}}}\nsharing: {{groups: [everyone]}}\n")
    by_number = steps(bench.run(capsys, "runbook", "--sandbox", "--config", str(path)).out)
    known = json.loads(Path(bench.info.credentials_file).read_text())
    environment = bench.environment(
        AE5_ADMIN_PASSWORD=known["admin"]["password"],
        NEW_PASSWORD=known["reserved"][ACCOUNT],
        EDITOR="true",
        PYTHONWARNINGS="ignore",
    )
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"

    done = subprocess.run(
        ["bash", "-c", script(by_number)],
        cwd=bench.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    there = bench.everything()
    assert [len(there[kind]) for kind in ("projects", "deployments", "jobs")] == [1, 1, 1]
    assert {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN"} <= set(there["secrets"])
    (deployment,) = bench.owner().get("deployments")
    assert f"\n{deployment['url'].rstrip('/')}\n" in done.stdout


@pytest.mark.parametrize(
    ("source", "message", "unpacked"),
    [
        ("bundled", "the folder `project_template`", "cp -r project_template project"),
        ("1.2.3", "`mlflow.tracking.server.1.2.3.tar.gz`", "tar xzf mlflow.tracking.server.1.2.3.tar.gz -C project"),
        ("latest", "`mlflow.tracking.server.X.Y.Z.tar.gz`", "tar xzf mlflow.tracking.server.X.Y.Z.tar.gz -C project"),
        ("https://h.example.com/a/rel.tar.gz", "Download it.", "tar xzf rel.tar.gz -C project"),
        ("./my rel.tar.gz", "my rel.tar.gz`", "my rel.tar.gz' -C project"),
    ],
)
def test_says_where_the_release_is(bench, capsys, source, message, unpacked):
    path = bench.configure(f"platform: {{hostname: ae5.example.com}}\nrelease: {{source: '{source}'}}\n")

    text = bench.run(capsys, "runbook", "--config", str(path)).out

    assert message in text
    assert unpacked in "\n".join(steps(text)[5])
