"""The printed runbook: complete, without secrets, and its commands work by hand with the real `ae5`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import stat
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
    logins = json.loads(Path(bench.info.credentials_file).read_text())
    environment = bench.environment(
        AE5_ADMIN_PASSWORD=logins["admin"]["password"],
        NEW_PASSWORD=logins["reserved"][ACCOUNT],
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
def test_names_the_file_of_the_release(bench, capsys, source, message, unpacked):
    path = bench.configure(f"platform: {{hostname: ae5.example.com}}\nrelease: {{source: '{source}'}}\n")

    text = bench.run(capsys, "runbook", "--config", str(path)).out

    assert message in text
    assert unpacked in "\n".join(steps(text)[5])


def ae5_commands(text: str) -> list[str]:
    """The `ae5` commands in the printed runbook, those within other words included."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    found = [re.search(r"(?:^|^env -u AE5_USERNAME |\$\()(ae5 [^|]*)", line) for line in lines]
    return [match[1].strip() for match in found if match]


class TestRunbook:
    FULL = """\
project: {name: my.project}
deployment: {name: prod server, endpoint: prod-mlflow, revision: '0.2.0', resource_profile: large}
gc: {name: nightly gc, schedule: 15 3 * * *, variables: {MLFLOW_TRACKING_GC_TTL: 7d0h0m0s, OTHER: a b}}
sharing: {groups: [data-science], users: [jdoe, asmith]}
consumers: [{username: jdoe, password: 'env:JDOE'}]
platform: {hostname: ae5.example.com}
account: {username: svc-mlflow, password: 'env:PLANTED'}
admin: {username: root, password: 'env:PLANTED'}
server: {backend_store_uri: 'env:PLANTED', secrets: {AWS_SECRET_ACCESS_KEY: 'env:PLANTED'}}
"""

    def test_has_all_steps_and_needs_no_connection(self, bench, capsys, monkeypatch):
        monkeypatch.setenv("PLANTED", "postgresql+psycopg://u:planted-password@h/d")
        path = bench.configure(self.FULL)
        bench.forget_calls()

        printed = bench.run(capsys, "runbook", "--config", str(path))
        as_json = bench.run(capsys, "runbook", "--json", "--config", str(path))

        assert printed.code == 0, printed.err
        assert re.findall(r"^## (\d+)\.", printed.out, re.M) == [str(number) for number in range(1, 15)]
        for word in ("my.project", "prod server", "prod-mlflow", "15 3 * * *", "data-science", "jdoe", "svc-mlflow"):
            assert word in printed.out
        assert "planted-password" not in printed.out + as_json.out
        assert as_json.data["markdown"].strip() == printed.out.strip()
        assert bench.calls() == []

    def test_writes_the_token_into_the_file_of_a_consumer(self, bench, capsys, tmp_path):
        file = tmp_path / "of prometheus" / "token"
        file.parent.mkdir()
        config = self.FULL.replace("consumers: [", f"consumers: [{{file: '{file}'}}, ")
        _, *write = steps(bench.run(capsys, "runbook", "--config", str(bench.configure(config))).out)[12]

        given = {"PATH": os.environ["PATH"], "MLFLOW_TRACKING_TOKEN": "some.token-of-it"}
        subprocess.run(["bash", "-euc", "\n".join(write)], env=given, check=True)

        assert file.read_text() == "some.token-of-it"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]

    @pytest.mark.skipif(not HAS_AE5_TOOLS, reason="ae5-tools is not installed here (conda channel ae5-admin)")
    @pytest.mark.parametrize("configured", [False, True])
    def test_every_ae5_command_is_one_that_ae5_understands(self, bench, capsys, configured):
        """With --help at its end a command is parsed, its options checked, and nothing done."""
        options = ["--config", str(bench.configure(self.FULL))] if configured else ["--sandbox"]
        commands = ae5_commands(bench.run(capsys, "runbook", *options).out)
        assert len(commands) >= 12
        program = (
            "import json, sys\n"
            "from ae5_tools.cli.main import cli\n"
            "for words in json.load(sys.stdin):\n"
            "    try:\n"
            "        cli(words, prog_name='ae5', obj={})\n"
            "    except SystemExit as end:\n"
            "        print('END', end.code, *words)\n"
        )
        command_lines = [[*shlex.split(line)[1:], "--help"] for line in commands]

        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(command_lines),
            env=bench.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

        ends = re.findall(r"^END (\S+) (.*)$", done.stdout, re.M)
        assert len(ends) == len(commands), done.stderr
        assert [words for code, words in ends if code != "0"] == [], done.stderr
