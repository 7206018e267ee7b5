"""Into an empty database of any dialect, from a snapshot of any dialect."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    DamagedError,
    NotEmptyError,
    SchemaError,
    StorageError,
)
from mlflow_ae5_server.database import columns as shape
from mlflow_ae5_server.database import copy_text, mysql_load, portability, postgresql_load, schema, sqlite, sqlite_file
from mlflow_ae5_server.database.checks import Database
from mlflow_ae5_server.database.columns import TableColumns, listed, quoted
from mlflow_ae5_server.database.portability import Refused, Target
from mlflow_ae5_server.database.records import DatabasePart, DatabaseState, TablePart
from mlflow_ae5_server.database.work_folder import storage_errors, workplace
from mlflow_ae5_server.repository.interfaces import BlobSource

_ANOTHER = "use another snapshot"


def check(part: DatabasePart) -> None:
    """Raises SchemaError for a schema the installed MLflow does not know, DamagedError for tables that are not its."""
    schema.require_known(part.revision, "the snapshot")
    if strange := {table.name for table in part.tables} ^ schema.own_tables(part.revision):
        raise DamagedError(
            f"the snapshot's tables are not those of revision {part.revision}: {', '.join(sorted(strange))}",
            _ANOTHER,
        )


def require_empty(target: Database, found: DatabaseState) -> None:
    """Raises NotEmptyError unless `target` holds nothing of MLflow's."""
    if found.kind != "empty":
        what = ", ".join((found.tables or found.others)[:5])
        raise NotEmptyError(
            f"{target.shown} is not empty: it holds {what} ({found.rows} rows)",
            "restore into an empty database, or keep what is there aside",
        )


def load(
    part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool = False
) -> dict[str, tuple[int, str]]:
    """Rows and digest of each table as they were loaded: the snapshot's, but for texts that were shortened."""
    if target.dialect == "sqlite":
        _into_sqlite(part, objects, target)
        return part.digests()
    if target.dialect == "postgresql":
        return _into_postgresql(part, objects, target, shorten=shorten)
    if target.dialect == "mysql":
        return _into_mysql(part, objects, target, shorten=shorten)
    raise ConfigurationError(f"a snapshot cannot be loaded into {target.dialect}", "use another database")


def refused(part: DatabasePart, objects: BlobSource, target: Database) -> list[Refused]:
    """Every value of the snapshot that `target` refuses. Of rows from the same kind of database nothing is asked.

    Raises DamagedError where the snapshot's rows are not those that it says it has.
    """
    with contextlib.ExitStack() as stack:
        differs = _differs(part, objects, target)
        try:
            file = _file(stack, part, objects, _beside(target))
            _require_described(part, file)
        except StorageError as error:
            if differs or target.dialect == "sqlite":
                raise
            # The target may well have the room that this machine has not.
            print(f"note: the snapshot's rows are not looked at before: {error.message}", file=sys.stderr, flush=True)
            return []
        return _find(file, part, _keeps(stack, part, file, target)) if differs else []


def require_sound(part: DatabasePart, objects: BlobSource) -> None:
    """As `refused`, without a target."""
    with contextlib.ExitStack() as stack:
        _require_described(part, _file(stack, part, objects))


def _beside(target: Database) -> Path | None:
    """A folder that has room for a database, where there is one."""
    folder = target.file.parent if target.file is not None else None
    while folder is not None and not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder if folder is not None and os.access(folder, os.W_OK | os.X_OK) else None


def _require_described(part: DatabasePart, file: Path) -> None:
    """Raises DamagedError where the tables in `file` are not as the snapshot describes them."""
    uri = sqlite.uri_for(file)
    try:
        found = sqlite.digests(Database(uri, "sqlite", "pysqlite", "the snapshot's database", file))
        with sqlite_file.reading(file) as connection:
            query = "SELECT count(*) FROM pragma_foreign_key_check"
            dangling = part.dialect == "postgresql" and connection.execute(query).fetchone()[0]
    except (ConfigurationError, SchemaError) as error:
        raise DamagedError(f"the snapshot's database cannot be read: {error.message}", _ANOTHER) from None
    for name, (rows, digest) in sorted(part.digests().items()):
        if found[name] != (rows, digest):
            raise DamagedError(
                f"the snapshot's table {name} has {found[name][0]} rows, which are not the {rows} of its manifest",
                _ANOTHER,
            )
    if dangling:
        raise DamagedError(f"the snapshot's database has {dangling} references to rows that are not there", _ANOTHER)


