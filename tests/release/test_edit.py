"""Edits of anaconda-project.yml as rows of data: customization, changed lines, reported changes."""

from __future__ import annotations

import difflib
import re
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.bundled import template_dir
from mlflow_ae5_deploy.release.customize import refuse_secret
from mlflow_ae5_deploy.release.edit import edit_project_file


def edit(data: bytes, **desired: Any) -> tuple[str, list[str]]:
    slipstream = SlipstreamSettings(**desired)
    edited, changes = edit_project_file(data, slipstream, "here")
    return edited.decode(), changes


def lines_changed(before: bytes, after: str) -> list[str]:
    diff = difflib.ndiff(before.decode().splitlines(), after.splitlines())
    return [line for line in diff if line[0] in "+-"]


CASES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    (
        {"variables": {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}},
        ["-   MLFLOW_TRACKING_GC_TTL: 30d0h0m0s  # how long", "+   MLFLOW_TRACKING_GC_TTL: 7d0h0m0s   # how long"],
        ["variable MLFLOW_TRACKING_GC_TTL: 30d0h0m0s → 7d0h0m0s"],
    ),
    (
        {"variables": {"DESCRIBED": "new"}},
        ["-     default: old", "+     default: new"],
        ["variable DESCRIBED: old → new"],
    ),
    (
        {"variables": {"NEW": "x"}},
        ["+   NEW: x"],
        ["variable NEW: added (x)"],
    ),
    (
        {"dependencies": {"mlflow": "==3.17.1"}},
        [
            '-           - MLflow[extras] == 3.17.2 ; python_version > "3.8"',
            '+           - MLflow[extras]==3.17.1 ; python_version > "3.8"',
            "-       - mlflow=2.9",
            "+       - mlflow==3.17.1",
        ],
        [
            'package MLflow[extras] == 3.17.2 ; python_version > "3.8" → '
            'MLflow[extras]==3.17.1 ; python_version > "3.8" (env_spec default)',
            "package mlflow=2.9 → mlflow==3.17.1 (env_spec minimum)",
        ],
    ),
    (
        {"dependencies": {"Azure.Identity": "=1.25"}},  # names are compared as package tools do; pip has no single =
        ["-           - azure_identity>=1", "+           - azure_identity==1.25.*"],
        ["package azure_identity>=1 → azure_identity==1.25.* (env_spec default)"],
    ),
    (
        {"dependencies": {"psycopg2": "=2.9.9"}},
        ["-       - conda-forge::psycopg2=2.9.3", "+       - conda-forge::psycopg2=2.9.9"],
        ["package conda-forge::psycopg2=2.9.3 → conda-forge::psycopg2=2.9.9 (env_spec default)"],
    ),
    (
        {"dependencies": {"cowsay": ">=1,<2"}},
        ["+       - cowsay>=1,<2", "+       - cowsay>=1,<2"],
        [
            "package cowsay>=1,<2: added (env_spec default)",
            "package cowsay>=1,<2: added (env_spec minimum)",
        ],
    ),
    (
        {"channels": ["https://a.example/x", "defaults"]},
        ["+   - https://a.example/x"],
        ["channels: https://a.example/x, defaults first"],
    ),
    ({"channels": ["defaults"]}, [], []),
    (
        {"commands": {"Hello": {"unix": "echo hello", "description": "yes", "supports_http_options": True}}},
        [
            "+   Hello:",
            "+     unix: echo hello",
            "+     env_spec: default",
            "+     supports_http_options: true",
            '+     description: "yes"',
        ],
        ["command Hello: added"],
    ),
    (
        {"channels": ["https://a.example/x"]},
        ["+   - https://a.example/x"],
        ["channels: https://a.example/x first"],
    ),
    (
        {"commands": {"GarbageCollection": {"unix": "python -m other", "env_spec": "minimum"}}},
        [
            "-     unix: python -m gc  # end of line",
            "+     unix: python -m other",
            "+     supports_http_options: false",
        ],
        ["command GarbageCollection: replaced"],
    ),
    (  # what is left out is the release's
        {"commands": {"TrackingServer": {"unix": "python -m other", "supports_http_options": None}}},
        ["-     unix: python -m server", "+     unix: python -m other"],
        ["command TrackingServer: replaced"],
    ),
    (
        {"commands": {"TrackingServer": {"unix": "python -m server", "supports_http_options": False}}},
        ["-     supports_http_options: true", "+     supports_http_options: false"],
        ["command TrackingServer: replaced"],
    ),
    (
        {"commands": {"GarbageCollection": {"unix": "x"}}},  # env_spec minimum stays
        ["-     unix: python -m gc  # end of line", "+     unix: x", "+     supports_http_options: false"],
        ["command GarbageCollection: replaced"],
    ),
]


