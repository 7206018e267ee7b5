"""A snapshot that contradicts itself, or that its target cannot hold, is refused before anything is moved."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import Configuration, ProjectError, SnapshotDamaged
from mlflow_ae5_server.database import copy_text
from mlflow_ae5_server.repository.blobs import BlobReader
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import (
    new_server,
    original,  # noqa: F401 - a fixture
)
from tests.project_template.repository.hostile import Hostile
from tests.project_template.restore.conftest import Home, tree

DAMAGED, REFUSED = SnapshotDamaged.exit_code, Configuration.exit_code
EMPTY = hashlib.sha256().hexdigest()
MiB = 1024 * 1024


class Forged(Hostile):
    """The folder of the backups, in the hands of somebody who knows how manifests are made."""

    def store(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.object(sha256).parent.mkdir(exist_ok=True)
        self.object(sha256).write_bytes(b"r" + data)
        return sha256

    def list(self, *entries: dict[str, Any], **counts: int) -> None:
        """A list of artifacts with these entries, and its true counts but for `counts`."""
        self.forge_lists(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        files = [entry for entry in entries if "s" in entry]
        true = {"files": len(files), "bytes": sum(entry["s"] for entry in files), "links": len(entries) - len(files)}
        self.forge_artifacts(**true | counts)

    def database(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """The database's file with a change of which the manifest knows nothing."""
        reader = BlobReader(open_backend(str(self.backend)))
        file = self.server.folder / "forged.sqlite"
        file.write_bytes(b"".join(map(reader.get, self.read()["database"]["file"])))
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            change(connection)
        data = file.read_bytes()
        chunks = [self.store(data[start : start + 4 * MiB]) for start in range(0, len(data), 4 * MiB)]
        self.forge(database={**self.read()["database"], "file": chunks})

    def sql(self, *statements: str) -> None:
        self.database(lambda connection: [connection.execute(statement) for statement in statements])

    def table(self, name: str, /, **changes: Any) -> None:
        database = self.read()["database"]
        for table in database["tables"]:
            table.update(changes if table["name"] == name else {})
        self.forge(database=database)

    def rows(self, dialect: str, **repeated: int) -> None:
        """The same rows as of another kind of database; those of the tables `repeated` come so many times."""

        def read(connection: sqlite3.Connection) -> None:
            database = self.read()["database"]
            for table in database["tables"]:
                columns = [row[1] for row in connection.execute(f"PRAGMA table_xinfo({table['name']})") if row[6] == 0]
                table["columns"] = sorted(columns)
                names = ", ".join(f'"{name}"' for name in table["columns"])
                rows = connection.execute(f"SELECT {names} FROM {table['name']}").fetchall()  # noqa: S608
                rows *= repeated.get(table["name"], 1)
                table.update(rows=len(rows), objects=[self.store(copy_text.write(rows))] if rows else [])
            self.forge(database={**database, "dialect": dialect, "file": []}, dialect=dialect)

        with contextlib.closing(sqlite3.connect(self.server.folder / "db.sqlite")) as connection:
            read(connection)


def file(path: str, **more: Any) -> dict[str, Any]:
    return {"p": path, "s": 0, "d": EMPTY, "m": 1, **more}


def link(path: str, target: str = "x") -> dict[str, Any]:
    return {"p": path, "l": target}


def many_parts(forged: Forged, number: int = 60_000, **counts: int) -> None:
    sha256 = forged.store(bytes(8 * MiB))
    parts = [[sha256, 8 * MiB]] * number
    forged.list(file("a", s=8 * MiB * len(parts), d="a" * 64, o=parts), **counts)


VIEW = (
    "CREATE VIEW metrics AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT x AS key, x AS value, x AS timestamp, x AS run_uuid, x AS step, x AS is_nan FROM c"
)
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM experiments; END"

