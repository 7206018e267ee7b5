"""A snapshot is restored as a whole and identically, or the restore is refused with the reason."""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.commands import restore
from mlflow_ae5_server.common.errors import (
    Configuration,
    Locked,
    LoginFailed,
    NoSnapshot,
    SchemaMismatch,
    SnapshotDamaged,
    TargetInUse,
    TargetNotEmpty,
)
from mlflow_ae5_server.database import dump, locks, saved_copy
from mlflow_ae5_server.database.connection import connect_engine
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.database.schema import inspect_schema
from mlflow_ae5_server.repository.repository import open_repository
from mlflow_ae5_server.restore import journal, preflight
from mlflow_ae5_server.restore.open import open_target
from mlflow_ae5_server.server import application

from tests.project_template.restore.restoring import everything, is_identical, refused, serving, work_on


def test_a_snapshot_is_restored_into_an_empty_target(pilot: Any, home: Any) -> None:
    done = home.restore("--snapshot", "latest")
    assert is_identical(home, pilot)
    assert (
        done.items()
        >= {
            "outcome": "done",
            "snapshot": pilot.snapshot.id,
            "dialect": {"source": "sqlite", "target": home.store.dialect},
            "rows": pilot.snapshot.rows,
            "tables": pilot.snapshot.tables,
            "artifacts": 18,
            "written_files": 18,
            "artifact_bytes": sum(file.stat().st_size for file in home.artifacts.rglob("*") if file.is_file()),
            "database_identical": True,
            "artifacts_identical": True,
            "saved_copy": None,
            "upgraded": None,
        }.items()
    )
    left = {path.name for path in home.folder.iterdir()}
    assert left - {"store"} == {"artifacts"}
    assert journal.interrupted(home.destination) is None


def test_a_snapshot_of_postgresql_is_restored_into_sqlite(
    pilot: Any, tmp_path: Path, home_at: Any, filled_uri: Any, take: Any
) -> None:
    """Into it: see `test_a_snapshot_is_restored_into_an_empty_target`; this is the way back."""
    shutil.copytree(pilot.home.artifacts, tmp_path / "there" / "artifacts")
    moved = home_at(tmp_path / "there", str(tmp_path / "backups"), filled_uri())
    take(moved)
    back = home_at(tmp_path / "back", moved.backups)
    done = back.restore("--snapshot", "latest")
    assert done["dialect"] == {"source": "postgresql", "target": "sqlite"}
    assert is_identical(back, pilot)


def test_backups_and_artifacts_may_be_in_an_object_store(
    pilot: Any, tmp_path: Path, home_at: Any, take: Any, bucket: Any
) -> None:
    url = bucket(f"b{uuid.uuid4().hex}")
    source = dataclasses.replace(pilot.home, backups=f"{url}/backups")
    take(source)
    home = home_at(tmp_path / "home", source.backups, destination=f"{url}/artifacts")
    done = home.restore("--snapshot", "latest")
    assert (done["artifacts_identical"], done["database_identical"]) == (True, True)
    target = open_target(home.destination)
    assert {path: (target.digest(path) or (0, ""))[1] for path in pilot.files} == pilot.files
    assert target.count() == len(pilot.files)
    with pytest.raises(TargetNotEmpty, match="18 files"):
        home.restore("--snapshot", "latest")
    saved = home.restore("--replace")["saved_copy"]
    assert open_target(f"{url}/artifacts.{saved}").count() == len(pilot.files)
    home.restore("--undo")
    assert target.count() == len(pilot.files)
    assert open_target(f"{url}/artifacts.{saved}").count() == 0