@pytest.mark.parametrize(("desired", "lines", "sentences"), CASES)
def test_only_the_edited_lines_change(make, desired, lines, sentences):
    after, changes = edit(make.project, **desired)
    assert sorted(lines_changed(make.project, after)) == sorted(lines)
    assert changes == sentences


MLFLOWS = ["mlflow==3.17.1", "mlflow-skinny==3.17.1", "mlflow-tracing==3.17.1"]


@pytest.mark.parametrize(
    ("desired", "lines"),
    [
        ({"boto3": ">=1.40"}, ["boto3>=1.40"]),
        ({"pyjwt": "=2.10"}, ["PyJWT==2.10.*"]),  # nobody asked for it, another package needs it
        ({"psycopg": "==3.2.1"}, ["psycopg[binary]==3.2.1"]),
        ({"MLflow": "==3.17.1"}, MLFLOWS * 2),  # in both environments, and the parts that must fit
        ({"mlflow": "==3.17.1", "mlflow-skinny": "==3.17.1"}, MLFLOWS * 2),
        ({"openssl": "=3.5.7"}, ["openssl=3.5.7"] * 2),
    ],
)
def test_a_dependency_replaces_the_locked_line(desired, lines):
    before = (template_dir() / "anaconda-project.yml").read_bytes()
    changed = lines_changed(before, edit(before, dependencies=desired)[0])
    old, new = ([line[1:].split("#")[0].strip(" -") for line in changed if line[0] == sign] for sign in "-+")
    assert sorted(new) == sorted(lines)
    assert [re.split(r"[\[=<>]", line)[0] for line in old] == [re.split(r"[\[=<>]", line)[0] for line in new]


def test_every_comment_stays_in_front_of_what_it_explains(make):
    after, _ = edit(
        make.project,
        variables={"NEW": "x", "QUOTED": "61"},
        dependencies={"cowsay": "=1", "mlflow": "==3.17.1"},
        channels=["https://a.example/x"],
        commands={"Hello": {"unix": "echo hello"}, "TrackingServer": {"unix": "other"}},
    )
    lines = after.splitlines()
    for comment, below in [
        ("# heading of the file", "name: demo  # the name"),
        ("  # where runs are kept", "  MLFLOW_BACKEND_STORE_URI: sqlite:///data/mydb.sqlite"),
        ("    # inner comment", "    default: old"),
        ("# all commands", "commands:"),
        ("  # the server", "  TrackingServer:"),
        ("# environments", "env_specs:"),
        ("      # databases", "      - conda-forge::psycopg2=2.9.3"),
        ("          # exactly", '          - MLflow[extras]==3.17.1 ; python_version > "3.8"'),
        ("  # the small one", "  minimum:"),
    ]:
        assert lines[lines.index(comment) + 1] == below
    assert "    unix: python -m gc  # end of line" in lines
    assert "  - defaults  # the usual one" in lines
    assert lines[lines.index("# environments") - 1] == ""
    assert lines[lines.index("commands:") + 1] == "  # the server"


