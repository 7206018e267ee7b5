"""The command Backup as AE5 runs it: words from the variable, the last line for whoever reads the log.

A job whose words are wrong: see snapshot/recover/test_words.py.
"""

import gzip
from pathlib import Path

from tests.project_template.conftest import open_to_others

FIXTURE = Path(__file__).parents[1] / "fixtures/mlflow-2.22.0.sqlite.gz"


def test_backup_as_a_job(project):
    data = project.folder / "data/mlflow/standalone"
    (data / "store").mkdir(parents=True)
    (data / "store/mydb.sqlite").write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    artifact = data / "artifacts/0/run/artifacts/a.txt"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(b"hello")
    project.secret("AWS_SECRET_ACCESS_KEY", "very-secret-key")

    project.secret("MLFLOW_TRACKING_BACKUP_DESTINATION", "s3://PLANTED-USER:planted-password@bucket/prefix")
    refused = project.run("Backup")
    assert (refused.code, refused.last["outcome"]) == (3, "failed"), refused.output
    assert "AWS_ACCESS_KEY_ID" in refused.last["hint"]
    assert "planted" not in refused.output.lower()
    project.secret("MLFLOW_TRACKING_BACKUP_DESTINATION", "data/mlflow/standalone/backups")

    first = project.run("Backup", MLFLOW_TRACKING_BACKUP_ARGUMENTS="create --allow-external")
    assert (first.code, first.last["outcome"], first.last["artifact_bytes"]) == (0, "done", 5), first.output
    assert first.last["command"] == "Backup"
    assert (len(first.last["repository"]), first.last["snapshot_count"]) == (32, 1)
    assert first.last["new_objects"] > 0

    checked = project.run("MinimumBackup", MLFLOW_TRACKING_BACKUP_ARGUMENTS="verify --all")
    assert checked.last["repository"] == first.last["repository"]
    assert (checked.code, checked.last["snapshot"], checked.last["damaged"]) == (0, first.last["snapshot"], [])

    for ended in (first, checked):
        assert "very-secret-key" not in ended.output

    restored = project.folder / "restored"
    backend = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{restored}/store/db.sqlite",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{restored}/artifacts",
    }
    again = project.run("Restore", MLFLOW_TRACKING_RESTORE_ARGUMENTS="--no-upgrade", **backend)
    assert (again.code, again.last["written_files"]) == (0, 1), again.output
    assert (open_to_others(data / "backups"), open_to_others(restored)) == ([], [])