LISTS: dict[str, Callable[[Forged], object]] = {
    "more files": lambda f: f.list(file("a"), files=2),
    "fewer files": lambda f: f.list(file("a"), file("b"), files=1),
    "no files": lambda f: f.list(files=1),
    "other bytes": lambda f: f.list(file("a"), bytes=1),
    "other links": lambda f: f.list(file("a"), link("b"), links=0),
    "other special files": lambda f: f.list(file("a"), special=1),
    "a file within a link": lambda f: f.list(link("l"), file("l/f")),
    "a file within a link, not next to it": lambda f: f.list(link("l"), file("l-f"), file("l/d/f")),
    "a link within a link": lambda f: f.list(link("l"), link("l/zz")),
    "a link within a file": lambda f: f.list(file("l"), link("l/zz")),
    "a link to 4096 bytes": lambda f: f.list(link("l", "x" * 4096)),
    "a path of 4096 bytes": lambda f: f.list(file("/".join(["x" * 200] * 20 + ["y" * 76]))),
    "a huge file of one small object": lambda f: many_parts(f, 600, bytes=8 * MiB),
}
DATABASES: dict[str, Callable[[Forged], object]] = {
    "rows that are not there": lambda f: f.table("experiments", rows=10**15),
    "another digest": lambda f: f.table("experiments", digest="a" * 64),
    "another row": lambda f: f.sql("UPDATE runs SET user_id = 'forged'"),
    "a view for a table": lambda f: f.sql("DROP TABLE metrics", VIEW),
    "a view for the revision": lambda f: f.sql(
        "DROP TABLE alembic_version", VIEW.replace("metrics", "alembic_version")
    ),
    "no table": lambda f: f.sql("DROP TABLE metrics"),
    "a virtual table": lambda f: f.sql("DROP TABLE tags", "CREATE VIRTUAL TABLE tags USING fts5(key, value, run_uuid)"),
    "a table without row numbers": lambda f: f.sql(
        "DROP TABLE tags", "CREATE TABLE tags (key PRIMARY KEY) WITHOUT ROWID"
    ),
    "a trigger": lambda f: f.sql(TRIGGER),
    "another revision": lambda f: f.sql("UPDATE alembic_version SET version_num = '\x1b[2J'"),
    "no SQLite file": lambda f: f.forge(database={**f.read()["database"], "file": [f.store(b"x" * 5000)]}),
    "a key twice": lambda f: f.rows("postgresql", experiments=2),
    "a key twice, of MySQL": lambda f: f.rows("mysql", experiments=2),
    "other rows": lambda f: (f.rows("postgresql"), f.table("experiments", rows=7)),
}
# Texts that no database has, in the manifest's description of one.
TEXTS: dict[str, Callable[[Forged], object]] = {
    **{
        f"revision {text!a}": lambda f, text=text: f.forge(database={**f.read()["database"], "revision": text})
        for text in ("x", "", "\x1b[2J", "ab\ncd", "a" * 41, "\ud800", 5)
    },
    **{
        f"name {text!a:.20}": lambda f, text=text: f.table("experiments", name=text)
        for text in ("", "\x1b[2J", "a\nb", "x" * 301, "\u202e", 5)
    },
    **{
        f"{field} {text!a}": lambda f, field=field, text=text: f.forge(database={**f.read()["database"], field: text})
        for field in ("server", "others")
        for text in ("", "\x1b[2J", ["\x07"], ["x" * 301], 5)
    },
}
# What is right, and no folder can hold.
NAMES: dict[str, Callable[[Forged], object]] = {
    "a file within a file": lambda f: f.list(file("1/dir"), file("1/dir/file")),
    "a file within a file, not next to it": lambda f: f.list(file("a"), file("a-b"), file("a/b/c")),
    "a long name": lambda f: f.list(file("x" * 256)),
}


@pytest.fixture
def forged(original: Path, tmp_path: Path) -> Forged:  # noqa: F811 - the fixture
    shutil.copytree(original, tmp_path / "server")
    return Forged(new_server(tmp_path / "server", made=True))


