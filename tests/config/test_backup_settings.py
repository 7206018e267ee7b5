"""Where snapshots may be kept, and that no credential of that place is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.load import load
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.warnings import lost_at_restart


def loaded(tmp_path: Path, text: str, *, sandbox: bool = False):
    path = tmp_path / "config.yaml"
    path.write_text(f"backup:\n  {text}\n")
    return load(path, profile=None, environ={}, overrides={}, sandbox=sandbox)


@pytest.mark.parametrize(
    "destination",
    ["data/snapshots", "/mnt/backup", "s3://bucket/prefix", "gs://bucket", "abfss://c@account.dfs.core/p"],
)
def test_a_destination_is_a_folder_or_an_object_store(tmp_path, destination):
    assert loaded(tmp_path, f"destination: '{destination}'").settings.backup.destination == destination


def test_a_reference_is_kept_as_one(tmp_path):
    assert loaded(tmp_path, "destination: env:BACKUPS").settings.backup.destination == SecretRef("env", "BACKUPS")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("destination: 's3://key:planted-secret@bucket/prefix'", "backup.destination"),
        ("destination: 's3://key:planted/secret@bucket/prefix'", "contains credentials"),
        ("destination: 'gs://planted-token@bucket'", "put them into server.secrets"),
        ("destination: 'abfss://planted:planted@account.dfs.core/p'", "contains credentials"),
        ("destination: 'az://container/x?sig=planted-secret'", "backup.destination"),
        ("destination: 'ftp://host/x'", "must be a folder or begin with s3://"),
        ("destination: data/../../elsewhere", "'..'"),
        ("destination: ''", "must not be empty"),
        ("schedule: '*/8 * * * *'", "does not divide 60"),
        ("keep_last: 0", "must be greater than 0"),
        ("keep_daily: soon", "must be a whole number"),
    ],
)
def test_a_problem_is_reported_without_the_value(tmp_path, text, words):
    with pytest.raises(Configuration) as refused:
        loaded(tmp_path, text)
    message = f"{refused.value.what} {refused.value.detail}"
    assert words in message
    assert "planted" not in message


@pytest.mark.parametrize("key", ["artifacts_destination", "default_artifact_root"])
def test_artifacts_have_no_login_in_their_address_either(tmp_path, key):
    with pytest.raises(Configuration) as refused:
        loaded(tmp_path, f"keep_last: 1\nserver:\n  {key}: 's3://planted@bucket/x'")
    assert "contains credentials" in f"{refused.value.what} {refused.value.detail}"


@pytest.mark.parametrize("destination", ["s3://bucket/team@site/x", "s3://arn:aws:s3:eu:1:accesspoint/a"])
def test_an_at_sign_behind_the_bucket_is_none(tmp_path, destination):
    assert loaded(tmp_path, f"destination: '{destination}'").settings.backup.destination == destination


def test_a_real_destination_is_ignored_on_the_sandbox(tmp_path):
    real, own = (
        loaded(tmp_path, f"destination: '{destination}'", sandbox=True) for destination in ("s3://b/p", "data/b")
    )

    assert real.settings.backup.destination == "data/mlflow/standalone/backups"
    assert any("backup.destination" in text for text in real.warnings)
    assert own.settings.backup.destination == "data/b"


def test_a_folder_that_is_lost_at_every_restart_is_warned_of(tmp_path):
    assert any("backup.destination" in text for text in lost_at_restart(loaded(tmp_path, "destination: b").settings))
