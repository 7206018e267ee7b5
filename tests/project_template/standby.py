"""A standby of the PostgreSQL of the tests: it streams all of its databases, and can be held back."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from mlflow_ae5_deploy.sandbox import postgres as sandbox
from tests.project_template.conftest import Postgres, eventually, free_port


@dataclass(frozen=True)
class Standby:
    primary: Postgres
    port: int

    def uri(self, database: str) -> str:
        return self._here(self.primary.uri(database))

    def _here(self, uri: str) -> str:
        return make_url(uri).set(port=self.port).render_as_string(hide_password=False)

    def hold_back(self) -> None:
        """Until `catch_up` it shows what the primary has now."""
        self.catch_up()
        self._ask("SELECT pg_wal_replay_pause()")
        assert eventually(lambda: self._ask("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def catch_up(self) -> None:
        written = ask(self.primary.admin_uri, "SELECT pg_current_wal_lsn()")
        self._ask("SELECT pg_wal_replay_resume()")
        assert eventually(lambda: bool(self._ask(f"SELECT pg_last_wal_replay_lsn() >= '{written}'")))

    def is_up(self) -> bool:
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            return bool(self._ask("SELECT pg_is_in_recovery()"))
        return False

    def _ask(self, query: str) -> Any:
        return ask(self._here(self.primary.admin_uri), query)


def ask(uri: str, query: str) -> Any:
    import psycopg

    with psycopg.connect(uri, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@contextlib.contextmanager
def following(primary: Postgres, folder: Path) -> Iterator[Standby]:
    """One for as long as this lasts. folder: as that of a sandbox."""
    data, log = sandbox.data_folder(folder), folder / "standby.log"
    programs, (uid, gid) = sandbox._usable(sandbox._binaries(), data), sandbox._identity()
    if uid is not None:
        data.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    data.mkdir(mode=0o700)
    if uid is not None and gid is not None:
        shutil.chown(data, uid, gid)
    admin = make_url(primary.admin_uri)
    environment = {"PGPASSWORD": str(admin.password), "LC_ALL": "C"}
    started: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": None if uid is None else [], "cwd": "/"}
    try:
        of_primary = ["-h", str(admin.host), "-p", str(admin.port), "-U", str(admin.username)]
        copying = [str(programs / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast", "--no-sync", *of_primary]
        subprocess.run(copying, env=environment, check=True, timeout=120, **started)
        standby = Standby(primary, free_port())
        on_loopback = ["-h", "127.0.0.1", "-p", str(standby.port), "-k", ""]
        serving = [str(programs / "postgres"), "-D", str(data), "-c", "fsync=off", *on_loopback]
        with log.open("wb") as output:
            process = subprocess.Popen(serving, env=environment, stdout=output, stderr=output, **started)
        try:
            assert eventually(lambda: process.poll() is not None or standby.is_up()), log.read_text()
            assert process.poll() is None, log.read_text()
            yield standby
        finally:
            process.send_signal(signal.SIGQUIT)  # with its children, and without a last checkpoint
            process.wait(60)
    finally:
        sandbox.remove_data(folder)
