"""Each verb by itself: its help, its JSON, and what the small ones do."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_ae5_deploy.cli.verbs import command_tree
from tests.cli.answers import assert_no_accident, assert_tells

HAS_AE5_TOOLS = importlib.util.find_spec("ae5_tools") is not None
NEEDS_A_HOST = "platform.hostname"


def verbs(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb there is, with the sub-verbs."""
    command = command_tree() if command is None else command
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, verb in inner.items():
        yield from verbs(verb, (*words, name))


VERBS = dict(verbs())
NAMES = [" ".join(words) for words in VERBS]


def options_of(name: str) -> set[str]:
    return {flag for parameter in VERBS[tuple(name.split())].params for flag in getattr(parameter, "opts", [])}


READING = {
    "plan",
    "status",
    "runbook",
    "history",
    "logs",
    "open",
    "schedule-rotation",
    "sandbox status",
    "sandbox logs",
}
NO_PLATFORM = {"init", "release export", *(name for name in NAMES if name.startswith("sandbox "))}


class TestEveryVerb:
    @pytest.mark.parametrize("name", NAMES)
    def test_has_the_shared_options(self, name):
        options = options_of(name)

        assert {"--json", "--verbose", "-v", "--traceback"} <= options
        assert ("--yes" in options) == (name not in READING)
        assert name in NO_PLATFORM or {"--sandbox", "--config", "--profile", "--hostname", "--session"} <= options

    @pytest.mark.parametrize("name", ["", "sandbox", *NAMES])
    def test_has_help_that_explains_every_option(self, bench, capsys, name):
        told = bench.run(capsys, *name.split(), "--help")

        assert told.code == 0, told.err
        assert told.err == ""
        assert told.out.startswith("Usage: mlflow-ae5-deploy")
        if name in NAMES:
            hidden = [p for p in VERBS[tuple(name.split())].params if getattr(p, "hidden", False)]
            wordless = [p.name for p in VERBS[tuple(name.split())].params if p not in hidden and not p.help]
            assert wordless == []

    @pytest.mark.parametrize("name", NAMES)
    def test_can_answer_in_json_also_when_the_question_is_wrong(self, bench, capsys, name):
        assert "--json" in options_of(name)

        refused = bench.run(capsys, *name.split(), "--json", "--nonsense")

        assert refused.code == 2
        assert refused.data["outcome"] == "failed"
        assert refused.data["error"]["kind"] == "Usage"
        assert "--nonsense" in refused.data["error"]["what"]
        assert "--nonsense" in refused.err

    @pytest.mark.parametrize("name", [name for name in NAMES if "--hostname" in options_of(name) and name != "init"])
    def test_never_guesses_a_host(self, bench, capsys, name):
        required = {"logs": [], "share": []}.get(name, [])
        bench.forget_calls()

        told = bench.run(capsys, *name.split(), *required, "--json")

        assert told.data, told.err
        assert_no_accident(told)
        assert bench.calls() == []
        if name not in ("runbook", "doctor"):  # these say what they can without one
            assert_tells(told, 3, NEEDS_A_HOST)

    @pytest.mark.parametrize("name", [name for name in NAMES if "--sandbox" in options_of(name)])
    def test_a_broken_configuration_is_told_as_json_too(self, bench, capsys, name):
        path = bench.configure("nonsense: 1\n")

        told = bench.run(capsys, *name.split(), "--sandbox", "--json", "--config", str(path))

        assert json.loads(told.out)
        assert told.code != 0
        assert "nonsense" in told.out
        assert_no_accident(told)

    def test_the_version(self, bench, capsys):
        told = bench.run(capsys, "--version")

        assert (told.code, told.err) == (0, "")
        assert re.fullmatch(r"mlflow-ae5-deploy \d+\.\d+\.\d+\n", told.out)


class TestInit:
    def test_writes_a_private_file_that_loads_and_that_plan_takes(self, bench, capsys, tmp_path):
        path = tmp_path / "mine.yaml"

        wrote = bench.run(capsys, "init", str(path), "--hostname", "ae5.example.com", "--username", "svc-mlflow")

        assert wrote.code == 0, wrote.err
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        values = yaml.safe_load(path.read_text())
        assert values["platform"]["hostname"] == "ae5.example.com"
        assert values["account"]["username"] == "svc-mlflow"
        assert str(path) in wrote.out
        printed = bench.run(capsys, "runbook", "--config", str(path))
        assert printed.code == 0, printed.err
        assert "ae5.example.com" in printed.out
        planned = bench.run(capsys, "plan", "--sandbox", "--config", str(path), "--release", str(bench.release))
        assert planned.code == 0, planned.err

    def test_does_not_overwrite_unless_told_to(self, bench, capsys, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("project: {name: precious}\n")

        refused = bench.run(capsys, "init", str(path))

        assert_tells(refused, 3, "not overwritten", str(path), "--force")
        assert path.read_text() == "project: {name: precious}\n"
        assert bench.run(capsys, "init", str(path), "--force").code == 0
        assert "precious" not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["nowhere/mine.yaml"], ["nowhere/mine.yaml", "No such file"]),
            (["mine.yaml", "--hostname", "https://ae5"], ["platform.hostname", "leave the scheme"]),
            (["mine.yaml", "--username", "a b"], ["account.username", "spaces"]),
        ],
    )
    def test_says_what_it_cannot_write(self, bench, capsys, argv, words):
        refused = bench.run(capsys, "init", *argv)

        assert refused.code == 3
        for word in words:
            assert word in refused.err
        assert not Path("mine.yaml").exists()

    def test_as_json(self, bench, capsys, tmp_path):
        wrote = bench.run(capsys, "init", str(tmp_path / "x.yaml"), "--json")

        assert (wrote.code, wrote.data["path"]) == (0, str(tmp_path / "x.yaml"))


