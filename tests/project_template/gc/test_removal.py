"""Removing: what belongs to what goes, what one bad row does to the others, what users do meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import check_uri
from mlflow_ae5_server.gc.cascade import Cascade
from mlflow_ae5_server.gc.transactions import DeletingConnection

from tests.project_template.gc.conftest import LONG_AGO, Data
from tests.project_template.mariadb import with_mysql


def meanwhile(where: str, act: Callable[[], None]) -> Callable[[str], None]:
    """A step that lets somebody act once."""
    waiting = [act]

    def step(name: str) -> None:
        if name == where and waiting:
            waiting.pop()()

    return step


def test_datasets_and_inputs_go_when_nothing_refers_to_them(data: Data) -> None:
    kept, gone = data.run(deleted=None), data.run()
    shared, single, metered = data.dataset(0, kept, gone), data.dataset(0, gone), data.dataset(0, gone)
    left_over = data.dataset(0, "0" * 32)  # its run was removed by `mlflow gc`, which leaves inputs behind
    model = data.model(deleted=None)
    data.insert("logged_model_metrics", model_id=model, metric_name="m", metric_timestamp_ms=1, metric_step=1,
                metric_value=1.0, experiment_id=0, run_id=kept, dataset_uuid=metered)  # fmt: skip
    data.insert("inputs", input_uuid="i1", source_type="RUN_OUTPUT", source_id=gone, destination_type="MODEL_OUTPUT",
                destination_id=model)  # fmt: skip

    fields = data.collect()

    assert set(data.column("SELECT dataset_uuid FROM datasets")) == {shared, metered}
    assert left_over not in data.column("SELECT source_id FROM inputs")
    assert data.column("SELECT destination_id FROM inputs") == [kept]
    assert len(data.column("SELECT name FROM input_tags")) == 1
    assert fields["datasets"] == {"removed": 2}
    assert single is not None


def test_everything_of_an_experiment_goes_with_it(data: Data) -> None:
    number, other = data.experiment(deleted=LONG_AGO), data.experiment()
    for experiment in (number, other):
        data.trace(experiment)
        data.insert("scorers", experiment_id=experiment, scorer_name="s", scorer_id=f"s{experiment}")
        data.insert("scorer_versions", scorer_id=f"s{experiment}", scorer_version=1, serialized_scorer="x")
        data.insert("issues", issue_id=f"i{experiment}", experiment_id=experiment, name="n", description="d",
                    status="s", created_timestamp=1, last_updated_timestamp=1)  # fmt: skip
        data.insert("sql_trace_rollup_rebuild_queue", experiment_id=experiment, rollup_day="2020-01-01",
                    rollup_family="f")  # fmt: skip
        data.insert("entity_associations", association_id=f"a{experiment}", source_type="evaluation_dataset",
                    source_id="d", destination_type="experiment", destination_id=str(experiment))  # fmt: skip
    fields = data.collect()
    assert (fields["exit_code"], fields["experiments"]["removed"], fields["traces"]["removed"]) == (0, 1, 1)
    for table in ("scorers", "issues", "sql_trace_rollup_rebuild_queue", "trace_info", "spans", "experiment_tags"):
        assert data.column(f"SELECT experiment_id FROM {table}") == [other], table  # noqa: S608
    assert data.column("SELECT scorer_id FROM scorer_versions") == [f"s{other}"]
    assert data.column("SELECT destination_id FROM entity_associations") == [str(other)]
    assert not (data.artifacts / str(number)).exists()


def refuse(data: Data, run: str) -> None:
    """Have the database refuse to delete this run."""
    if data.uri.startswith("sqlite"):
        data.sql(f"CREATE TRIGGER no BEFORE DELETE ON runs WHEN OLD.run_uuid = '{run}' "
                 "BEGIN SELECT RAISE(ABORT, 'not this one'); END")  # fmt: skip
        return
    if data.uri.startswith("mysql"):
        data.sql(f"CREATE TRIGGER no BEFORE DELETE ON runs FOR EACH ROW IF OLD.run_uuid = '{run}' THEN "
                 "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF")  # fmt: skip
        return
    data.sql(f"CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN IF OLD.run_uuid = '{run}' THEN "
             "RAISE EXCEPTION 'not this one'; END IF; RETURN OLD; END $$ LANGUAGE plpgsql")  # fmt: skip
    data.sql("CREATE TRIGGER no BEFORE DELETE ON runs FOR EACH ROW EXECUTE FUNCTION no()")


@pytest.mark.parametrize("data", with_mysql("postgresql"), indirect=True)  # on SQLite nobody else writes meanwhile
def test_before_it_removes_it_sees_what_others_have_done_meanwhile(data: Data) -> None:
    with DeletingConnection(check_uri(data.uri), data.engine) as writer, writer.transaction() as connection:
        seen = []
        for _ in range(2):
            seen.append(len(connection.execute(sqlalchemy.text("SELECT run_uuid FROM runs")).all()))
            data.run()
    assert seen == [0, 1]


@pytest.mark.parametrize("data", ["postgresql"], indirect=True)
def test_rows_are_found_by_index_and_not_by_reading_the_table(data: Data) -> None:
    runs = ", ".join(f"'{data.run()}'" for _ in range(3))
    data.sql("ANALYZE tags")  # so small a table would be read as a whole
    with DeletingConnection(check_uri(data.uri), data.engine) as writer, writer.transaction() as connection:
        query = sqlalchemy.text(f"EXPLAIN DELETE FROM tags WHERE run_uuid IN ({runs})")  # noqa: S608
        plan = "\n".join(connection.execute(query).scalars())
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_a_part_of_one_runs_rows_goes_and_none_of_another(data: Data) -> None:
    """How a run goes that is too large for one transaction."""
    runs = [data.run(metrics=5), data.run(metrics=5)]
    with data.engine.begin() as connection:
        assert Cascade(data.engine).delete_part(connection, "metrics", "run_uuid", runs[0], 3) == 3
    left = [len(data.column("SELECT step FROM metrics WHERE run_uuid = :id", id=run)) for run in runs]
    assert left == [2, 5]


def test_one_bad_row_is_reported_and_the_others_go(data: Data) -> None:
    number = data.experiment(deleted=LONG_AGO)
    runs = [data.run(number) for _ in range(9)]
    refuse(data, runs[4])
    fields = data.collect()
    assert (fields["exit_code"], fields["outcome"]) == (23, "incomplete")
    assert fields["runs"] == {"due": 9, "removed": 8, "remaining": 1}
    assert data.column("SELECT run_uuid FROM runs") == [runs[4]]
    assert [item["why"] for item in fields["skipped"] if item["id"] == runs[4]] == ["not this one"]
    assert data.has_files(runs[4])
    assert len(data.files()) == 1
    assert data.column("SELECT experiment_id FROM experiments WHERE experiment_id = :id", id=number) == [number]


def test_one_that_is_restored_meanwhile_stays_whole(data: Data) -> None:
    runs = [data.run() for _ in range(3)]
    restore = "UPDATE runs SET lifecycle_stage = 'active', deleted_time = NULL WHERE run_uuid = :id"
    fields = data.collect(step=meanwhile("page written", lambda: data.sql(restore, id=runs[1])))
    assert (fields["exit_code"], fields["runs"]) == (0, {"due": 3, "removed": 2, "remaining": 1})
    assert data.column("SELECT run_uuid FROM runs") == [runs[1]]
    assert data.has_files(runs[1])
    assert data.column("SELECT step FROM metrics WHERE run_uuid = :id", id=runs[1]) == [0, 1, 2]


def test_one_that_is_registered_meanwhile_stays_whole(data: Data) -> None:
    runs = [data.run() for _ in range(3)]
    fields = data.collect(step=meanwhile("page written", lambda: data.version(source=f"runs:/{runs[2]}/model")))
    assert fields["runs"]["removed"] == 2
    assert data.column("SELECT run_uuid FROM runs") == [runs[2]]
    assert data.has_files(runs[2])


def test_an_experiment_restored_meanwhile_stays(data: Data) -> None:
    number = data.experiment(deleted=LONG_AGO)
    model = data.model(number, deleted=None)
    restore = "UPDATE experiments SET lifecycle_stage = 'active' WHERE experiment_id = :id"
    data.collect(step=meanwhile("page written", lambda: data.sql(restore, id=number)))
    assert data.column("SELECT experiment_id FROM experiments WHERE experiment_id = :id", id=number) == [number]
    assert data.column("SELECT model_id FROM logged_models") == [model]
    assert data.has_files(model)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_artifacts_that_cannot_be_removed_keep_their_run(on_file: Data) -> None:
    bad, good = on_file.run(), on_file.run()
    folder = on_file.artifacts / f"0/{bad}/artifacts"
    folder.chmod(0o500)
    try:
        fields = on_file.collect()
    finally:
        folder.chmod(0o700)
    assert (fields["exit_code"], on_file.column("SELECT run_uuid FROM runs")) == (23, [bad])
    assert not on_file.has_files(good)


def test_artifacts_that_could_not_be_removed_are_reported_and_removed_the_next_time(on_file: Data) -> None:
    """Their folder turns into something else between the look and the removal."""
    bad, good = on_file.run(), on_file.run()
    folder = on_file.artifacts / f"0/{bad}/artifacts"

    def spoil() -> None:
        folder.rename(folder.with_name("moved"))
        folder.symlink_to("moved")

    fields = on_file.collect(step=meanwhile("rows deleted", spoil))
    assert (fields["exit_code"], fields["runs"]["removed"]) == (23, 2)
    assert [item["kind"] for item in fields["skipped"]] == ["artifacts"]
    assert (len(on_file.pages()), on_file.has_files(good)) == (1, False)
    folder.unlink()
    folder.with_name("moved").rename(folder)
    again = on_file.collect()
    assert (again["exit_code"], again["finished"], again["bytes"]) == (0, 1, 5)
    assert (on_file.files(), on_file.pages()) == (set(), [])


def test_one_maintenance_run_at_a_time(on_file: Data) -> None:
    run = on_file.run()
    with locks.maintenance(check_uri(on_file.uri)):
        assert on_file.collect()["outcome"] == "skipped"
        assert on_file.collect(dry_run=True)["runs"] == {"due": 1}
    assert on_file.has_files(run)


BAD_SETTINGS: list[dict[str, Any]] = [
    {"MLFLOW_TRACKING_GC_ORPHANS": "delete"},
    {"MLFLOW_TRACKING_GC_INCLUDE_REGISTERED": "perhaps"},
    {"MLFLOW_TRACKING_GC_TTL": "30 days"},
    {"MLFLOW_BACKEND_STORE_URI": "sqlite:////nowhere/x.sqlite"},
]


@pytest.mark.parametrize("given", BAD_SETTINGS, ids=[next(iter(item)) for item in BAD_SETTINGS])
def test_settings_that_cannot_work_are_refused_before_anything_is_done(on_file: Data, given: dict[str, str]) -> None:
    run = on_file.run()
    assert on_file.collect(**given)["exit_code"] == 3
    assert on_file.has_files(run)


def test_another_schema_is_refused(on_file: Data) -> None:
    on_file.run()
    on_file.sql("UPDATE alembic_version SET version_num = '451aebb31d03'")
    assert on_file.collect()["exit_code"] == 33


def test_a_destination_with_nothing_of_this_database_is_not_believed(on_file: Data) -> None:
    """No server to ask, and none of the runs has a folder there: it is some other store."""
    run = on_file.run()
    other = on_file.artifacts.parent / "other"
    (other / "0").mkdir(parents=True)
    fields = on_file.collect(MLFLOW_ARTIFACTS_DESTINATION=str(other))
    assert (fields["exit_code"], fields["outcome"]) == (3, "failed")
    assert on_file.column("SELECT run_uuid FROM runs") == [run]


def test_stopped_while_artifacts_and_the_rows_of_the_next_page_go(on_file: Data) -> None:
    """More runs than one page takes: what has no row any more is on a page, and the next run removes it."""
    first = on_file.run()
    others = [f"{number:032x}" for number in range(850)]
    with on_file.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, deleted_time, artifact_uri) "
                "SELECT :id, name, experiment_id, lifecycle_stage, deleted_time, replace(artifact_uri, run_uuid, :id) "
                "FROM runs WHERE run_uuid = :first"
            ),
            [{"id": run, "first": first} for run in others],
        )
    for run in others:
        on_file.file(f"0/{run}/artifacts/a.txt")
    pages = iter(("first", "second"))

    def stop(name: str) -> None:
        if name == "before commit" and next(pages, None) == "second":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_file.collect(step=stop)
    written = {owner for page in on_file.pages() for _, owner, _ in json.loads(json.loads(page.read_text())["entries"])}
    rows = set(on_file.column("SELECT run_uuid FROM runs"))
    left = {file.split("/")[1] for file in on_file.files()}
    assert len(rows) == 51
    assert rows <= left <= rows | written

    again = on_file.collect()
    assert (again["exit_code"], again["runs"]["removed"], again["finished"]) == (0, len(rows), len(left - rows))
    assert (on_file.files(), on_file.pages(), on_file.column("SELECT run_uuid FROM runs")) == (set(), [], [])


def test_only_the_lock_file_stays_next_to_the_database(on_file: Data) -> None:
    file = Path(on_file.uri.removeprefix("sqlite:///"))
    on_file.run()
    before = set(file.parent.iterdir())

    assert on_file.collect()["runs"]["removed"] == 1
    assert set(file.parent.iterdir()) - before == {file.with_name(file.name + ".maintenance.lock")}
