"""Each verb by itself: its help, its JSON, and what the small ones do."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlflow_ae5_deploy.cli.verbs import GROUPS, command_tree
from tests.cli.answers import assert_error, assert_no_accident

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

    @pytest.mark.parametrize("name", ["", *GROUPS, *NAMES])
    def test_has_help_that_explains_every_option(self, bench, capsys, name):
        shown = bench.run(capsys, *name.split(), "--help")

        assert shown.code == 0, shown.err
        assert shown.err == ""
        assert shown.out.startswith("Usage: mlflow-ae5-deploy")
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
        required = {"backup prune": ["--keep-last", "1"]}.get(name, [])
        required += ["--yes"] if name not in READING else []  # taken also where nothing is asked
        bench.forget_calls()

        shown = bench.run(capsys, *name.split(), *required, "--json")

        assert shown.data, shown.err
        assert_no_accident(shown)
        assert bench.calls() == []
        if name not in ("runbook", "doctor"):  # these say what they can without one
            assert_error(shown, 3, NEEDS_A_HOST)

    @pytest.mark.parametrize("name", [name for name in NAMES if "--sandbox" in options_of(name)])
    def test_a_broken_configuration_is_reported_as_json_too(self, bench, capsys, name):
        path = bench.configure("nonsense: 1\n")

        shown = bench.run(capsys, *name.split(), "--sandbox", "--json", "--config", str(path))

        assert json.loads(shown.out)
        assert shown.code != 0
        assert "nonsense" in shown.out
        assert_no_accident(shown)

    def test_the_version(self, bench, capsys):
        shown = bench.run(capsys, "--version")

        assert (shown.code, shown.err) == (0, "")
        assert re.fullmatch(r"mlflow-ae5-deploy \d+\.\d+\.\d+\n", shown.out)


ADDRESSES = ["ae5.example.com", "https://ae5.example.com", "https://AE5.example.com:443/"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("where", ["option", "variable", "file"])
def test_a_host_may_be_given_as_an_address(bench, capsys, monkeypatch, address, where):
    words = ["runbook", "--username", "svc"]
    if where == "variable":
        monkeypatch.setenv("AE5_HOSTNAME", address)
    else:
        file = ["--config", str(bench.configure(f"platform: {{hostname: '{address}'}}\n"))]
        words += ["--hostname", address] if where == "option" else file

    shown = bench.run(capsys, *words)

    assert shown.code == 0, shown.err
    assert shown.out.startswith("# MLflow tracking server on ae5.example.com\n")
    assert "https://https" not in shown.out


class TestInit:
    def test_writes_a_private_file_that_loads_and_that_plan_takes(self, bench, capsys, tmp_path):
        path = tmp_path / "mine.yaml"

        wrote = bench.run(
            capsys, "init", str(path), "--hostname", "https://AE5.example.com/", "--username", "svc-mlflow"
        )

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

    def test_does_not_overwrite_without_force(self, bench, capsys, tmp_path):
        path = tmp_path / "mine.yaml"
        path.write_text("project: {name: precious}\n")

        refused = bench.run(capsys, "init", str(path))

        assert_error(refused, 3, "not overwritten", str(path), "--force")
        assert path.read_text() == "project: {name: precious}\n"
        assert bench.run(capsys, "init", str(path), "--force").code == 0
        assert "precious" not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["nowhere/mine.yaml"], ["nowhere/mine.yaml", "No such file"]),
            (["mine.yaml", "--hostname", "http://ae5"], ["platform.hostname", "with https://"]),
            (["mine.yaml", "--username", "a b"], ["account.username", "spaces"]),
        ],
    )
    def test_an_unwritable_file_is_named(self, bench, capsys, argv, words):
        refused = bench.run(capsys, "init", *argv)

        assert refused.code == 3
        for word in words:
            assert word in refused.err
        assert not Path("mine.yaml").exists()

    def test_as_json(self, bench, capsys, tmp_path):
        wrote = bench.run(capsys, "init", str(tmp_path / "x.yaml"), "--json")

        assert (wrote.code, wrote.data["path"]) == (0, str(tmp_path / "x.yaml"))


class TestPlan:
    """Before an install; after one see test_install."""

    def test_shows_change_and_reason_of_each_stage(self, bench, capsys):
        shown = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release))

        assert [stage["number"] for stage in shown.data["stages"]] == list(range(1, 15))
        assert {stage["outcome"] for stage in shown.data["stages"]} == {"planned", "unchanged"}
        for stage in shown.data["stages"]:
            assert stage["reason"]
            assert all(change["reason"] for change in stage["changes"])
        assert shown.data["writes"] == 0
        assert any("install" in step for step in shown.data["next"])

    def test_text_and_json_agree(self, bench, capsys):
        plan = ("plan", "--sandbox", "--release", str(bench.release))
        text, data = bench.run(capsys, *plan), bench.run(capsys, *plan, "--json")

        for stage in data.data["stages"]:
            assert f"{stage['number']:>2} {stage['name']}" in text.out
            for change in stage["changes"]:
                assert change["phrase"] in text.out
