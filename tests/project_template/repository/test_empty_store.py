"""A store that has lost its artifacts, as one whose volume is not mounted: no snapshot is made of that unasked."""

from pathlib import Path

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed

PLACED = "INSERT INTO model_versions VALUES ('m', 3, 'None', '{0}', '{1}')"
LOGGED = "INSERT INTO logged_models VALUES ('m-1', '{0}', {1}, '{2}')"
HERE = "mlflow-artifacts:/1/r/artifacts"


def models(server, statement):
    """Tables as MLflow has them, as far as they matter, and one row."""
    server.sql("CREATE TABLE model_versions(name TEXT, version INT, current_stage TEXT, source TEXT, storage_location TEXT)")  # fmt: skip  # noqa: E501
    server.sql("CREATE TABLE logged_models(model_id TEXT, artifact_location TEXT, status INT, lifecycle_stage TEXT)")
    server.sql(statement.replace("HERE", str(server.artifacts)))


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (PLACED.format(HERE, HERE), "version 3 of the model 'm'"),
        (PLACED.format(HERE, ""), "version 3 of the model 'm'"),
        (PLACED.format("models:/m-1", "HERE/1/models/m-1"), "version 3 of the model 'm'"),
        (PLACED.format("runs:/1/model", ""), "version 3 of the model 'm'"),
        (PLACED.format("runs:/9/model", ""), ""),
        (PLACED.format("s3://elsewhere/model", ""), ""),
        (PLACED.format("models:/m-1", ""), ""),
        (PLACED.format(HERE, HERE).replace("'None'", "'Deleted_Internal'"), ""),
        (LOGGED.format(HERE, 2, "active"), "the logged model m-1"),
        (LOGGED.format("HERE/1/models/m-1", 2, "active"), "the logged model m-1"),
        (LOGGED.format("/elsewhere/1", 2, "active"), ""),
        (LOGGED.format(HERE, 1, "active"), ""),
        (LOGGED.format(HERE, 2, "deleted"), ""),
    ],
)
def test_a_first_backup_without_the_files_of_a_model_is_refused(server, row, named):
    models(server, row)
    if not named:
        assert server.back_up().artifacts.files == 0
        return
    with pytest.raises(RepositoryFailed, match=named) as refused:
        server.back_up()
    assert str(server.artifacts) in refused.value.message
    assert "mounted" in refused.value.hint
    assert server.repository().snapshots() == []
    assert server.back_up(allow_empty=True).artifacts.files == 0


@pytest.mark.parametrize("folder", ["absent", "empty", "with an empty folder"])
def test_a_store_that_had_artifacts_at_the_last_backup_is_not_empty_now(server, folder):
    server.use_mlflow()
    server.write("0/r/artifacts/a", b"a")
    first = server.job("create --allow-external")[1]
    server.artifacts.rename(server.folder / "elsewhere")
    if folder != "absent":
        (server.artifacts / ("" if folder == "empty" else "lost+found")).mkdir(parents=True)

    code, report = server.job("create --allow-external")
    assert (code, report["outcome"]) == (RepositoryFailed.exit_code, "failed")
    assert f"no artifacts in {server.artifacts}" in report["error"]
    assert f"the snapshot {first['snapshot']} has 1 artifact" in report["error"]
    listed = server.job("list")[1]
    assert ([one["snapshot"] for one in listed["snapshots"]], listed["unfinished"]) == ([first["snapshot"]], [])

    meant = server.job("create --allow-external --allow-empty")
    assert (meant[0], meant[1]["artifacts"]) == (0, 0)
    assert [server.job("create --allow-external")[0] for _ in range(2)] == [0, 0], "what was meant once is meant"

    back = server.write("0/r/artifacts/a", b"a")
    assert server.job("create --allow-external")[1]["artifacts"] == 1
    back.unlink()
    assert server.job("create --allow-external")[0] == RepositoryFailed.exit_code, "until there was something again"