def home_of(forged: Forged) -> Home:
    """A server with data of its own."""
    home = Home.at(forged.server.folder / "home", str(forged.backend))
    home.store_folder()
    assert home.store.file is not None
    shutil.copy(forged.server.database.file, home.store.file)
    home.artifacts.mkdir(exist_ok=True)
    (home.artifacts / "mine").write_text("mine")
    return home


def code_of(home: Home, *words: str) -> int:
    try:
        return int(home.job(*words)["exit_code"])
    except ProjectError as error:
        return error.exit_code


def codes(forged: Forged) -> tuple[int, int, int]:
    """Of `backup verify`, a restore and a drill; nothing of the server's was touched."""
    home = home_of(forged)
    before = tree(home.folder)
    found = code_of(home, "backup", "verify"), code_of(home, "restore", "--replace"), code_of(home, "drill")
    assert tree(home.folder) == before
    assert home.interrupted() is None
    return found


@pytest.mark.parametrize("how", LISTS)
def test_a_list_that_is_not_what_the_manifest_says(forged: Forged, how: str) -> None:
    LISTS[how](forged)
    assert code_of(home_of(forged), "restore", "--dry-run", "--replace") == DAMAGED
    assert codes(forged) == (DAMAGED, DAMAGED, DAMAGED)


@pytest.mark.parametrize("how", DATABASES)
def test_rows_that_are_not_what_the_manifest_says(forged: Forged, how: str) -> None:
    DATABASES[how](forged)
    assert code_of(home_of(forged), "restore", "--dry-run", "--replace") == DAMAGED
    assert codes(forged) == (DAMAGED, DAMAGED, DAMAGED)


@pytest.mark.parametrize("how", TEXTS)
def test_a_description_that_no_database_has(forged: Forged, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    TEXTS[how](forged)
    assert codes(forged) == (DAMAGED, DAMAGED, DAMAGED)
    assert not {"\x1b", "\x07", "\u202e"} & set("".join(capfd.readouterr()))


@pytest.mark.parametrize("how", NAMES)
def test_names_that_a_folder_cannot_hold(forged: Forged, how: str) -> None:
    NAMES[how](forged)
    (refusal,) = home_of(forged).restore("--dry-run", "--replace")["would_refuse"]
    assert (refusal["name"], refusal["exit_code"]) == ("names", REFUSED)
    assert codes(forged) == (0, REFUSED, REFUSED)


def test_the_required_room_is_computed_from_the_list(forged: Forged) -> None:
    many_parts(forged)
    (refusal,) = home_of(forged).restore("--dry-run", "--replace")["would_refuse"]
    assert (refusal["name"], refusal["exit_code"]) == ("room", 28)
    assert codes(forged) == (0, 28, 28)


def test_the_same_rows_from_another_kind_of_database_are_sound(forged: Forged) -> None:
    """So that the cases above fail for what is wrong with them."""
    forged.rows("postgresql")
    assert home_of(forged).restore("--dry-run", "--replace")["would_refuse"] == []
    assert code_of(home_of(forged), "backup", "verify") == 0


def test_triggers_that_are_not_mlflows_are_in_no_snapshot(forged: Forged) -> None:
    home = home_of(forged)
    assert home.store.file is not None
    with contextlib.closing(sqlite3.connect(home.store.file)) as connection:
        connection.execute(TRIGGER)
    assert code_of(home, "backup", "create", "--allow-external") == 33


def test_a_check_compares_the_size_of_an_object_with_what_the_list_says(forged: Forged) -> None:
    slice_ = [forged.store(b"aaaabbbb"), 4, 4]
    for total, code in ((8, 0), (9, DAMAGED)):
        forged.list(file("a", s=4, d=hashlib.sha256(b"bbbb").hexdigest(), o=[[*slice_, total]]))
        assert code_of(home_of(forged), "backup", "verify") == code
        shutil.rmtree(forged.server.folder / "home")
