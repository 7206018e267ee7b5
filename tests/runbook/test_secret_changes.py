"""What is said of secrets that are to be set."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.database_uri import without_password
from mlflow_ae5_deploy.engine.records import shown_value
from mlflow_ae5_deploy.resources.secrets import KEPT, MADE, SecretState, setting

# states -> the change, as a sentence; None: no change
ROWS = [
    (["same", KEPT], None),
    (["new"], "set secret S0: not set"),
    ([MADE], "set secret S0: not set (1 new key, written to the key file)"),
    (["new", "new", MADE, MADE], "set 4 secrets: not set (2 new keys, written to the key file)"),
    (
        ["different", "same", MADE],
        "set 2 secrets: 1 not the configured value, 1 not set (1 new key, written to the key file)",
    ),
    (["new", "different", "new"], "set 3 secrets: 2 not set, 1 not the configured value"),
]


@pytest.mark.parametrize(("states", "sentence"), ROWS)
def test_the_reason_counts_each_kind_once(states, sentence):
    changes = setting([SecretState(f"S{number}", state) for number, state in enumerate(states)])

    assert [change.headline for change in changes] == ([sentence] if sentence else [])


def secret(state, previous="", desired=""):
    return SecretState("S", state, previous=previous, desired=desired)


# a secret -> its difference
DIFFERENCES = [
    (secret("different", "30d0h0m0s", "0d1h0m0s"), "S: 30d0h0m0s → 0d1h0m0s"),
    (secret("different", "", "0d1h0m0s"), "S: changed to 0d1h0m0s"),
    (secret("different", "mysql://u@h/d", "mysql://u@h/d"), "S: mysql://u@h/d (password or options changed)"),
    (secret("unknown", "", "b"), "S: (set from another machine) → b"),
    (secret("new", "a", "b"), "S: not set → b"),
    (secret("missing", "b", "b"), "S: no longer set → b"),
    (secret("different"), "S"),
    (secret("unset"), "S"),
    (secret(MADE), "S"),
]


@pytest.mark.parametrize(("one", "line"), DIFFERENCES, ids=[line for _, line in DIFFERENCES])
def test_a_difference_shows_what_is_not_confidential(one, line):
    (change,) = setting([one, SecretState("OTHER", "different"), SecretState("RIGHT", "same")])

    assert change.data()["differences"] == (line, "OTHER")
    assert change.lines == (line, "OTHER")


def test_one_secret_is_named_once():
    (change,) = setting([secret("different", "a", "b"), SecretState("RIGHT", "same")])

    assert (change.headline, change.lines) == ("set secret S: a → b", ())
    assert change.differences == ("S: a → b",)


def test_where_none_was_set_the_values_are_shown_on_request_only():
    (change,) = setting([secret("new", "", "b"), SecretState("KEY", MADE)])

    assert (change.lines, change.details) == ((), ("S: not set → b", "KEY"))


VALUES = [
    ("MLFLOW_WORKERS", Secret.public("2"), "2"),
    ("S3_SECRET_KEY", Secret.public("anything-at-all"), ""),
    ("TEXT", Secret.public("two\nlines"), ""),
    ("KEY", Secret("confidential-value"), ""),
    ("MLFLOW_BACKEND_STORE_URI", Secret("mysql://u:hidden@h/d", "mysql://u@h/d"), "mysql://u@h/d"),
]


@pytest.mark.parametrize(("name", "value", "shown"), VALUES, ids=[name for name, *_ in VALUES])
def test_only_public_values_are_shown(name, value, shown):
    assert shown_value(name, value) == shown


URIS = [
    ("postgresql+psycopg://user:pass:word@host:5432/db?sslpassword=x", "postgresql+psycopg://user@host:5432/db"),
    ("mssql+pyodbc:///?odbc_connect=PWD%3Dx", "mssql+pyodbc:///"),
    ("sqlite:////data/mlflow.sqlite", "sqlite:////data/mlflow.sqlite"),
    ("user:password@host", ""),
]


@pytest.mark.parametrize(("uri", "shown"), URIS)
def test_a_database_uri_is_shown_without_password_and_options(uri, shown):
    assert without_password(uri) == shown
