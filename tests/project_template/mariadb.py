"""A MariaDB for the tests, where the machine has one: empty, without accounts, on a socket and no port."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "pa55-mariadb"
ANSI = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES,PIPES_AS_CONCAT')"
_OPTIONS = {
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "innodb-buffer-pool-size": "48M",
    "innodb-log-file-size": "8M",
    "innodb-flush-log-at-trx-commit": "0",  # nobody asks whether it survives a power cut
    "innodb-doublewrite": "0",
    "innodb-flush-method": "nosync",
    "performance-schema": "0",
}


@cache
def program() -> str | None:
    """The server's program. Without tables of its own, which these tests do without, only MariaDB starts."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/libexec"])
    for name in ("mariadbd", "mysqld"):
        if found := shutil.which(name, path=path):
            version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
            if "MariaDB" in version:
                return found
    return None


needed = pytest.mark.skipif(
    program() is None, reason="no MariaDB server here (mariadbd); Debian's package is mariadb-server-core"
)


def with_mysql(*dialects: str) -> list[Any]:
    """Parameters of a test: these dialects, and MySQL where there is one."""
    return [*dialects, pytest.param("mysql", marks=needed)]


@dataclass(frozen=True)
class MariaDB:
    """Any name and any password may enter: who can reach the socket may do everything."""

    socket: Path

    def uri(self, database: str) -> str:
        return f"mysql+pymysql://mlflow_test:{PASSWORD}@localhost/{database}?unix_socket={self.socket}"

    def create(self, database: str, template: str = "") -> str:
        """`template`: the database that it becomes a copy of."""
        with self._connected() as cursor:
            cursor.execute(f"CREATE DATABASE `{database}`")
            if template:
                self._copy(cursor, template, database)
        return self.uri(database)

    @staticmethod
    def _copy(cursor: Any, template: str, database: str) -> None:
        cursor.execute(f"USE `{template}`")
        cursor.execute("SHOW TABLES")
        statements = ["SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO'", f"USE `{database}`"]
        for (table,) in cursor.fetchall():
            cursor.execute(f"SHOW CREATE TABLE `{table}`")
            rows = f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`"  # noqa: S608
            statements += [cursor.fetchone()[1], rows]
        cursor.execute("SHOW TRIGGERS")
        statements += [
            f"CREATE TRIGGER `{name}` {timing} {event} ON `{table}` FOR EACH ROW {body}"
            for name, event, table, body, timing, *_rest in cursor.fetchall()
        ]
        for statement in statements:
            cursor.execute(statement)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        import pymysql

        with contextlib.closing(pymysql.connect(unix_socket=str(self.socket), user="any")) as connection:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()


def execute(uri: str, *statements: str) -> None:
    """SQL as the other databases know it, || joining texts and " quoting names; in one transaction."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        for statement in (ANSI, *statements):
            connection.exec_driver_sql(statement)


@contextlib.contextmanager
def running() -> Iterator[MariaDB]:
    """One for as long as this lasts; its folder has a short path, because a socket's is limited."""
    folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
    options = {**_OPTIONS, "datadir": folder / "data", "tmpdir": folder, "socket": folder / "s"}
    command = [program() or "", "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]
    command += ["--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--debug-no-sync"]
    (folder / "data").mkdir()
    if os.geteuid() == 0:  # it refuses to run as root
        command.append("--user=nobody")
        for owned in (folder, folder / "data"):
            shutil.chown(owned, "nobody")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "s").exists():
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, "MariaDB does not come up"
            time.sleep(0.02)
        yield MariaDB(folder / "s")
    finally:
        process.kill()  # an orderly shutdown writes pages of hundreds of databases, and all of them are deleted now
        process.wait()
        shutil.rmtree(folder)
