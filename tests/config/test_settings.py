"""Every setting against good and bad values: the decision table of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.checks import MANAGED_SECRETS
from mlflow_ae5_deploy.config.database_uri import DRIVERS, SUPPORTED
from mlflow_ae5_deploy.config.layers import nested
from mlflow_ae5_deploy.config.load import validate
from mlflow_ae5_deploy.config.secret_refs import SecretRef, SecretResolver
from mlflow_ae5_deploy.config.settings import NotifySettings, ServerSettings, Settings
from mlflow_ae5_deploy.config.warnings import advice
from mlflow_ae5_deploy.release.bundled import template_dir

SHA = "0123456789abcdef" * 4


def value_at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for key in path.split("."):
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


@pytest.mark.parametrize(
    ("path", "given", "kept"),
    [
        ("platform.hostname", "ae5.example.com", "ae5.example.com"),
        ("platform.hostname", "AE5.Example.com:8443", "ae5.example.com:8443"),
        ("platform.hostname", "localhost:40123", "localhost:40123"),
        ("platform.hostname", "https://ae5.example.com", "ae5.example.com"),
        ("platform.hostname", "HTTPS://AE5.example.com:8443/", "ae5.example.com:8443"),
        ("platform.hostname", "https://ae5.example.com:443/", "ae5.example.com"),
        ("platform.hostname", "ae5.example.com/", "ae5.example.com"),
        ("platform.hostname", None, None),
        ("platform.ca_file", "/etc/ca.pem", Path("/etc/ca.pem")),
        ("platform.ca_file", Path("/etc/ca.pem"), Path("/etc/ca.pem")),
        ("platform.connect_timeout", 5, 5.0),
        ("platform.session", "built-in", "built-in"),
        ("account.password", "env:PW", SecretRef("env", "PW")),
        ("account.password", "prompt", SecretRef("prompt")),
        ("account.username", "mlflow-service@example.com", "mlflow-service@example.com"),
        ("account.username", "a-b_c.d+e", "a-b_c.d+e"),
        ("account.email", "mlflow@example.com", "mlflow@example.com"),
        ("project.name", "My project_1.2-x", "My project_1.2-x"),
        ("release.sha256", SHA.upper(), SHA),
        (
            "release.source",
            "https://mirror.example.com:8443/r@2/x.tar.gz",
            "https://mirror.example.com:8443/r@2/x.tar.gz",
        ),
        ("slipstream.variables", {"A_1": "", "B": "x y"}, {"A_1": "", "B": "x y"}),
        ("slipstream.dependencies", {"mlflow": "==3.17.2"}, {"mlflow": "==3.17.2"}),
        ("slipstream.channels", ["conda-forge", "https://h/c"], ["conda-forge", "https://h/c"]),
        ("deployment.endpoint", "a", "a"),
        ("deployment.endpoint", "x" * 63, "x" * 63),
        ("deployment.endpoint", "0-a--b", "0-a--b"),
        ("server.backend_store_uri", "env:DB", SecretRef("env", "DB")),
        ("server.backend_store_uri", "file:/run/db", SecretRef("file", "/run/db")),
        ("server.backend_store_uri", "postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("server.artifacts_destination", "s3://bucket/mlflow", "s3://bucket/mlflow"),
        ("server.gc_ttl", "0d0h10m0s", "0d0h10m0s"),
        ("server.secrets", {"AWS_SECRET_ACCESS_KEY": "env:K"}, {"AWS_SECRET_ACCESS_KEY": SecretRef("env", "K")}),
        ("server.variables", {"MLFLOW_ENABLE_WORKSPACES": "true"}, {"MLFLOW_ENABLE_WORKSPACES": "true"}),
        ("server.variables", {"MLFLOW_STATIC_PREFIX": "unset"}, {"MLFLOW_STATIC_PREFIX": "unset"}),
        ("gc.schedule", "30  3 * * *", "30 3 * * *"),
        ("gc.variables", {"MLFLOW_TRACKING_GC_TTL": "0d0h10m0s"}, {"MLFLOW_TRACKING_GC_TTL": "0d0h10m0s"}),
        ("gc.variables", {"AWS_ACCESS_KEY_ID": "AKIA"}, {"AWS_ACCESS_KEY_ID": "AKIA"}),
        ("sharing.groups", [], []),
    ],
)
def test_valid_values_are_accepted(path, given, kept):
    settings = validate(nested({path: given}))
    assert isinstance(settings, Settings), settings
    assert value_at(settings, path) == kept


def test_nothing_else_sets_the_secrets_that_come_from_settings():
    urls = [SecretRef("env", "URL")]
    settings = Settings(server=ServerSettings(metrics=True), notify=NotifySettings(urls=urls))

    assert "MLFLOW_TRACKING_METRICS" in settings.server_secrets
    assert settings.server_secrets.keys() <= MANAGED_SECRETS.keys()


@pytest.mark.parametrize(
    ("path", "value", "reported", "words"),
    [
        ("platform.hostname", "http://ae5.example.com", "", "with https://"),
        ("platform.hostname", "https://ae5.example.com/platform", "", "without path"),
        ("platform.hostname", "https://ae5.example.com?x=1", "", "without path, query"),
        ("platform.hostname", "https://ae5.example.com//", "", "without path"),
        ("platform.hostname", "https://me:hidden@ae5.example.com", "", "user name"),
        ("platform.hostname", "https://", "", "a host name of letters"),
        ("platform.hostname", "me@ae5.example.com", "", "user name"),
        ("platform.hostname", "ae5.example.com:", "", "a port from 1 to 65535"),
        ("platform.hostname", "ae5.example.com:0", "", "a port from 1 to 65535"),
        ("platform.hostname", "ae5.example.com:99999", "", "a port from 1 to 65535"),
        ("platform.hostname", "ae5_dev.example.com", "", "a host name of letters"),
        ("platform.hostname", "ae5..example.com", "", "a host name of letters"),
        ("platform.hostname", "ae5.example.com\n", "", "a host name of letters"),
        ("platform.hostname", "", "", "a host name of letters"),
        ("platform.hostname", 5, "", "must be text"),
        ("platform.verify_tls", "yes", "", "true or false"),
        ("platform.verify_tls", 1, "", "true or false"),
        ("platform.ca_file", "", "", "path of a file"),
        ("platform.ca_file", 5, "", "path of a file"),
        ("platform.ca_file", True, "", "path of a file"),
        ("platform.session", "built_in", "", "'auto', 'ae5-tools' or 'built-in'"),
        ("platform.read_timeout", "60", "", "must be a number"),
        ("platform.read_timeout", True, "", "must be a number"),
        ("platform.read_timeout", 0, "", "greater than 0"),
        ("platform.read_timeout", float("inf"), "", "finite"),
        ("platform.hostnam", "x", "", "did you mean 'platform.hostname'"),
        ("platform.endpoint", "x", "", "did you mean 'deployment.endpoint'"),
        ("platform.zzzz", "x", "", "settings here: hostname, verify_tls"),
        ("endpoint", "x", "", "did you mean 'deployment.endpoint'"),
        ("deploymnt", {}, "", "did you mean 'deployment'"),
        ("account", "mlflow", "", "group of settings"),
        ("account.username", "a b", "", "spaces or '/'"),
        ("account.username", "a/b", "", "spaces or '/'"),
        *(("account.username", f"a{mark}b", "", "letters, digits, '@'") for mark in ":,*?[]|&=<>\\'\"$"),
        ("admin.username", "a:b*", "", "letters, digits, '@'"),
        ("sharing.users", ["a*"], ".0", "letters, digits, '@'"),
        ("consumers", [{"username": "a|b"}], ".0.username", "letters, digits, '@'"),
        ("account.username", "", "", "must not be empty"),
        ("account.password", "hunter2", "", "must be a reference to a secret"),
        ("account.password", 5, "", "must be a reference"),
        ("account.email", "mlflow", "", "e-mail"),
        *(("project.name", f"a{mark}b", "", "letters, digits") for mark in ":/,*?[]|&=<>\n\\'\"é"),
        ("project.name", " a", "", "space"),
        ("project.name", "", "", "letters, digits"),
        ("deployment.name", "a*", "", "pattern"),
        ("gc.name", "job: 1", "", "pattern"),
        ("release.sha256", "abc", "", "64 hexadecimal"),
        ("release.source", "https://u:hunter2@h/x.tar.gz", "", "contains a password"),
        ("release.mirror", "https://h/x?token=hunter2", "", "contains a password"),
        ("slipstream.variables", {"1A": "x"}, ".1A", "only letters, digits"),
        ("slipstream.variables", {"A-B": "x"}, ".A-B", "only letters, digits"),
        ("slipstream.variables", {"CONDA_X": "x"}, ".CONDA_X", "reserves"),
        ("slipstream.variables", {"A": 1}, ".A", "put it in quotes"),
        ("slipstream.variables", {1: "x"}, ".1", "put it in quotes"),
        ("slipstream.variables", {"A": None}, ".A", "put it in quotes"),
        ("slipstream.variables", {"A": "postgresql://u:hunter2@h/d"}, ".A", "server.secrets"),
        ("slipstream.variables", {"DB_PASSWORD": "hunter2"}, ".DB_PASSWORD", "server.secrets"),
        ("slipstream.variables", {"A": "env:PW"}, ".A", "not resolved here"),
        ("slipstream.variables", ["A"], "", "group of settings"),
        ("slipstream.variables", {"A": "x\0"}, ".A", "NUL"),
        ("slipstream.channels", [""], ".0", "must not be empty"),
        ("slipstream.commands", {"A": {"unix": "x", "unxi": "y"}}, ".A.unxi", "did you mean"),
        (
            "slipstream.commands",
            {"A": {"unix": "x", "supports_http_options": "no"}},
            ".A.supports_http_options",
            "true",
        ),
        ("slipstream.dependencies", {"mlflow": "3.17.2"}, ".mlflow", "version constraint"),
        ("slipstream.dependencies", {"ml flow": "==1"}, ".ml flow", "not a package name"),
        ("slipstream.channels", ["a", "a"], "", "more than once"),
        ("slipstream.channels", ["https://h/t/hunter2/c"], ".0", "token"),
        ("slipstream.commands", {"A B": {"unix": "x"}}, ".A B", "only letters, digits"),
        ("slipstream.commands", {"A": {}}, ".A.unix", "is missing"),
        (
            "slipstream.commands",
            {"A": {"unix": "x", "unx": "y"}},
            ".A.unx",
            "did you mean 'slipstream.commands.A.unix'",
        ),
        ("slipstream.commands", {"A": {"unix": "run --password=hunter2"}}, ".A.unix", "contains a password"),
        (
            "slipstream.commands",
            {"A": {"unix": "serve\n", "supports_http_options": True}},
            ".A.supports_http_options",
            "one line",
        ),
        (
            "slipstream.commands",
            {"A": {"unix": "serve # web", "supports_http_options": True}},
            ".A.supports_http_options",
            "must end with the program",
        ),
        ("deployment.endpoint", "dev_mlflow", "", "use 'dev-mlflow'"),
        ("deployment.endpoint", "Dev-MLflow", "", "use 'dev-mlflow'"),
        ("deployment.endpoint", "a.b", "", "use 'a-b'"),
        ("deployment.endpoint", "-a", "", "use 'a'"),
        ("deployment.endpoint", "x" * 64, "", f"use '{'x' * 63}'"),
        ("deployment.endpoint", "a\n", "", "use 'a'"),
        ("deployment.endpoint", "___", "", "one DNS label"),
        ("deployment.endpoint", None, "", "must not be empty"),
        ("deployment.command", "", "", "must not be empty"),
        ("deployment.command", "a\nb", "", "one line"),
        ("server.backend_store_uri", "postgresql://u:hunter2@h/d", "", "contains a password"),
        ("server.backend_store_uri", "mysql://h/d", "", "no driver"),
        ("server.backend_store_uri", "hunter2", "", "not a database URI"),
        ("server.backend_store_uri", "env:hunter 2", "", "name of an environment variable"),
        ("server.backend_store_uri", 5, "", "database URI"),
        ("server.artifacts_destination", "s3://key:hunter2@bucket", "", "contains credentials"),
        ("server.artifacts_destination", "../../../../escape", "", "contains '..'"),
        ("server.artifacts_destination", "data/../x", "", "contains '..'"),
        ("server.artifacts_destination", "file:///data/%2e%2e/x", "", "contains '..'"),
        ("server.default_artifact_root", "../x", "", "contains '..'"),
        ("server.backend_store_uri", "sqlite:///../esc.sqlite", "", "contains '..'"),
        ("server.backend_store_uri", "sqlite:////data/../esc.sqlite", "", "contains '..'"),
        ("server.backend_store_uri", "sqlite:///file:../x.db?uri=true", "", "contains '..'"),
        ("gc.variables", {"MLFLOW_ARTIFACTS_DESTINATION": "../x"}, ".MLFLOW_ARTIFACTS_DESTINATION", "contains '..'"),
        ("server.backend_store_uri", "postgresql+psycopg2://h/d", "", "ship: write postgresql+psycopg://"),
        ("server.backend_store_uri", "postgresql+pg8000://h/d", "", "take: write postgresql+psycopg://"),
        ("server.backend_store_uri", "mysql+mysqldb://h/d", "", "or add mysqlclient to slipstream.dependencies"),
        (
            "gc.variables",
            {"MLFLOW_BACKEND_STORE_URI": "mssql+pymssql://h/d"},
            ".MLFLOW_BACKEND_STORE_URI",
            "write mssql+pyodbc://",
        ),
        ("server.gc_ttl", "30 days", "", "30d0h0m0s"),
        ("server.gc_ttl", "", "", "30d0h0m0s"),
        ("server.gc_ttl", 30, "", "must be text"),
        ("server.secrets", {"A-B": "env:X"}, ".A-B", "only letters, digits"),
        ("server.secrets", {"A\n": "env:X"}, ".A\n", "only letters, digits"),
        ("server.secrets", {"A": "hunter2"}, ".A", "must be a reference to a secret"),
        ("server.secrets", {"A": None}, ".A", "must be a reference"),
        (
            "server.secrets",
            {"MLFLOW_BACKEND_STORE_URI": "env:X"},
            ".MLFLOW_BACKEND_STORE_URI",
            "server.backend_store_uri",
        ),
        (
            "server.secrets",
            {"MLFLOW_AUTH_ADMIN_PASSWORD": "env:X"},
            ".MLFLOW_AUTH_ADMIN_PASSWORD",
            "no login of its own",
        ),
        ("server.variables", {"MLFLOW_ENABLE_WORKSPACES": True}, ".MLFLOW_ENABLE_WORKSPACES", "put it in quotes"),
        ("server.variables", {"MLFLOW_WORKERS": "lots"}, ".MLFLOW_WORKERS", "must be 'auto' or a number from 1 to 64"),
        ("slipstream.variables", {"MLFLOW_WORKERS": "0"}, ".MLFLOW_WORKERS", "a number from 1 to 64"),
        ("server.variables", {"MLFLOW_TRACKING_DATABASE_WAIT": "soon"}, ".MLFLOW_TRACKING_DATABASE_WAIT", "seconds"),
        ("server.variables", {"MLFLOW_WEBHOOK_CACHE_TTL": "1h"}, ".MLFLOW_WEBHOOK_CACHE_TTL", "a whole number"),
        ("server.variables", {"MLFLOW_ENABLE_WORKSPACES": "yes"}, ".MLFLOW_ENABLE_WORKSPACES", "'true' or 'false'"),
        (
            "server.variables",
            {"MLFLOW_TRACKING_URI": "https://x/"},
            ".MLFLOW_TRACKING_URI",
            "the deployment (stage 10)",
        ),
        ("server.variables", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, ".MLFLOW_TRACKING_TOKEN", "managed by this tool"),
        (
            "server.variables",
            {"MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "postgresql+psycopg://u:hunter2@h/d"},
            ".MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
            "move it to server.secrets",
        ),
        ("slipstream.variables", {"MLFLOW_UVICORN_OPTS": "-x"}, ".MLFLOW_UVICORN_OPTS", "see MLFLOW_WORKERS"),
        (
            "server.variables",
            {"MLFLOW_SQL_TRACE_ROLLUPS_ENABLED": "true"},
            ".MLFLOW_SQL_TRACE_ROLLUPS_ENABLED",
            "no effect without MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        ),
        (
            "slipstream.variables",
            {"MLFLOW_TRACE_ARCHIVAL_CONFIG": "archival.yaml"},
            ".MLFLOW_TRACE_ARCHIVAL_CONFIG",
            "no effect without MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        ),
        ("gc.schedule", "*/8 * * * *", "", "does not divide 60"),
        ("gc.schedule", "* * * *", "", "five are needed"),
        ("gc.schedule", "@daily", "", "five are needed"),
        ("gc.variables", {"MLFLOW_TRACKING_GC_TTL": "30 days"}, ".MLFLOW_TRACKING_GC_TTL", "30d0h0m0s"),
        ("gc.variables", {"MLFLOW_BACKEND_STORE_URI": "mysql://h/d"}, ".MLFLOW_BACKEND_STORE_URI", "no driver"),
        ("gc.variables", {"MLFLOW_TRACKING_TOKEN": "hunter2"}, ".MLFLOW_TRACKING_TOKEN", "server.secrets"),
        ("sharing.groups", "everyone", "", "must be a list"),
        ("sharing.groups", ["a", 5], ".1", "must be text"),
        ("sharing.users", ["a", "a"], "", "has a more than once"),
        ("consumers", {"username": "x"}, "", "must be a list"),
        ("consumers", ["x"], ".0", "group of settings"),
        ("consumers", [{"password": "env:X"}], ".0.username", "is missing"),
        ("consumers", [{"username": "x", "password": "hunter2"}], ".0.password", "must be a reference"),
        ("consumers", [{"username": "x"}, {"username": "x"}], "", "has x more than once"),
        ("consumers", [{}], ".0.username", "is missing (or `file`)"),
        ("consumers", [{"username": "x", "file": "/run/token"}], ".0.file", "excludes username"),
        ("consumers", [{"file": "/run/token", "password": "env:X"}], ".0.file", "excludes username and password"),
        ("consumers", [{"file": "/run/token"}, {"file": "/run/token"}], "", "has /run/token more than once"),
        ("consumers", [{"file": " "}], ".0.file", "path of a file"),
        ("state_dir", "", "", "path of a file"),
    ],
)
def test_invalid_values_are_refused_by_name_and_reason(path, value, reported, words):
    problems = validate(_with(path, value))
    assert isinstance(problems, list), "accepted"
    assert len(problems) == 1
    assert ".".join(map(str, problems[0].path)) == path + reported
    assert words in problems[0].message
    assert "hunter2" not in str(problems[0])


REFERRED = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "env:X"}
ROLLUPS = {"MLFLOW_SQL_TRACE_ROLLUPS_ENABLED": "true"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"server.variables": ROLLUPS | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}}, ""),
        ({"server.variables": ROLLUPS, "slipstream.variables": {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}}, ""),
        ({"server.variables": ROLLUPS, "server.secrets": REFERRED}, ""),  # its value is not known here
        ({"server.variables": ROLLUPS | {"MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "false"}}, ""),
        ({"server.variables": ROLLUPS, "server.secrets": {"MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "env:X"}}, ""),
        ({"slipstream.variables": ROLLUPS, "server.secrets": dict.fromkeys(ROLLUPS, "env:X")}, ""),
        ({"server.variables": ROLLUPS | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}}, "no effect without"),
        ({"server.variables": ROLLUPS | {"MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": "unset"}}, "no effect without"),
        (
            {"server.variables": {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}, "server.secrets": REFERRED},
            "one of them",
        ),
    ],
)
def test_variables_of_the_server_are_checked_together(given, words):
    found = validate(nested(given))
    assert isinstance(found, Settings) if not words else words in found[0].message


def _with(path: str, value: Any) -> Mapping[str, Any]:
    """Like `nested`, but None is a value here."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def test_settings_cannot_be_changed_or_show_a_secret():
    settings = validate({"account": {"password": "env:PW"}})
    assert isinstance(settings, Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.account.username = "x"
    assert Settings().sharing.groups is not Settings().sharing.groups, "defaults are not shared between installations"


@pytest.mark.parametrize(
    "slipstream",
    [
        {"variables": {"A_1": "", "B": "x y", "URL": "https://h/x"}},
        {"dependencies": {"mlflow": "==3.17.2", "boto3": ">=1.35,<2", "psycopg2-binary": "~=2.9"}},
        {"channels": ["conda-forge", "https://h.example.com/channel"]},
        {"commands": {"Report": {"unix": "python report.py", "supports_http_options": True, "env_spec": "minimum"}}},
        {"commands": {"Two.lines": {"unix": "a\nb\n", "description": "x"}}},
    ],
)
def test_valid_slipstreams_are_accepted(slipstream):
    assert isinstance(validate({"slipstream": slipstream}), Settings)


@pytest.mark.parametrize(
    ("release", "packages", "uri", "good"),
    [
        ("bundled", {}, "postgresql+psycopg2://h/d", False),
        ("bundled", {"boto3": ">=1"}, "postgresql+psycopg2://h/d", False),
        ("bundled", {"psycopg2_binary": ">=2.9"}, "postgresql+psycopg2://h/d", True),
        ("bundled", {"psycopg2": ">=2.9"}, "postgresql+psycopg2://h/d", True),
        ("bundled", {"pg8000": ">=1"}, "postgresql+pg8000://h/d", False),  # its server does not take that one
        ("latest", {}, "postgresql+pg8000://h/d", True),  # what another release brings is not known here
    ],
)
def test_driver_must_be_in_the_project(release, packages, uri, good):
    values = {
        "release": {"source": release},
        "slipstream": {"dependencies": packages},
        "server": {"backend_store_uri": uri},
    }
    assert isinstance(validate(values), Settings) is good
    settings = validate(values | {"server": {"backend_store_uri": "env:URI"}})
    assert isinstance(settings, Settings)
    values = SecretResolver({"URI": uri}, None, added=settings.added_packages)
    if good:
        assert values.store_uri(SecretRef("env", "URI")).reveal() == uri
    else:
        with pytest.raises(Configuration, match=r"write postgresql\+psycopg://"):
            values.store_uri(SecretRef("env", "URI"))


def test_shipped_drivers_are_those_of_the_bundled_project():
    import yaml

    packages = str(yaml.safe_load((template_dir() / "anaconda-project.yml").read_text())["env_specs"]["default"])
    for driver, *_ in SUPPORTED.values():
        assert driver == "pysqlite" or re.search(rf"'{driver}(\[binary\])?==", packages.lower()), driver
    server = (template_dir() / "mlflow_ae5_server" / "database" / "connection.py").read_text()
    for dialect, (_, *addable) in SUPPORTED.items():
        for driver in addable:
            assert f'("{driver}", ' in server
            assert f'"{DRIVERS[dialect][driver][0]}")' in server


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"server": {"artifacts_destination": "artifacts"}}, "server.artifacts_destination"),
        ({"server": {"artifacts_destination": "./database/x"}}, "server.artifacts_destination"),
        ({"server": {"default_artifact_root": "mlruns"}}, "server.default_artifact_root"),
        ({"server": {"backend_store_uri": "sqlite:///my.sqlite"}}, "server.backend_store_uri"),
        ({"server": {"backend_store_uri": "sqlite:///file:my.sqlite?uri=true"}}, "server.backend_store_uri"),
        (
            {"gc": {"variables": {"MLFLOW_BACKEND_STORE_URI": "sqlite:///a.db"}}},
            "gc.variables.MLFLOW_BACKEND_STORE_URI",
        ),
        ({"server": {"artifacts_destination": "./data/x", "backend_store_uri": "sqlite:///data/x.db"}}, ""),
        ({"server": {"artifacts_destination": "/data/x", "backend_store_uri": "sqlite:////data/x.db"}}, ""),
        ({"server": {"artifacts_destination": "s3://bucket/x", "backend_store_uri": "postgresql+psycopg://h/d"}}, ""),
        ({}, ""),
    ],
)
def test_stores_that_are_lost_at_every_restart_are_reported(values, setting):
    settings = validate(values)
    assert isinstance(settings, Settings)
    words = advice(settings)
    assert [word.partition(" is a relative path")[0] for word in words] == ([setting] if setting else [])


MISSPELT = "MLFLOW_WORKRES"


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"server": {"variables": {MISSPELT: "2"}}}, "server.variables"),
        ({"slipstream": {"variables": {MISSPELT: "2"}}}, "slipstream.variables"),
        ({"slipstream": {"variables": {MISSPELT: "2"}}, "release": {"source": "other.tar.gz"}}, ""),
        ({"server": {"variables": {"MLFLOW_WORKERS": "2", "MLFLOW_OF_OUR_OWN": "2", "WORKERS": "2"}}}, ""),
    ],
)
def test_a_misspelt_variable_is_reported(values, setting):
    settings = validate(values)
    assert isinstance(settings, Settings)
    text = f"{setting}.{MISSPELT} is not a variable of MLflow or of the server; did you mean MLFLOW_WORKERS?"
    assert advice(settings) == ([text] if setting else [])