@pytest.mark.parametrize("note", [None, b"", b"[]", b"{"])
def test_an_empty_snapshot_that_was_not_intended_allows_no_other(server, note):
    server.back_up()
    if note is not None:
        Path(server.backend, "meant-empty.json").write_bytes(note)
    models(server, PLACED.format(HERE, HERE))
    with pytest.raises(RepositoryFailed, match="no artifacts in"):
        server.back_up()


def test_a_damaged_snapshot_is_no_evidence_of_artifacts(server):
    server.write("0/a", b"a")
    damaged = server.back_up()
    Path(server.backend, "snapshots", damaged.name).write_bytes(b"{}")
    (server.artifacts / "0/a").unlink()
    assert server.back_up().artifacts.files == 0


@pytest.mark.parametrize(
    ("before", "gone", "new", "reported"),
    [(50, 26, 0, True), (50, 26, 40, True), (50, 25, 0, False), (30, 20, 0, False), (30, 21, 0, True)],
)
def test_many_missing_artifacts_are_reported(server, before, gone, new, reported):
    for number in range(before):
        server.write(f"0/{number}", b"%d" % number)
    server.back_up()
    for number in range(gone):
        (server.artifacts / f"0/{number}").unlink()
    for number in range(new):
        server.write(f"1/{number}", b"new")
    seen = []
    server.back_up(on_gone=lambda *found: seen.append(found))
    assert seen == ([("artifacts", gone, before)] if reported else [])
    for file in server.artifacts.rglob("?*"):
        if file.is_file():
            file.unlink()
    server.back_up(allow_empty=True, on_gone=lambda *found: seen.append(found))
    assert len(seen) == reported, "with --allow-empty nothing is reported"


def test_an_unreadable_list_does_not_count_its_files_as_missing(server):
    for number in range(50):
        server.write(f"0/{number}", b"%d" % number)
    server.object_file(server.back_up().artifacts.lists[0]).unlink()
    seen = []
    server.back_up(on_gone=lambda *found: seen.append(found))
    assert seen == []


def test_a_backup_reports_how_many_artifacts_are_missing(server):
    server.use_mlflow()
    for number in range(30):
        server.write(f"0/{number}", b"%d" % number)
    assert "missing_artifacts" not in server.job("create --allow-external")[1]
    for number in range(25):
        (server.artifacts / f"0/{number}").unlink()
    code, report = server.job("create --allow-external")
    assert (code, report["missing_artifacts"], report["previous_artifacts"]) == (0, 25, 30)
    assert "missing_artifacts" not in server.job("create --allow-external")[1]


@pytest.mark.parametrize(
    ("before", "left", "result"), [(21, 0, "refused"), (20, 0, ""), (50, 24, "reported"), (50, 25, "")]
)
def test_missing_runs_are_refused_or_reported(server, before, left, result):
    server.sql("DELETE FROM runs")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {before})"  # noqa: S608
    server.sql(f"INSERT INTO runs (run_uuid, status) {numbers} SELECT i, 'FINISHED' FROM n")  # noqa: S608
    first = server.back_up()
    server.sql("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid % 2")
    marked = server.back_up(on_gone=None)
    assert (marked.runs, marked.deleted_runs, first.runs) == (before // 2, before - before // 2, before)
    server.sql(f"DELETE FROM runs WHERE CAST(run_uuid AS INTEGER) > {left}")  # noqa: S608
    seen = []
    if result == "refused":
        with pytest.raises(RepositoryFailed, match=f"no runs in .*, but the snapshot {marked.id} has 21 runs"):
            server.back_up()
        assert [one.id for one in server.repository().snapshots()] == [first.id, marked.id]
        assert server.repository().unfinished() == []
        assert server.back_up(allow_empty=True).runs == 0
        return
    server.back_up(on_gone=lambda *found: seen.append(found))
    assert seen == ([("runs", before - left, before)] if result else [])