class TestPlan:
    """In order: before and after an install."""

    def test_tells_by_its_exit_code_that_changes_are_pending(self, bench, capsys):
        plan = ("plan", "--sandbox", "--release", str(bench.release))
        bench.forget_calls()

        codes = [bench.run(capsys, *plan, *more).code for more in ([], ["--exit-code"], ["--exit-code", "--json"])]

        assert codes == [0, 30, 30]
        assert bench.writes() == []

    def test_says_for_each_stage_what_and_why(self, bench, capsys):
        told = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release))

        assert [stage["number"] for stage in told.data["stages"]] == list(range(1, 15))
        assert {stage["outcome"] for stage in told.data["stages"]} == {"planned", "unchanged"}
        for stage in told.data["stages"]:
            assert stage["reason"]
            assert all(change["reason"] for change in stage["changes"])
        assert told.data["writes"] == 0
        assert any("install" in step for step in told.data["next"])

    def test_text_and_json_say_the_same(self, bench, capsys):
        plan = ("plan", "--sandbox", "--release", str(bench.release))
        text, data = bench.run(capsys, *plan), bench.run(capsys, *plan, "--json")

        for stage in data.data["stages"]:
            assert f"{stage['number']:>2} {stage['name']}" in text.out
            for change in stage["changes"]:
                assert change["phrase"] in text.out

    def test_has_nothing_to_do_after_an_install(self, bench, capsys):
        assert bench.install(capsys).code == 0
        bench.forget_calls()

        told = bench.run(capsys, "plan", "--sandbox", "--exit-code", "--json", "--release", str(bench.release))

        assert told.code == 0, told.err
        assert told.data["outcome"] == "unchanged"
        assert bench.writes() == []


class TestEnv:
    def test_is_understood_by_a_shell(self, bench, capsys):
        assert bench.install(capsys).code == 0
        printed = bench.run(capsys, "env", "--sandbox", "--show-token").out
        script = 'printf "%s\\n" "$MLFLOW_TRACKING_URI" "$MLFLOW_TRACKING_TOKEN" "$MLFLOW_TRACKING_SERVER_CERT_PATH"'

        told = subprocess.run(["sh", "-euc", f"{printed}\n{script}"], capture_output=True, text=True, check=True)

        uri, token, ca_file = told.stdout.splitlines()
        assert uri == bench.owner().get("deployments")[0]["url"].rstrip("/")
        assert token.count(".") == 2
        assert Path(ca_file).samefile(bench.info.ca_file)

    def test_issues_no_token_unasked(self, bench, capsys):
        bench.forget_calls()

        told = bench.run(capsys, "env", "--sandbox", "--json")

        assert told.code == 0, told.err
        assert "MLFLOW_TRACKING_TOKEN" not in told.data["environment"]
        assert bench.writes() == []

    def test_says_that_there_is_no_server(self, bench, capsys):
        path = bench.configure("deployment: {name: another}\n")

        refused = bench.run(capsys, "env", "--sandbox", "--config", str(path))

        assert_tells(refused, 15, "`another`", "there is none", "install")


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
        asked = [[*shlex.split(line)[1:], "--help"] for line in commands]

        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(asked),
            env=bench.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

        ends = re.findall(r"^END (\S+) (.*)$", done.stdout, re.M)
        assert len(ends) == len(commands), done.stderr
        assert [words for code, words in ends if code != "0"] == [], done.stderr


class TestSandbox:
    """In order; the last one takes it away."""

    def test_up_again_is_the_same(self, bench, capsys):
        before = bench.info

        up = bench.run(capsys, "sandbox", "up", "--json")

        assert up.code == 0, up.err
        assert (up.data["hostname"], up.data["pid"]) == (before.hostname, before.pid)

    def test_status_says_how_to_sign_in_and_shows_no_password(self, bench, capsys):
        text, data = bench.run(capsys, "sandbox", "status"), bench.run(capsys, "sandbox", "status", "--json").data

        file = Path(data["credentials_file"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert str(file) in text.out
        assert data["up"] is True
        passwords = [json.loads(file.read_text())["admin"]["password"]]
        assert not [word for word in passwords if word in text.out]

    def test_logs_ends_with_as_many_lines_as_wanted(self, bench, capsys):
        text = bench.run(capsys, "sandbox", "logs", "--lines", "1")
        data = bench.run(capsys, "sandbox", "logs", "--lines", "1", "--json")

        assert len(text.out.splitlines()) == 1
        assert len(data.data["lines"]) == 1

    def test_down_keeps_everything_and_is_told_apart_from_never_up(self, bench, capsys):
        assert bench.install(capsys).code == 0
        before = bench.everything()

        first, second = (bench.run(capsys, "sandbox", "down", "--json") for _ in range(2))
        status = bench.run(capsys, "sandbox", "status", "--json")
        up = bench.run(capsys, "sandbox", "up")

        assert [first.data["was_up"], second.data["was_up"], status.data["up"]] == [True, False, False]
        assert (first.code, second.code, status.code, up.code) == (0, 0, 0, 0)
        assert bench.everything() == before

    def test_reset_is_not_done_without_agreement(self, bench, capsys):
        refused = bench.run(capsys, "sandbox", "reset")

        assert refused.code == 2
        assert "--yes" in refused.err
        assert bench.run(capsys, "sandbox", "status", "--json").data["up"] is True

    def test_reset_forgets_everything(self, bench, capsys):
        done = bench.run(capsys, "sandbox", "reset", "--yes", "--json")

        assert done.code == 0, done.err
        assert not (bench.folder / "state" / "sandbox").exists()
        assert bench.run(capsys, "sandbox", "logs").code == 0
