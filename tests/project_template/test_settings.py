"""Where settings come from, what is shown of them, and what the project file promises."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow_ae5_server.common import redaction, settings
from mlflow_ae5_server.common.errors import Configuration

from tests.yaml_bombs import BOMBS, ODD_VALUES

PROJECT = Path(__file__).parents[2] / "project_template" / "anaconda-project.yml"
TTL = "MLFLOW_TRACKING_GC_TTL"
YML = {TTL: "30d0h0m0s"}


@pytest.mark.parametrize(
    ("environment", "secret", "value", "source"),
    [
        ({TTL: "30d0h0m0s"}, None, "30d0h0m0s", "default"),  # AE5 puts the default into the environment
        ({}, None, "30d0h0m0s", "default"),  # started by hand
        ({TTL: "30d0h0m0s"}, "7d", "7d", "secret"),
        ({TTL: "1d"}, "7d", "1d", "variable"),
        ({TTL: "1d"}, None, "1d", "variable"),
        ({TTL: ""}, "7d", "7d", "secret"),
        ({TTL: "unset"}, "7d", None, "variable"),  # a variable may take a secret away
        ({TTL: "30d"}, "7d", "30d", "variable"),  # the default spelled differently is not the default
    ],
)
def test_a_variable_beats_a_secret_beats_the_default(
    environment: dict[str, str], secret: str | None, value: str | None, source: str
) -> None:
    secrets = {} if secret is None else {TTL: secret}
    setting = settings.resolve(environment, YML, secrets)[TTL]
    assert (setting.value, setting.source) == (value, source)


def test_the_default_is_what_the_project_file_says_also_after_it_was_customised() -> None:
    resolved = settings.resolve({TTL: "5d", "AWS_REGION": "eu"}, {TTL: "5d", "AWS_REGION": "eu"}, {"AWS_REGION": "us"})
    assert (resolved[TTL].value, resolved[TTL].source) == ("5d", "default")
    assert (resolved["AWS_REGION"].value, resolved["AWS_REGION"].source) == ("us", "secret")


def test_the_environment_is_made_to_say_what_was_resolved(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "anaconda-project.yml").write_text(
        "variables:\n  A_SETTING: {default: one, description: x}\n  NOTHING: unset\n  WITHOUT: null\n"
    )
    (tmp_path / "secrets" / "..data").mkdir(parents=True)
    (tmp_path / "secrets" / "..data" / "MLFLOW_TRACKING_TOKEN").write_text("tok-en-1234\n")
    (tmp_path / "secrets" / "MLFLOW_TRACKING_TOKEN").symlink_to("..data/MLFLOW_TRACKING_TOKEN")
    (tmp_path / "secrets" / "AWS_SECRET_ACCESS_KEY").write_text("aws-1234\r\n")
    (tmp_path / "secrets" / "not-a-variable").write_text("x")
    environ = {
        "PROJECT_DIR": str(tmp_path / "project"),
        "MLFLOW_AE5_SECRETS_DIR": str(tmp_path / "secrets"),
        "A_SETTING": "one",
        "NOTHING": "unset",
        "PATH": "/bin",
    }
    settings.load(environ)
    assert environ["MLFLOW_TRACKING_TOKEN"] == "tok-en-1234"
    assert environ["AWS_SECRET_ACCESS_KEY"] == "aws-1234"
    assert environ["A_SETTING"] == "one"
    assert environ["PATH"] == "/bin"
    assert not {"NOTHING", "WITHOUT", "not-a-variable", "MLFLOW_TRACKING_URI"} & environ.keys()
    assert redaction.scrub("key aws-1234, token tok-en-1234") == "key ********, token ********"


def test_a_certificate_kept_as_a_secret_becomes_its_file(tmp_path: Path) -> None:
    (tmp_path / "REQUESTS_CA_BUNDLE").write_text("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n")
    assert settings.read_secrets(tmp_path) == {"REQUESTS_CA_BUNDLE": str(tmp_path / "REQUESTS_CA_BUNDLE")}


def test_the_table_names_the_source_and_hides_what_is_sensitive() -> None:
    secrets = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql://u:hidden-1@h/d",
        "MLFLOW_TRACKING_TOKEN": "hidden-2",
        "X": "hidden-3",
        "MLFLOW_GATEWAY_BUDGET_REDIS_URL": "redis://:hidden-5@h/0",
        "MLFLOW_ENABLE_WORKSPACES": "true",  # one of `server.variables`
    }
    table = settings.resolve({"AWS_SECRET_ACCESS_KEY": "hidden-4"}, {"AWS_SECRET_ACCESS_KEY": "x"}, secrets).table()
    assert "hidden" not in table
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}
    assert lines["MLFLOW_BACKEND_STORE_URI"] == ["secret", "(not", "shown)"]
    assert lines["AWS_SECRET_ACCESS_KEY"] == ["variable", "(not", "shown)"]
    assert lines["MLFLOW_ENABLE_WORKSPACES"] == ["secret", "true"]
    assert lines["MLFLOW_TRACKING_GC_TTL"] == ["default", "30d0h0m0s"]
    assert lines["MLFLOW_TRACKING_URI"] == ["default", "(unset)"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        *BOMBS.values(),
        ("x" * 200_000, "larger than 128 kB"),
        ("a: [1", "is not valid YAML"),
        ("[" * 60_000, "anaconda-project.yml"),
    ],
    ids=lambda value: value[:20],
)
def test_the_project_file_is_read_with_a_bound(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "anaconda-project.yml").write_text(text)
    with pytest.raises(Configuration, match=says):
        settings.read_project_defaults(tmp_path)


@pytest.mark.parametrize("where", ["variables: {A: %s}", "variables: {? %s : 1}", "variables: %s", "variables: [%s]"])
def test_an_odd_value_in_the_project_file_is_a_value_or_refused(tmp_path: Path, where: str) -> None:
    for value in ODD_VALUES:
        (tmp_path / "anaconda-project.yml").write_text(where % value)
        with contextlib.suppress(Configuration):
            assert all(isinstance(text, str) for text in settings.read_project_defaults(tmp_path).values())


@pytest.mark.parametrize("name", ["yaml_limits.py", "json_input.py", "apprise_messages.py"])
def test_shared_files_are_those_of_the_client(name: str) -> None:
    ours = PROJECT.parent / "mlflow_ae5_server" / "common" / name
    theirs = PROJECT.parents[1] / "mlflow_ae5_deploy" / "common" / name
    assert ours.read_text() == theirs.read_text()


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("Yes", True), ("0", False), ("unset", False)])
def test_flags(text: str, expected: bool) -> None:
    assert settings.resolve({"FLAG": text}, {"FLAG": "off"}, {}).flag("FLAG") is expected


@pytest.mark.parametrize(
    ("method", "text"), [("flag", "maybe"), ("seconds", "soon"), ("seconds", "-1"), ("seconds", "nan")]
)
def test_values_that_mean_nothing_are_refused_by_name(method: str, text: str) -> None:
    resolved = settings.resolve({"SETTING": text}, {"SETTING": "1"}, {})
    with pytest.raises(Configuration, match="SETTING"):
        getattr(resolved, method)("SETTING")


# The project file


def test_code_and_project_file_agree_on_the_defaults() -> None:
    assert settings.read_project_defaults(PROJECT.parent) == settings.DEFAULTS


def test_every_variable_has_a_value_a_description_and_a_name_ae5_does_not_encrypt() -> None:
    for name, entry in yaml.safe_load(PROJECT.read_text())["variables"].items():
        assert entry.keys() == {"default", "description"}, name  # AE5 shows descriptions, and no comments
        assert isinstance(entry["default"], str), name
        assert entry["default"], name
        assert re.fullmatch(r"[^\n]{20,250}\.", entry["description"]), name
        assert not re.search(r"(_PASSWORD|_SECRET|_SECRET_KEY)$", name)


def test_commands_have_twins_and_every_environment_pins_mlflow() -> None:
    document = yaml.safe_load(PROJECT.read_text())
    commands, specs = document["commands"], document["env_specs"]
    jobs = ("GarbageCollection", "DatabaseUpgrade", "Check", "Backup", "Restore", "Drill")
    for name, http in (("TrackingServer", True), *((job, False) for job in jobs)):
        for command, spec in ((commands[name], "default"), (commands["Minimum" + name], "minimum")):
            assert (command["env_spec"], command["supports_http_options"]) == (spec, http)
            assert re.fullmatch(r"exec python -m mlflow_ae5_server [a-z-]+", command["unix"])  # options are appended
    assert len(commands) == 14
    for spec in specs.values():
        [pip] = [package["pip"] for package in spec["packages"] if isinstance(package, dict)]
        assert "mlflow==3.17.2" in pip
    desired = "psycopg PyMySQL pyodbc boto3 azure-storage-blob azure-identity google-cloud-storage"
    default = next(package["pip"] for package in specs["default"]["packages"] if isinstance(package, dict))
    assert set(desired.split()) <= {re.split(r"[\[><=]", requirement)[0] for requirement in default}


# Redaction of a whole process


LEAKY = """
import logging, os, subprocess, sys
from mlflow_ae5_server.common import redaction, settings
redaction.install()
settings.load(os.environ)
uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
print(uri, os.environ["MLFLOW_TRACKING_TOKEN"])
logging.basicConfig()
logging.error("cannot connect to %s", uri)
line = "a child says " + uri
child = subprocess.Popen([sys.executable, "-m", "mlflow_ae5_server.common.redact_pipe"], stdin=subprocess.PIPE)
child.communicate(line.encode())
raise RuntimeError("no way to " + uri.partition("@")[0])
"""


def test_nothing_a_process_prints_holds_a_secret(tmp_path: Path) -> None:
    (tmp_path / "MLFLOW_BACKEND_STORE_URI").write_text("postgresql://user:in-a-%2Flog@host/db\n")
    (tmp_path / "MLFLOW_TRACKING_TOKEN").write_text("in-another-log\n")
    environment = {"PYTHONPATH": str(PROJECT.parent), "MLFLOW_AE5_SECRETS_DIR": str(tmp_path), "PATH": "/bin"}
    command = [sys.executable, "-c", LEAKY]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert "a child says postgresql://user:********@host/db" in output
    assert "RuntimeError: no way to postgresql://user:********" in output
    assert "cannot connect to postgresql://user:********@host/db" in output
    assert "in-a" not in output