def expected(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool) -> dict[str, tuple[int, str]]:
    """What `load` returns."""
    if not shorten:
        return part.digests()
    with _fitting(part, objects, target) as found:
        return part.digests() if found is None else _shortened(part, *found)


@contextlib.contextmanager
def _fitting(
    part: DatabasePart, objects: BlobSource, target: Database
) -> Iterator[tuple[Path, Target, list[Refused]] | None]:
    """The snapshot as a SQLite file, what the target keeps, and what of it does not fit; None where all rows do."""
    with contextlib.ExitStack() as stack:
        if not _differs(part, objects, target):
            yield None
            return
        file = _file(stack, part, objects)
        keeps = _keeps(stack, part, file, target)
        yield file, keeps, _find(file, part, keeps)


def _keeps(stack: contextlib.ExitStack, part: DatabasePart, file: Path, target: Database) -> Target:
    if target.dialect == "mysql":
        return _kept_by_mysql(stack.enter_context(mysql_load.looking(target, part.revision)))
    return _kept_by_postgresql(file, part)


def _differs(part: DatabasePart, objects: BlobSource, target: Database) -> bool:
    """Whether rows of the snapshot may not fit. All that MySQL keeps and PostgreSQL does not is NUL."""
    if target.dialect in {"sqlite", part.dialect}:
        return False
    if (part.dialect, target.dialect) == ("mysql", "postgresql"):
        return any(b"\0" in objects.get(sha256) for table in part.tables for sha256 in table.objects)
    return True


def _file(stack: contextlib.ExitStack, part: DatabasePart, objects: BlobSource, beside: Path | None = None) -> Path:
    file = stack.enter_context(workplace(beside)) / "source.sqlite"
    if part.dialect == "sqlite":
        sqlite.assemble(part, objects, file)
    else:
        _new_file(part, objects, file)
    return file


def _kept_by_postgresql(file: Path, part: DatabasePart) -> Target:
    """MLflow declares the same types there as in SQLite."""
    with sqlite_file.reading(file) as connection:
        return Target({table.name: shape.of_sqlite(connection, table.name) for table in part.tables})


def _kept_by_mysql(loading: mysql_load.MysqlLoad) -> Target:
    return Target(loading.shapes, nul=True, infinity=False, references=False, same=loading.same)


def _find(file: Path, part: DatabasePart, keeps: Target) -> list[Refused]:
    with sqlite_file.reading(file) as connection:
        return portability.find(connection, [shape.of_sqlite(connection, table.name) for table in part.tables], keeps)


def _shortened(part: DatabasePart, file: Path, keeps: Target, found: Sequence[Refused]) -> dict[str, tuple[int, str]]:
    """Shorten the free texts in the file; the digests that its tables have then."""
    tables = {item.table for item in found if item.free}
    if not tables:
        return part.digests()
    with sqlite_file.translated(file), contextlib.closing(sqlite3.connect(file)) as connection:
        portability.shorten(connection, found, keeps)
    uri = sqlite.uri_for(file)
    now = sqlite.digests(Database(uri, "sqlite", "pysqlite", uri, file))
    return {name: now[name] if name in tables else digest for name, digest in part.digests().items()}


def _fit(
    part: DatabasePart, file: Path, keeps: Target, target: Database, *, shorten: bool
) -> dict[str, tuple[int, str]]:
    """The digests of the file's tables, whose values all fit. Raises ConfigurationError where some do not."""
    found = _find(file, part, keeps)
    if refused := [item for item in found if not (shorten and item.free)]:
        raise portability.refusal(refused, target.shown)
    return _shortened(part, file, keeps, found)


