"""A drill restores, serves, checks, measures, and leaves nothing: no file, no schema, no process."""

import contextlib
import dataclasses
import os
import shutil
import signal
import time
import uuid
from pathlib import Path

import psutil
import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.common.errors import Interrupted, SnapshotDamaged
from mlflow_ae5_server.database import dump
from mlflow_ae5_server.database.connection import connect_engine


def schemas(home):
    from sqlalchemy import text

    with connect_engine(home.store).connect() as connection:
        found = connection.execute(text("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'"))
        return sorted(row[0] for row in found)


def servers():
    """Processes of a tracking server that this one has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "tracking-server" in child.cmdline():
                found.append(child.pid)
    return found


@pytest.fixture
def real(tmp_path, home_at, pilot, filled_uri):
    """A home with data of its own, on PostgreSQL, where a drill has most to leave alone (on SQLite: see tests/e2e)."""
    home = home_at(tmp_path / "home", pilot.home.backups, filled_uri())
    (home.artifacts / "1").mkdir(parents=True)
    (home.artifacts / "1" / "later").write_text("not in the snapshot")
    return home


def test_a_drill_changes_no_real_data_and_removes_its_own(real, pilot):
    before = real.tree(), dump.digests(real.store), schemas(real)
    running = servers()
    done = real.job("drill")
    assert done["outcome"] == "done", done
    assert servers() == running
    assert (real.tree(), dump.digests(real.store), schemas(real)) == before
    assert {path.name for path in real.folder.iterdir()} <= {"artifacts", "store"}
    assert done["snapshot"] == pilot.snapshot.id
    assert done["recovery_seconds"] > 0
    assert done["models_read"] == 1
    assert all(check["passed"] for check in done["checks"])
    assert [check["name"] for check in done["checks"]] == [
        "artifacts",
        "database",
        "keys",
        "server",
        "experiments",
        "experiment and run",
        "metric and parameter",
        "artifact through the server",
        "model version",
        "clean up",
        "models read back",
        "removed",
    ]
    details = {check["name"]: check["detail"] for check in done["checks"]}
    assert details["models read back"].startswith("3 files (50.0 kB) of 1 model")


def test_a_damaged_snapshot_fails_the_drill(tmp_path, home_at, pilot):
    home = damaged(tmp_path, home_at, pilot)
    done = home.job("drill")
    assert (done["outcome"], done["exit_code"], done["recovery_seconds"]) == ("failed", SnapshotDamaged.exit_code, None)
    assert [check["passed"] for check in done["checks"]] == [False, True]
    assert pilot.snapshot.id in done["error"]
    assert done["hint"].startswith("take another backup")
    lost = {found["object"] for found in done["damaged"]}
    assert len(lost) == done["damaged_total"] >= 1
    assert {file.name for file in Path(home.backups, "damaged").iterdir()} == lost, "the next backup stores it again"
    assert not home.folder.exists() or not any(home.folder.rglob(".mlflow-ae5-work-*"))


def test_a_role_without_the_right_to_create_a_schema_gets_an_sqlite_file(tmp_path, home_at, pilot, postgres, capsys):
    name = f"d{uuid.uuid4().hex[:12]}"
    postgres.sql(f'CREATE DATABASE "{name}"')  # not the role's own
    done = damaged(tmp_path, home_at, pilot, postgres.uri(name)).job("drill")
    assert done["dialect"] == {"source": "sqlite", "target": "sqlite"}
    assert "an SQLite file was used instead of" in capsys.readouterr().err


def damaged(tmp_path, home_at, pilot, uri=""):
    """A home whose backups have lost the artifacts: a drill of them ends soon."""
    backups = tmp_path / f"backups{uuid.uuid4().hex}"
    shutil.copytree(pilot.home.backups, backups)
    lists = set(pilot.snapshot.artifacts.lists) | set(pilot.snapshot.database["file"])
    for file in backups.glob("objects/*/*"):
        if file.name not in lists:
            file.unlink()
    return home_at(tmp_path / "home", str(backups), uri)


# Ended by others


@contextlib.contextmanager
def running_drill(home, until):
    """A drill in a process of its own that has come so far; and its server's processes."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            signal.signal(signal.SIGTERM, cli._terminated)
            home.job("drill")
            code = 0
        except Interrupted:
            code = Interrupted.exit_code
        finally:
            os._exit(code)
    deadline = time.monotonic() + 100
    while not until(home.folder):
        assert time.monotonic() < deadline, "the drill's server did not come up"
        time.sleep(0.02)
    children = []
    while not children:
        assert time.monotonic() < deadline, "the drill has no server"
        children = psutil.Process(pid).children(recursive=True)
    yield pid, children


def starts(folder):
    return any(folder.glob(".mlflow-ae5-work-*/server.log"))


def serves(folder):
    return any(
        b"Application startup complete" in log.read_bytes() for log in folder.glob(".mlflow-ae5-work-*/server.log")
    )


def ended(processes):
    """Also one whose new parent has not asked after it."""
    return all(p.status() == psutil.STATUS_ZOMBIE for p in psutil.wait_procs(processes, timeout=5)[1])


def test_a_drill_that_is_stopped_removes_everything(tmp_path, home_at, pilot):
    home = home_at(tmp_path / "home", pilot.home.backups)
    home.artifacts.mkdir(parents=True)
    with running_drill(home, starts) as (pid, children):
        os.kill(pid, signal.SIGTERM)
        _pid, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == Interrupted.exit_code
    assert ended(children)
    assert {path.name for path in home.folder.iterdir()} == {"artifacts"}


def test_the_next_drill_removes_everything_of_a_killed_one(tmp_path, home_at, pilot, postgres):
    uri = postgres.create(f"d{uuid.uuid4().hex[:12]}")
    home = home_at(tmp_path / "home", pilot.home.backups, uri)
    home.artifacts.mkdir(parents=True)
    untouched = schemas(home)
    with running_drill(home, serves) as (pid, children):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert ended(children)  # no server outlives its drill
    assert schemas(home) != untouched
    assert any(home.folder.glob(".mlflow-ae5-work-*"))

    next_one = dataclasses.replace(home, backups=damaged(tmp_path, home_at, pilot, uri).backups).job
    next_one("drill")
    assert schemas(home) == untouched
    assert {path.name for path in home.folder.iterdir()} == {"artifacts"}
