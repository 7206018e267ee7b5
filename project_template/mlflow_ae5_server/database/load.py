"""Load a snapshot of any dialect into an empty database of any dialect.

Rows for another dialect go through a SQLite file of the snapshot, in which portability.py finds the values that the
target refuses.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import (
    ANOTHER_SNAPSHOT,
    Configuration,
    RepositoryFailed,
    SchemaMismatch,
    SnapshotDamaged,
    TargetNotEmpty,
)
from mlflow_ae5_server.common.progress import Phase, reported
from mlflow_ae5_server.common.report import warn
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.common.work_folder import work_folder
from mlflow_ae5_server.database import (
    copy_text,
    dump,
    mysql_load,
    portability,
    postgresql_load,
    schema,
    sqlite,
    sqlite_file,
    sqlite_load,
)
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart, Digests
from mlflow_ae5_server.database.portability import Refused, Target
from mlflow_ae5_server.repository.blob_types import BlobSource


def _require_supported(part: DatabasePart) -> None:
    """Raise SchemaMismatch or SnapshotDamaged unless the schema can be created here."""
    schema.require_supported(part.revision, "the snapshot")
    if strange := {table.name for table in part.tables} ^ schema.own_tables(part.revision):
        raise SnapshotDamaged(
            f"the snapshot's tables are not those of revision {part.revision}: {', '.join(sorted(strange))}",
            ANOTHER_SNAPSHOT,
        )


def _require_empty(target: Database) -> None:
    """Raise TargetNotEmpty where `target` holds tables of MLflow's."""
    state = dump.state(target)
    if state.kind != "empty":
        tables = ", ".join((state.tables or state.others)[:5])
        raise TargetNotEmpty(
            f"{target.shown} is not empty: it holds {tables} ({counted(state.rows, 'rows')})",
            "restore into an empty database, or use `restore --replace`, which keeps a saved copy",
        )


def load(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool = False) -> Digests:
    """Load the rows of `part` into the empty `target`: all or nothing.

    Returns the digests that `target` has afterwards. shorten: shorten free text that does not fit.

    Raises TargetNotEmpty, SchemaMismatch (a newer schema than the installed MLflow's) and Configuration (something
    `target` cannot hold) before anything is written; SnapshotDamaged, Unreachable, LoginFailed, RepositoryFailed.
    """
    _require_supported(part)
    _require_empty(target)
    written = sum(table.rows for table in part.tables)
    with progress.phase("load-database", "rows", written) as phase:
        match target.dialect:
            case "sqlite":
                sqlite_load.load(part, objects, target)
                phase.was(written)
                return part.digests()
            case "postgresql":
                return _into_postgresql(part, objects, target, phase, shorten=shorten)
            case "mysql":
                return _into_mysql(part, objects, target, phase, shorten=shorten)
    raise Configuration(f"a snapshot cannot be loaded into {target.dialect}", "use another database")


def _into_postgresql(
    part: DatabasePart, objects: BlobSource, target: Database, phase: Phase, *, shorten: bool
) -> Digests:
    with contextlib.ExitStack() as stack:
        digests, file = part.digests(), None
        if part.dialect == "sqlite" or (shorten and _may_be_refused(part, objects, target)):
            file = _as_file(stack, part, objects)
            digests = _fit(part, file, _postgresql_target(file, part), target, shorten=shorten)
        rows = {table.name: table.rows for table in part.tables}
        loading = stack.enter_context(postgresql_load.loading(target, part.revision, rows))
        if file is not None:
            _load_file(file, loading, phase)
        else:
            for table in part.tables:
                columns = table.columns or loading.shapes[table.name].names
                chunks = _without_nul(table.name, map(objects.get, table.objects))
                loading.stream(table.name, columns, reported(chunks, phase.advance, _rows_in))
        loading.finish()
        return digests