def _into_sqlite(part: DatabasePart, objects: BlobSource, target: Database) -> None:
    """A file made aside, complete, then moved to its place."""
    target_file = sqlite_file.file_of(target)
    with storage_errors(target_file.parent):
        target_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with workplace(target_file.parent) as folder:
        new = folder / "new.sqlite"
        if part.dialect == "sqlite":
            sqlite.assemble(part, objects, new)
        else:
            _new_file(part, objects, new)
        sqlite_file.publish(new, target_file)


def _new_file(part: DatabasePart, objects: BlobSource, file: Path) -> None:
    sqlite.create(file, part.revision)
    with sqlite_file.translated(file), contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table in part.tables:
            connection.execute(f"DELETE FROM {quoted(table.name)}")  # noqa: S608 - migrations write rows too
            kinds = shape.of_sqlite(connection, table.name)
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT INTO {quoted(table.name)} ({listed(table.columns)}) VALUES ({marks})"  # noqa: S608
            try:
                for block in _blocks(table, kinds, objects):
                    connection.executemany(insert, block)
            except (OverflowError, sqlite3.IntegrityError) as error:
                raise DamagedError(
                    f"the snapshot's table {table.name} has a row that no database keeps: {error}", _ANOTHER
                ) from None
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = FULL")
    sqlite_file.flush(file)


def _blocks(table: TablePart, target: TableColumns, objects: BlobSource) -> Iterator[Sequence[tuple[Any, ...]]]:
    kinds = {column.name: column.kind for column in target.columns}
    if unknown := set(table.columns) ^ set(kinds):
        if not table.objects:
            return iter(())
        raise DamagedError(
            f"the snapshot's table {table.name} differs from its schema in {', '.join(sorted(unknown))}",
            _ANOTHER,
        )
    chunks = (objects.get(sha256) for sha256 in table.objects)
    return copy_text.parse(chunks, [kinds[column] for column in table.columns])


def _into_postgresql(
    part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool
) -> dict[str, tuple[int, str]]:
    with contextlib.ExitStack() as stack:
        digests, file = part.digests(), None
        if part.dialect == "sqlite" or (shorten and _differs(part, objects, target)):
            file = _file(stack, part, objects)
            digests = _fit(part, file, _kept_by_postgresql(file, part), target, shorten=shorten)
        expected = {table.name: table.rows for table in part.tables}
        loading = stack.enter_context(postgresql_load.loading(target, part.revision, expected))
        if file is not None:
            _rows_of_file(file, loading)
        else:
            for table in part.tables:
                chunks = map(objects.get, table.objects)
                columns = table.columns or loading.shapes[table.name].names
                loading.stream(table.name, columns, _without_nul(table.name, chunks))
        loading.finish()
        return digests


def _without_nul(table: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """MySQL keeps this character, and PostgreSQL does not."""
    for chunk in chunks:
        if b"\0" in chunk:
            raise ConfigurationError(
                f"{table} holds the character NUL, which PostgreSQL cannot keep",
                "change or remove that value in the original, and take a new snapshot; or restore into SQLite",
            )
        yield chunk


def _into_mysql(
    part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool
) -> dict[str, tuple[int, str]]:
    with contextlib.ExitStack() as stack:
        file = _file(stack, part, objects) if _differs(part, objects, target) else None
        loading = stack.enter_context(mysql_load.loading(target, part.revision))
        if file is not None:
            digests = _fit(part, file, _kept_by_mysql(loading), target, shorten=shorten)
            _rows_of_file(file, loading)
            return digests
        for table in part.tables:
            loading.rows(table.name, table.columns, _blocks(table, loading.shapes[table.name], objects))
        return part.digests()


def _rows_of_file(file: Path, loading: postgresql_load.PostgresqlLoad | mysql_load.MysqlLoad) -> None:
    with sqlite_file.reading(file) as connection:
        for name, target in loading.shapes.items():
            loading.rows(name, target.names, sqlite.row_blocks(connection, target))
