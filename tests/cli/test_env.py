"""`env`: every format gives its reader exactly the values, whatever is in them; the token only when requested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Usage
from mlflow_ae5_deploy.render.env import FORMATS
from tests.cli.answers import assert_error

NASTY = {
    "MLFLOW_TRACKING_URI": "https://localhost:1234",
    "SPACES": "/a folder/with  two/ca.pem ",
    "QUOTES": """it's "quoted" `too`""",
    "DOLLAR": "$HOME and $(id) and !x",
    "SLASHES": "C:\\new\\table\\",
    "SIGNS": "a#b = c;d&e|f*g?h~{i}%j",
    "UNICODE": "größe ✓",
    "EMPTY": "",
}
PRINT = "import json, os, sys; print(json.dumps({n: os.environ.get(n) for n in sys.argv[1:]}))"


def seen_by(*command: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """What a process that has read the text then has in its environment."""
    ended = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout.splitlines()[-1])


def python_with(text: str, tmp_path, **env: str) -> dict[str, str]:
    file = tmp_path / "reader.py"
    file.write_text(f"{text}\n{PRINT}\n")
    return seen_by(sys.executable, str(file), *NASTY, "MLFLOW_TRACKING_TOKEN", env=env)


class TestEveryValueArrives:
    def test_in_a_shell(self):
        text = FORMATS["shell"]({**NASTY, "LINES": "one\ntwo"})
        script = f'{text}\nexec "$0" -c "$1" {" ".join(NASTY)} LINES'
        assert seen_by("sh", "-c", script, sys.executable, PRINT) == {**NASTY, "LINES": "one\ntwo"}

    def test_in_python(self, tmp_path):
        assert python_with(FORMATS["python"](NASTY), tmp_path) == {**NASTY, "MLFLOW_TRACKING_TOKEN": None}

    def test_in_a_notebook_that_has_a_token_already(self, tmp_path):
        got = python_with(FORMATS["notebook"](NASTY), tmp_path, MLFLOW_TRACKING_TOKEN="mine")
        assert got == {**NASTY, "MLFLOW_TRACKING_TOKEN": "mine"}

    def test_in_a_notebook_with_the_token_in_it(self, tmp_path):
        given = {**NASTY, "MLFLOW_TRACKING_TOKEN": "ey.J0"}
        text = FORMATS["notebook"](given)
        assert python_with(text, tmp_path) == given
        assert text.startswith("# This cell holds a secret")

    def test_through_python_dotenv(self, tmp_path):
        dotenv = pytest.importorskip("dotenv")
        file = tmp_path / ".env"
        file.write_text(FORMATS["dotenv"](NASTY))
        assert dict(dotenv.dotenv_values(file)) == NASTY

    def test_ordinary_values_stand_bare_in_a_dotenv_file(self):
        # `docker run --env-file` takes quotes for a part of the value
        assert "MLFLOW_TRACKING_URI=https://localhost:1234\n" in FORMATS["dotenv"](NASTY)

    def test_in_the_arguments_of_conda(self, tmp_path):
        recorder = tmp_path / "conda"
        recorder.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {tmp_path}/seen\n')
        recorder.chmod(0o755)
        subprocess.run(
            ["sh", "-ec", FORMATS["conda"](NASTY)], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True
        )
        words = (tmp_path / "seen").read_text().split("\0")[:-1]
        assert words == [word for n, v in NASTY.items() for word in ("env", "config", "vars", "set", f"{n}={v}")]

    def test_a_token_is_no_argument_of_conda_nor_of_anything_else(self, tmp_path):
        """Every command of the text is replaced by one that records its arguments, and does its work."""
        token, folder, programs = "ey.J0 it's $HOME", tmp_path / "env of mine", tmp_path / "bin"
        old = folder / "etc/conda/activate.d/mlflow-tracking-token.sh"
        old.parent.mkdir(parents=True)
        old.write_text("an earlier one")
        old.chmod(0o644)
        programs.mkdir()
        for name in ("conda", "cat", "mkdir", "rm"):
            real = f'exec /usr/bin/env -i PATH=/usr/bin:/bin {name} "$@"' if name != "conda" else ":"
            (programs / name).write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >> {tmp_path}/seen\n{real}\n')
            (programs / name).chmod(0o755)
        text = FORMATS["conda"]({**NASTY, "MLFLOW_TRACKING_TOKEN": token})
        here = {"PATH": f"{programs}:{os.environ['PATH']}", "CONDA_PREFIX": str(folder)}
        subprocess.run(["sh", "-e"], input=text, text=True, env=here, check=True)

        assert "ey.J0" not in (tmp_path / "seen").read_text()
        assert "SPACES=" in (tmp_path / "seen").read_text()
        assert old.stat().st_mode & 0o777 == 0o600
        script = f'. "{old}"; exec "$0" -c "$1" MLFLOW_TRACKING_TOKEN'
        assert seen_by("sh", "-c", script, sys.executable, PRINT) == {"MLFLOW_TRACKING_TOKEN": token}
        leave = (folder / "etc/conda/deactivate.d/mlflow-tracking-token.sh").read_text()
        assert leave == "unset MLFLOW_TRACKING_TOKEN\n"
        assert "pipe it instead of pasting it" in text

    def test_a_token_for_conda_needs_an_environment_to_be_active(self, tmp_path):
        text = FORMATS["conda"]({"MLFLOW_TRACKING_TOKEN": "ey.J0"})
        ended = subprocess.run(["sh"], input=text, text=True, env={"PATH": os.environ["PATH"]}, capture_output=True)
        assert ended.returncode != 0
        assert "activate the conda environment first" in ended.stderr

    def test_in_json(self):
        assert json.loads(FORMATS["json"](NASTY))["environment"] == NASTY

    @pytest.mark.parametrize("value", ["a ${HOME} b", "one\ntwo"])
    def test_what_a_dotenv_file_cannot_hold_is_refused(self, value):
        with pytest.raises(Usage, match="dotenv file cannot hold"):
            FORMATS["dotenv"]({"NAME": value})


