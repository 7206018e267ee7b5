"""No backup is made of data that a restore has half written."""

import pytest
from mlflow_ae5_server.common.errors import RestoreUnfinished
from mlflow_ae5_server.restore.journal import RestoreInProgress, RestoreJournalFile
from mlflow_ae5_server.restore.open import open_saved_copies


def test_a_restore_interrupted_while_the_backup_waited_stops_it(server):
    server.write("0/a", b"a")
    whole = server.back_up()
    journal_file = RestoreJournalFile(open_saved_copies(str(server.artifacts)))
    journal_file.begin(
        RestoreInProgress("load-database", "20260102T030405Z-abcdef", "2026-01-02T03:04:05+00:00", "elsewhere:1")
    )

    with pytest.raises(RestoreUnfinished, match="has not finished"):  # the job's own check comes before the lock
        server.back_up()

    assert [one.id for one in server.repository().snapshots()] == [whole.id]
    assert server.repository().unfinished() == []
    file = server.database.file
    assert file is not None
    moved = file.rename(file.with_name("moved"))  # interrupted before the new database was created
    code, report = server.job("create")
    assert (code, report["outcome"]) == (22, "failed")
    assert "has not finished" in report["error"]
    assert "a restore of the snapshot 20260102T030405Z-abcdef" in report["interrupted_restore"]
    moved.rename(file)
    journal_file.end()
    assert server.back_up().sequence == 2
