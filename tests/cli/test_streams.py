"""What stdout and stderr carry when their reader has gone, and what the JSON documents always say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.answers import assert_no_accident
from tests.cli.bench import Outcome

PROGRAM = f"{sys.executable} -m mlflow_ae5_deploy"


def in_shell(bench, script: str) -> Outcome:
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=bench.folder,
        env=bench.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class TestAReaderThatGoes:
    def test_does_not_end_an_install(self, bench, capsys):
        # The pipe's only reader ends before the first line is written.
        shown = in_shell(
            bench, f"{PROGRAM} install --sandbox --release {bench.release} | true; exit ${{PIPESTATUS[0]}}"
        )

        assert (shown.code, shown.err) == (0, "")
        planned = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release))
        assert planned.data["outcome"] == "unchanged"

    @pytest.mark.parametrize(
        ("verb", "code"),
        [
            ("plan --sandbox --exit-code --release bundled", 30),
            ("plan --sandbox --exit-code --release bundled --json", 30),
            ("env --sandbox --show-token", 0),
            ("runbook --sandbox", 0),
        ],
    )
    @pytest.mark.parametrize("gone", ["| true; exit ${PIPESTATUS[0]}", ">&-"])
    def test_does_not_change_the_exit_code(self, bench, capsys, verb, code, gone):
        assert bench.install(capsys).code == 0
        shown = in_shell(bench, f"{PROGRAM} {verb} {gone}")

        assert (shown.code, shown.out) == (code, "")
        note = "MLFLOW_TRACKING_SERVER_CERT_PATH is a file on this machine."
        assert [line for line in shown.err.splitlines() if not line.startswith(note)] == []

    def test_an_error_needs_no_stderr(self, bench):
        assert in_shell(bench, f"{PROGRAM} env --sandbox --format nonsense 2>&-").code == 2
        assert in_shell(bench, f"{PROGRAM} plan --config nowhere.yaml 2>&-").code == 3


class TestDocuments:
    @pytest.mark.parametrize(
        ("argv", "verb", "code"),
        [
            (["plan", "--json", "--config", "nowhere.yaml"], "plan", 3),
            (["sandbox", "logs", "--json", "-n", "0"], "sandbox logs", 2),
            (["instal", "--json"], "", 2),
            (["env", "--format", "json", "--config", "nowhere.yaml"], "env", 3),
            (["env", "--format=json", "--config", "nowhere.yaml"], "env", 3),
            (["env", "-f", "json", "--nonsense"], "env", 2),
        ],
    )
    def test_an_error_names_the_verb(self, bench, capsys, argv, verb, code):
        shown = bench.run(capsys, *argv)

        assert (shown.code, shown.data["verb"], shown.data["outcome"]) == (code, verb, "failed")
        assert shown.data["error"]["exit_code"] == code

    @pytest.mark.parametrize(
        ("argv", "verb"),
        [
            (["sandbox", "up"], "sandbox up"),
            (["sandbox", "status"], "sandbox status"),
            (["sandbox", "logs"], "sandbox logs"),
            (["runbook", "--sandbox"], "runbook"),
            (["init", "another.yaml", "--force"], "init"),
            (["sandbox", "down"], "sandbox down"),
            (["sandbox", "reset", "--yes"], "sandbox reset"),
        ],
    )
    def test_a_success_shows_its_result(self, bench, capsys, argv, verb):
        shown = bench.run(capsys, *argv, "--json")

        assert (shown.code, shown.data["verb"], shown.data["outcome"]) == (0, verb, "done")

    @pytest.mark.parametrize(
        ("argv", "remedy"),
        [
            (["instal"], "`mlflow-ae5-deploy --help`"),
            (["sandbox", "logs", "-n", "0"], "`mlflow-ae5-deploy sandbox logs --help`"),
            (["plan", "--nonsense"], "`mlflow-ae5-deploy plan --help`"),
        ],
    )
    def test_a_wrong_command_line_is_led_to_the_right_help(self, bench, capsys, argv, remedy):
        shown = bench.run(capsys, *argv)

        assert shown.code == 2
        assert f"See {remedy}." in shown.err
        assert_no_accident(shown)