@pytest.mark.parametrize(
    "value",
    ["no", "yes", "on", "true", "null", "~", "", "1", "0.10", "1e3", "0x10", "0o17", "017", "12:30:45", "2026-01-01",
     "a: b", "a #b", "- a", "{x}", "*x", "&x", "!x", "%x", "@x", "`x", "'", '"', "a\nb", " a ", "é☃", "\t", "=", "<<"],
)  # fmt: skip
def test_values_are_texts_for_every_yaml(make, value):
    """1.1 (PyYAML) and 1.2 (ruamel.yaml) disagree about what is a number or a bool; ours is a text for both."""
    after, _ = edit(make.project, variables={"NEW": value, "DESCRIBED": value})
    for loaded in (yaml.safe_load(after), YAML(typ="safe", pure=True).load(after)):
        assert loaded["variables"]["NEW"] == value
        assert loaded["variables"]["DESCRIBED"]["default"] == value


@pytest.mark.parametrize(
    ("data", "desired", "expected"),
    [
        (b"commands: {}\n", {"variables": {"A": "1"}}, {"commands": {}, "variables": {"A": "1"}}),
        (b"variables:\n", {"variables": {"A": "1"}}, {"variables": {"A": "1"}}),
        (b"variables: [A, B]\n", {"variables": {"A": "1"}}, {"variables": {"A": "1", "B": None}}),
        (b"variables: {A: 5}\n", {"variables": {"A": "5"}}, {"variables": {"A": 5}}),
        (b"packages: [x=1]\n", {"dependencies": {"x": "=2"}}, {"packages": ["x=2"]}),
        (b"dependencies: [x=1]\n", {"dependencies": {"y": "=2"}}, {"dependencies": ["x=1", "y=2"]}),
        (b"env_specs: {a: }\n", {"dependencies": {"y": "=2"}}, {"env_specs": {"a": {"packages": ["y=2"]}}}),
        (b"channels:\n", {"channels": ["c"]}, {"channels": ["c"]}),
        (b"\xef\xbb\xbfname: x\r\n", {"channels": ["c"]}, {"name": "x", "channels": ["c"]}),
        (
            b"packages: [x=1]\nenv_specs: {a: {packages: [x, y]}}\n",
            {"dependencies": {"x": "=2"}},
            {"packages": ["x=2"], "env_specs": {"a": {"packages": ["x=2", "y"]}}},
        ),
    ],
)
def test_sections_of_other_shapes_are_edited(data, desired, expected):
    assert yaml.safe_load(edit(data, **desired)[0]) == expected


@pytest.mark.parametrize(
    ("command", "where", "says"),
    [
        ({"TrackingServer": {"unix": "x\ny"}}, "command TrackingServer", "one line"),  # inherits the options
        ({"A": {"unix": "x", "env_spec": "gone"}}, "here", "which the release does not have"),
    ],
)
def test_commands_that_do_not_fit_the_release_are_refused(make, command, where, says):
    with pytest.raises(Configuration) as caught:
        edit(make.project, commands=command)
    assert caught.value.where == where
    assert says in caught.value.what


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://user:hunter2@db/x", True),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://user:hunt/er@2@db/x", True),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://:hunter2@db/x", True),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://db/x?user=u&password=hunter2", True),
        ("MLFLOW_BACKEND_STORE_URI", "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dhunter2", True),
        ("AZURE", "DefaultEndpointsProtocol=https;AccountKey=hunter2==", True),
        ("PGPASSWORD", "hunter2", True),
        ("AWS_SECRET_ACCESS_KEY", "hunter2", True),
        ("MLFLOW_TRACKING_TOKEN", "hunter2", True),
        ("MLFLOW_TRACKING_TOKEN", "", False),
        ("MLFLOW_TRACKING_TOKEN", "unset", False),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://user@db/x", False),
        ("MLFLOW_BACKEND_STORE_URI", "postgresql://db:5432/x", False),
        ("MLFLOW_BACKEND_STORE_URI", "sqlite:////data/a@b/x.db", False),
        ("MLFLOW_ARTIFACTS_DESTINATION", "wasbs://box@account.blob.core.windows.net/x", False),
        ("AWS_ACCESS_KEY_ID", "AKIA0", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/data/key.json", False),
    ],
)
def test_secrets_do_not_go_into_archives(name, value, secret):
    if not secret:
        refuse_secret(name, value)
        return
    with pytest.raises(Configuration) as caught:
        refuse_secret(name, value)
    assert "server.secrets" in caught.value.remedy
    assert value not in str(vars(caught.value))
