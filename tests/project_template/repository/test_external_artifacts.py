"""Locations in the database that are outside the artifact store, and so not in a snapshot."""

import shutil
import sqlite3

import pytest
from mlflow_ae5_server.backup import external_artifacts


def test_a_prompt_is_in_the_snapshot_whole(server, empty_file):
    import mlflow
    from mlflow.entities.model_registry import RegisteredModelTag
    from mlflow.prompt import constants
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    shutil.copy(empty_file, server.folder / "db.sqlite")
    mlflow.MlflowClient(server.database.uri, server.database.uri).register_prompt("greeting", "Hello {{name}}")
    store = SqlAlchemyStore(server.database.uri)
    store.create_registered_model("made in the browser", [RegisteredModelTag(constants.IS_PROMPT_TAG_KEY, "true")])
    for source in (constants._CLIENT_PROMPT_SOURCE_PLACEHOLDER, constants._STORE_PROMPT_SOURCE_PLACEHOLDER):
        store.create_model_version("made in the browser", source)
    store.engine.dispose()

    code, report = server.job("create --allow-empty")

    assert (code, report["outcome"], report["external"]) == (0, "done", [])


def test_every_placeholder_of_the_installed_mlflow_is_listed():
    from mlflow.prompt import constants

    assert set(external_artifacts.PLACEHOLDERS) == constants._PROMPT_SOURCE_PLACEHOLDERS


@pytest.mark.parametrize(
    ("location", "external"),
    [
        ("mlflow-artifacts:/1/r/artifacts", None),
        ("mlflow-artifacts://host:5000/1/r/artifacts", None),
        ("runs:/r/model", None),
        ("models:/m-1", None),
        ("models:/name@alias", None),
        ("FOLDER/artifacts/1", None),
        ("file:FOLDER/artifacts/1", None),
        ("file://localhost/FOLDER/artifacts/1", None),
        ("FOLDER/artifacts-of-others/1", "FOLDER/artifacts-of-others/1"),
        ("mlruns/1", "mlruns/1"),
        ("file://another-machine/mlruns/1", "file://another-machine/mlruns/1"),
        ("dbfs:/databricks/mlflow-tracking/1", "dbfs:/databricks/mlflow-tracking/1"),
        ("https://elsewhere/api/2.0/mlflow-artifacts/artifacts/1",) * 2,
        ("hdfs://host:8020/1", "hdfs://host:8020/1"),
        ("C:\\mlruns\\1", "C:\\mlruns\\1"),
        ("wasbs://box@account.blob.core.windows.net/1",) * 2,
        ("no\0path", "no\\x00path"),
    ],
)
def test_a_location_outside_the_store_is_external(server, location, external):
    server.use_mlflow()
    with sqlite3.connect(server.folder / "db.sqlite") as connection:
        backend = location.replace("FOLDER", str(server.folder))
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", [backend])

    code, report = server.job("create --allow-empty --allow-external")

    expected = [external.replace("FOLDER", str(server.folder))] if external else []
    assert (code, report["external"]) == (0, expected)
