"""Check for real: every part says what it found, one failure does not hide another, and nothing is left behind."""

import pytest

from tests.project_template.test_jobs import OLDER_REVISION, old_database

pytestmark = pytest.mark.slow


def test_before_anything_exists_it_makes_nothing_and_finds_nothing_wrong(project):
    ended = project.run("Check")

    assert (ended.code, ended.last["outcome"]) == (0, "ok"), ended.output
    assert (ended.last["database"]["ok"], ended.last["database"]["schema"]) == (True, "absent")
    assert "does not exist yet and can be created" in ended.last["artifacts"]["message"]
    assert ended.last["server"] == {"ok": None, "message": "MLFLOW_TRACKING_URI is not set"}
    assert not (project.folder / "data").exists()


def test_with_a_running_server_it_reads_the_schema_and_writes_to_an_object_store(on_sqlite):
    # MLflow's own artifact proxy stands for a store that is reached over the network.
    store = f"{on_sqlite.server.uri}/api/2.0/mlflow-artifacts/artifacts"

    ended = on_sqlite.job("Check", MLFLOW_ARTIFACTS_DESTINATION=store)

    assert (ended.code, ended.last["outcome"]) == (0, "ok"), ended.output
    found = ended.last["database"]
    assert found["schema"] == "current"
    assert found["revision"] == found["expected_revision"]
    assert (found["dialect"], found["driver"]) == ("sqlite", "pysqlite")
    assert ended.last["artifacts"]["kind"] == "http"
    assert ended.last["server"]["ok"] is True
    listed = on_sqlite.server.call("GET", "/api/2.0/mlflow-artifacts/artifacts").json()
    assert not [f for f in listed.get("files", []) if "mlflow-ae5-check" in f["path"]]


def test_one_failure_does_not_hide_another(postgres, project):
    (project.folder / "occupied").write_text("a file")
    postgres.create("checked")
    project.secret("MLFLOW_BACKEND_STORE_URI", postgres.uri("checked", "wrong-pa55word"))

    ended = project.run("Check", MLFLOW_ARTIFACTS_DESTINATION="occupied", MLFLOW_TRACKING_URI="ftp://server")

    assert (ended.code, ended.last["outcome"]) == (11, "failed"), ended.output
    assert "refused the login" in ended.last["database"]["message"]
    assert "occupied is a file, not a folder" in ended.last["artifacts"]["message"]
    assert "not an http(s) URL" in ended.last["server"]["message"]
    assert all(ended.last[part]["hint"] for part in ("database", "artifacts", "server"))
    assert "wrong-pa55word" not in ended.output


def test_an_unreachable_store_and_an_old_schema_are_reported(project):
    uri = f"sqlite:///{project.folder}/old.sqlite"
    old_database(uri)

    ended = project.run(
        "Check", MLFLOW_BACKEND_STORE_URI=uri, MLFLOW_ARTIFACTS_DESTINATION="http://127.0.0.1:1/artifacts"
    )

    assert (ended.code, ended.last["outcome"]) == (33, "failed"), ended.output
    assert OLDER_REVISION in ended.last["database"]["message"]
    assert "DatabaseUpgrade" in ended.last["database"]["hint"]
    assert "cannot be written to" in ended.last["artifacts"]["message"]