def _without_nul(table: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """MySQL stores this character, and PostgreSQL does not."""
    for chunk in chunks:
        if b"\0" in chunk:
            raise Configuration(
                f"{table} holds the character NUL, which PostgreSQL cannot store",
                "change or remove that value in the original, and take a new snapshot; or restore into SQLite",
            )
        yield chunk


def _into_mysql(part: DatabasePart, objects: BlobSource, target: Database, phase: Phase, *, shorten: bool) -> Digests:
    with contextlib.ExitStack() as stack:
        file = _as_file(stack, part, objects) if _may_be_refused(part, objects, target) else None
        loading = stack.enter_context(mysql_load.loading(target, part.revision))
        if file is not None:
            digests = _fit(part, file, _mysql_target(loading), target, shorten=shorten)
            _load_file(file, loading, phase)
            return digests
        for table in part.tables:
            blocks = copy_text.read_table(table, loading.shapes[table.name], objects)
            loading.rows(table.name, table.columns, reported(blocks, phase.advance))
        return part.digests()


def _rows_in(chunk: bytes) -> int:
    return chunk.count(b"\n")  # of COPY text, which has no other


def _load_file(file: Path, loading: postgresql_load.PostgresqlLoad | mysql_load.MysqlLoad, phase: Phase) -> None:
    with sqlite_file.reading(file) as connection:
        for name, columns in loading.shapes.items():
            loading.rows(name, columns.names, reported(sqlite_load.row_blocks(connection, columns), phase.advance))


def expected(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool) -> Digests:
    """The digests that `load` would return."""
    with contextlib.ExitStack() as stack:
        if not shorten or not _may_be_refused(part, objects, target):
            return part.digests()
        file = _as_file(stack, part, objects)
        accepted = _target(stack, part, file, target)
        return _shortened(part, file, accepted, _find(file, part, accepted))


def refused(part: DatabasePart, objects: BlobSource, target: Database) -> list[Refused]:
    """Every value of the snapshot that `target` refuses.

    Raises SnapshotDamaged where the snapshot's rows are not those of its manifest.
    """
    _require_supported(part)
    with contextlib.ExitStack() as stack:
        differs = _may_be_refused(part, objects, target)
        try:
            file = _as_file(stack, part, objects, _writable_folder_of(target))
            _require_described(part, file)
        except RepositoryFailed as error:
            if differs or target.dialect == "sqlite":
                raise
            # The target may have the room that this machine has not.
            warn(f"the snapshot's rows could not be checked before loading: {error.message}")
            return []
        return _find(file, part, _target(stack, part, file, target)) if differs else []


def require_sound(part: DatabasePart, objects: BlobSource) -> None:
    """Raise SnapshotDamaged where the snapshot's rows are not those of its manifest."""
    _require_supported(part)
    with contextlib.ExitStack() as stack:
        _require_described(part, _as_file(stack, part, objects))


def _writable_folder_of(target: Database) -> Path | None:
    """The nearest folder to a SQLite file, which has room; None for others."""
    folder = target.file.parent if target.file is not None else None
    while folder is not None and not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder if folder is not None and os.access(folder, os.W_OK | os.X_OK) else None


def _require_described(part: DatabasePart, file: Path) -> None:
    """Raise SnapshotDamaged where the tables are not as the manifest describes them."""
    try:
        digests = _digests(file)
        with sqlite_file.reading(file) as connection:
            query = "SELECT count(*) FROM pragma_foreign_key_check"
            dangling = part.dialect == "postgresql" and connection.execute(query).fetchone()[0]
    except (Configuration, SchemaMismatch) as error:
        raise SnapshotDamaged(f"the snapshot's database cannot be read: {error.message}", ANOTHER_SNAPSHOT) from None
    for name, (rows, digest) in sorted(part.digests().items()):
        if digests[name] != (rows, digest):
            raise SnapshotDamaged(
                f"the snapshot's table {name} has {counted(digests[name][0], 'rows')} that differ from the {rows} of "
                "its manifest",
                ANOTHER_SNAPSHOT,
            )
    if dangling:
        raise SnapshotDamaged(
            f"the snapshot's database refers to {counted(dangling, 'missing rows')}", ANOTHER_SNAPSHOT
        )


def _digests(file: Path) -> Digests:
    return sqlite.digests(Database(sqlite.uri_for(file), "sqlite", "pysqlite", "the snapshot's database", file))


def _may_be_refused(part: DatabasePart, objects: BlobSource, target: Database) -> bool:
    """Whether `target` may refuse rows.

    Of MySQL's values PostgreSQL refuses only NUL.
    """
    if target.dialect in {"sqlite", part.dialect}:
        return False
    if (part.dialect, target.dialect) == ("mysql", "postgresql"):
        return any(b"\0" in objects.get(sha256) for table in part.tables for sha256 in table.objects)
    return True


def _as_file(stack: contextlib.ExitStack, part: DatabasePart, objects: BlobSource, parent: Path | None = None) -> Path:
    """The snapshot's database as a temporary SQLite file."""
    file = stack.enter_context(work_folder(parent)) / "source.sqlite"
    sqlite_load.write_file(part, objects, file)
    return file


def _target(stack: contextlib.ExitStack, part: DatabasePart, file: Path, target: Database) -> Target:
    if target.dialect == "mysql":
        return _mysql_target(stack.enter_context(mysql_load.loading(target, part.revision, dry_run=True)))
    return _postgresql_target(file, part)


def _postgresql_target(file: Path, part: DatabasePart) -> Target:
    """MLflow declares the same types there as in SQLite."""
    with sqlite_file.reading(file) as connection:
        return Target({table.name: sqlite.columns_of(connection, table.name) for table in part.tables})


def _mysql_target(loading: mysql_load.MysqlLoad) -> Target:
    return Target(loading.shapes, nul=True, infinity=False, references=False, same=loading.same)


def _find(file: Path, part: DatabasePart, accepted: Target) -> list[Refused]:
    with sqlite_file.reading(file) as connection:
        tables = [sqlite.columns_of(connection, table.name) for table in part.tables]
        return portability.find(connection, tables, accepted)


def _fit(part: DatabasePart, file: Path, accepted: Target, target: Database, *, shorten: bool) -> Digests:
    """The digests of the file's tables. Raises Configuration for refused values."""
    found = _find(file, part, accepted)
    if remaining := [item for item in found if not (shorten and item.free)]:
        raise portability.refusal(remaining, target.shown)
    return _shortened(part, file, accepted, found)


def _shortened(part: DatabasePart, file: Path, accepted: Target, found: Sequence[Refused]) -> Digests:
    """Shorten the free texts in the file. Returns its digests afterwards."""
    tables = {item.table for item in found if item.free}
    if not tables:
        return part.digests()
    with sqlite_file.translated(file), contextlib.closing(sqlite3.connect(file)) as connection:
        portability.shorten(connection, found, accepted)
    changed = _digests(file)
    return {name: changed[name] if name in tables else digest for name, digest in part.digests().items()}