def test_a_dry_run_reports_and_changes_nothing(pilot: Any, here: Any, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(here)
    message = here.restore("--dry-run")
    assert everything(here) == before
    assert message.items() >= {"outcome": "dry-run", "would_refuse": [], "damaged": [], "written_files": 0}.items()
    assert message["checked_objects"] == message["of_objects"] > 1
    assert message["estimated_seconds"] > 0
    message = capsys.readouterr().out
    assert f"would write {pilot.snapshot.rows} rows in {pilot.snapshot.tables} tables to {here.store.shown}" in message
    assert "would write 18 files" in message

    here.restore("--snapshot", "latest")
    with serving(here.store):
        message = here.restore("--dry-run")
    assert (message["outcome"], [entry["exit_code"] for entry in message["would_refuse"]]) == ("dry-run", [27, 26])
    assert [entry["exit_code"] for entry in here.restore("--dry-run")["would_refuse"]] == [26]
    assert here.restore("--dry-run", "--replace")["would_refuse"] == []
    assert is_identical(here, pilot)


# Refused


def test_a_running_server_is_named(filled: Any) -> None:
    assert f"tables with {dump.state(filled.store).rows} rows" in refused(filled, TargetNotEmpty)
    with serving(filled.store):
        for words in (("--snapshot", "latest"), ("--replace",)):
            assert "a tracking server" in refused(filled, TargetInUse, *words)


@pytest.mark.parametrize("held", ["database", "artifacts", "both"])
def test_what_the_target_holds_is_named(held: str, here: Any, pilot: Any) -> None:
    if held != "artifacts":
        work_on(here, pilot)
        shutil.rmtree(here.artifacts)
    if held != "database":
        (here.artifacts / "7").mkdir(parents=True)
        (here.artifacts / "7" / "precious.bin").write_bytes(b"12345")
    message = refused(here, TargetNotEmpty)
    assert ("tables with" in message) == (held != "artifacts")
    assert ("1 file (5 bytes), such as 'precious.bin'" in message) == (held != "database")
    assert "--replace" in message


def test_another_maintenance_run_is_refused(here: Any, pilot: Any) -> None:
    here.store_folder()
    with locks.maintenance(here.store), pytest.raises(Locked):
        restore.run(here.settings(), here.report(), here.options("restore", "--replace"), lock_wait=0)
    assert not here.artifacts.exists()


def test_foreign_tables_are_never_moved(tmp_path: Path, home_at: Any, pilot: Any) -> None:
    import sqlite3
    from contextlib import closing

    home = home_at(tmp_path / "home", pilot.home.backups)
    home.store_folder()
    with closing(sqlite3.connect(home.store.file)) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")
        connection.commit()
    for words in (("--snapshot", "latest"), ("--replace",)):
        assert "accounts" in refused(home, TargetNotEmpty, *words)
    home.store.file.write_bytes(b"no database at all" * 1000)
    assert "not a database" in refused(home, Configuration, "--replace")


@pytest.fixture
def copied(home_at: Any, pilot: Any, tmp_path: Path) -> Any:
    """An empty home, with a copy of the backups of its own."""
    shutil.copytree(pilot.home.backups, tmp_path / "backups")
    return home_at(tmp_path / "home", str(tmp_path / "backups"))


def objects(home: Any) -> list[Path]:
    return sorted(path for path in Path(home.backups, "objects").rglob("*") if path.is_file())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-5]), lambda path: path.write_bytes(b"")],
    ids=["flipped bit", "missing", "too short", "empty"],
)
def test_a_damaged_object_is_named(damage: Callable[[Path], object], copied: Any) -> None:
    copied.restore("--snapshot", "latest")  # with something to lose
    victim = objects(copied)[0]
    damage(victim)
    for words in (("--replace",), ("--dry-run",)):
        assert victim.name in refused(copied, SnapshotDamaged, *words)


def test_every_object_counts(copied: Any) -> None:
    for victim in objects(copied):
        data = victim.read_bytes()
        flip(victim)
        assert victim.name in refused(copied, SnapshotDamaged), victim
        victim.write_bytes(data)
    assert copied.restore("--snapshot", "latest")["outcome"] == "done"