class TestTheVerb:
    @pytest.mark.parametrize("form", list(FORMATS))
    def test_prints_no_token_without_the_option_and_names_it(self, bench, capsys, form):
        bench.install(capsys)
        bench.forget_calls()

        printed = bench.run(capsys, "env", "--sandbox", "--format", form)

        assert printed.code == 0, printed.err
        assert bench.writes() == []
        assert "MLFLOW_TRACKING_URI" in printed.out
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH is a file on this machine" in printed.err
        message = {"notebook": "getpass(", "json": '"schema": 1'}.get(form, "add --show-token")
        assert message in printed.out

    def test_the_token_it_prints_opens_the_server(self, bench, capsys):
        bench.install(capsys)

        printed = bench.run(capsys, "env", "--sandbox", "--format", "python", "--show-token")

        assert printed.code == 0, printed.err
        probe = (
            f"{printed.out}\nimport requests\n"
            "answer = requests.get(os.environ['MLFLOW_TRACKING_URI'] + '/version', allow_redirects=False,\n"
            "    headers={'Authorization': 'Bearer ' + os.environ['MLFLOW_TRACKING_TOKEN']},\n"
            "    verify=os.environ['MLFLOW_TRACKING_SERVER_CERT_PATH'])\n"
            "print(answer.status_code, answer.text)"
        )
        ended = subprocess.run([sys.executable, "-c", probe], env={}, capture_output=True, text=True, check=True)
        assert ended.stdout == "200 3.17.2\n"

    def test_shell_is_the_default_format(self, bench, capsys):
        bench.install(capsys)
        assert "export MLFLOW_TRACKING_URI=" in bench.run(capsys, "env", "--sandbox").out
        assert bench.run(capsys, "env", "--sandbox", "--json").data["verb"] == "env"

    @pytest.mark.parametrize(
        ("options", "message"),
        [(["--format", "xml"], "not 'xml'"), (["--json", "--format", "shell"], "exclude each other")],
    )
    def test_contradictory_options_are_a_usage_error(self, bench, capsys, options, message):
        refused = bench.run(capsys, "env", "--sandbox", *options)
        assert refused.code == 2
        assert message in refused.err


class TestEnv:
    def test_is_understood_by_a_shell(self, bench, capsys):
        assert bench.install(capsys).code == 0
        printed = bench.run(capsys, "env", "--sandbox", "--show-token").out
        script = 'printf "%s\\n" "$MLFLOW_TRACKING_URI" "$MLFLOW_TRACKING_TOKEN" "$MLFLOW_TRACKING_SERVER_CERT_PATH"'

        shown = subprocess.run(["sh", "-euc", f"{printed}\n{script}"], capture_output=True, text=True, check=True)

        uri, token, ca_file = shown.stdout.splitlines()
        assert uri == bench.owner().get("deployments")[0]["url"].rstrip("/")
        assert token.count(".") == 2
        assert Path(ca_file).samefile(bench.info.ca_file)

    def test_issues_no_token_without_the_option(self, bench, capsys):
        bench.forget_calls()

        shown = bench.run(capsys, "env", "--sandbox", "--json")

        assert shown.code == 0, shown.err
        assert "MLFLOW_TRACKING_TOKEN" not in shown.data["environment"]
        assert bench.writes() == []

    def test_without_a_server_it_is_an_error(self, bench, capsys):
        path = bench.configure("deployment: {name: another}\n")

        refused = bench.run(capsys, "env", "--sandbox", "--config", str(path))

        assert_error(refused, 15, "`another`", "There is no deployment", "install")