def test_a_damaged_manifest_is_named(copied: Any) -> None:
    manifest = next(Path(copied.backups, "snapshots").iterdir())
    flip(manifest)
    assert "manifest" in refused(copied, SnapshotDamaged)


def test_tables_that_differ_from_the_manifest_are_refused(copied: Any, pilot: Any) -> None:
    """Every object is sound, and yet the rows are not those that were counted: only reading them back can tell."""
    repository = open_repository(copied.backups)
    old = repository.snapshot()
    tables = [
        {**table, "digest": "0" * 64} if table["name"] == "metrics" else table for table in old.database["tables"]
    ]
    repository.publish(
        dataclasses.replace(
            old, id="20990101T000000Z-abcdef", sequence=old.sequence + 1, database={**old.database, "tables": tables}
        )
    )
    assert "the snapshot's table metrics has" in refused(copied, SnapshotDamaged, "--snapshot", "latest")
    assert copied.restore("--snapshot", old.id)["outcome"] == "done"
    assert is_identical(copied, pilot)


def test_a_newer_schema_is_named(copied: Any) -> None:
    repository = open_repository(copied.backups)
    old = repository.snapshot()
    newer = dataclasses.replace(
        old,
        id="20990101T000000Z-abcdef",
        sequence=old.sequence + 1,
        revision="ffffffffffff",
        database={**old.database, "revision": "ffffffffffff"},
    )
    repository.publish(newer)
    for words in (("--snapshot", "latest"), ("--replace",), ("--dry-run",)):
        message = refused(copied, SchemaMismatch, *words)
        assert "ffffffffffff" in message
        assert newer.id in message
    assert copied.restore("--snapshot", old.id)["outcome"] == "done"


def test_an_unknown_snapshot_names_those_there_are(copied: Any, pilot: Any) -> None:
    assert pilot.snapshot.id in refused(copied, NoSnapshot, "--snapshot", "20990101T000000Z-abcdef")


def test_an_unsupported_kind_of_database_is_refused(pilot: Any, home_at: Any, tmp_path: Path) -> None:
    store = dataclasses.replace(pilot.home.store, dialect="mssql", shown="mssql://host/db")
    with pytest.raises(Configuration, match="mssql"):
        preflight.refuse_kind(pilot.snapshot, DatabasePart.from_json(pilot.snapshot.database), store)


def test_a_role_without_rights_is_named(postgres: Any, home_at: Any, pilot: Any, tmp_path: Path) -> None:
    name = f"r{uuid.uuid4().hex[:12]}"
    postgres.sql(f'CREATE DATABASE "{name}"')  # not the role's own, so that it may only look
    home = home_at(tmp_path / "home", pilot.home.backups, postgres.uri(name))
    assert "cannot create tables" in refused(home, LoginFailed)
    message = home.restore("--dry-run")
    assert [entry["exit_code"] for entry in message["would_refuse"]] == [LoginFailed.exit_code]


@pytest.mark.parametrize("inner", ["store", "backups"])
def test_a_database_or_backups_within_the_artifacts_are_refused(
    inner: str, pilot: Any, home_at: Any, tmp_path: Path
) -> None:
    backups = str(tmp_path / "artifacts" / "backups") if inner == "backups" else pilot.home.backups
    uri = f"sqlite:///{tmp_path}/artifacts/db.sqlite" if inner == "store" else ""
    with pytest.raises(Configuration, match="within the artifacts"):
        home_at(tmp_path, backups, uri).restore("--replace")


# Resumed, and overtaken


def test_another_snapshot_over_an_interrupted_restore(copied: Any, pilot: Any, take: Any) -> None:
    """What the unfinished one left is saved, and undo still knows what was there at first."""
    second = take(dataclasses.replace(pilot.home, backups=copied.backups))
    before = work_on(copied, pilot)
    copied.interrupt("load-database", "--snapshot", pilot.snapshot.id, "--replace")
    running = journal.RestoreJournalFile(copied.saved_copies()).require_running()
    assert (running.snapshot, running.step) == (pilot.snapshot.id, "load-database")
    refused(copied, TargetNotEmpty, "--snapshot", second.id)
    with pytest.raises(Locked, match=pilot.snapshot.id):
        application.refuse_unfinished(copied.destination)
    work_on(copied, pilot)
    with pytest.raises(Locked, match=pilot.snapshot.id):
        copied.job("backup", "create")
    done = copied.restore("--snapshot", second.id, "--replace")
    assert done["snapshot"] == second.id
    assert is_identical(copied, pilot)
    copied.restore("--undo")
    assert (dump.digests(copied.store), copied.files()) == before


def test_latest_resumes_the_interrupted_restore(copied: Any, pilot: Any, take: Any) -> None:
    copied.interrupt("restore-artifacts", "--snapshot", "latest")
    take(dataclasses.replace(pilot.home, backups=copied.backups))
    message = copied.restore("--dry-run")
    assert message["snapshot"] == pilot.snapshot.id
    assert message["interrupted_restore"].startswith(f"a restore of the snapshot {pilot.snapshot.id}, started ")
    done = copied.restore("--snapshot", "latest")
    assert (done["snapshot"], done["interrupted_restore"]) == (pilot.snapshot.id, None)


def test_data_written_since_the_interruption_is_not_overwritten(copied: Any, pilot: Any) -> None:
    copied.interrupt("load-database", "--snapshot", "latest")
    assert dump.state(copied.store).kind == "empty"
    rows, _files = work_on(copied, pilot)
    with pytest.raises(TargetNotEmpty, match="19 files, and the snapshot 18"):
        copied.restore("--snapshot", "latest")
    added = next(copied.artifacts.glob("1/*/a"))
    shutil.move(added.parent, copied.folder / "elsewhere")
    with pytest.raises(TargetNotEmpty, match="not in the snapshot were written"):
        copied.restore("--snapshot", "latest")
    assert dump.digests(copied.store) == rows

    shutil.move(copied.folder / "elsewhere", added.parent)
    assert copied.restore("--replace")["database_identical"] is True
    assert is_identical(copied, pilot)
    assert len(saved_copy.saved_names(copied.store)) == 1
    assert len(list(copied.folder.glob("artifacts.failed_*/1/*/a"))) == 1


# Older schemas


def test_an_older_snapshot_over_a_newer_schema(tmp_path: Path, home_at: Any, older: Any, take: Any, pilot: Any) -> None:
    """As an upgrade is rolled back."""
    source = older(tmp_path / "old")
    take(source)
    home = home_at(tmp_path / "home", source.backups)
    work_on(home_at(tmp_path / "home", pilot.home.backups), pilot)
    done = home.restore("--snapshot", "latest", "--replace", "--no-upgrade")
    assert (done["database_identical"], done["artifacts_identical"], done["upgraded"]) == (True, True, None)
    assert dump.digests(home.store) == dump.digests(source.store)
    assert home.files() == source.files()


@pytest.mark.parametrize("upgrade", [True, False])
def test_an_older_schema_is_restored_and_then_upgraded(
    upgrade: bool, tmp_path: Path, home_at: Any, older: Any, take: Any
) -> None:
    source = older(tmp_path / "old")
    snapshot = take(source)
    home = home_at(tmp_path / "home", source.backups)
    done = home.restore("--snapshot", "latest", *([] if upgrade else ["--no-upgrade"]))
    assert done["database_identical"] is True
    schema = inspect_schema(connect_engine(home.store))
    if upgrade:
        assert done["upgraded"] == {"revision": snapshot.revision, "new_revision": schema.expected}
        assert schema.state == "current"
    else:
        assert done["upgraded"] is None
        assert dump.digests(home.store) == dump.digests(source.store)
