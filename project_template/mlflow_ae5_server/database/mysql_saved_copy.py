"""Saved copies of a MySQL database, and scratch databases next to it.

A database is to MySQL what a schema is to PostgreSQL. One RENAME TABLE moves all tables from one to another, with
their keys and numbering, or none, also in a crash (InnoDB of MySQL 8 and MariaDB 10.6). Views of MLflow's tables stay,
and read whatever tables have those names.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.errors import Configuration, LoginFailed, TargetNotEmpty
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.locks import STAY
from mlflow_ae5_server.database.mysql import DENIED, connected, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

SAVED = "mlflow_ae5_saved_"  # begins the name of every saved copy
SCRATCH = "mlflow_ae5_scratch_"
_NOTE = "mlflow_ae5_triggers"  # the table of those to be created again
_LOCK_WAIT = 10  # seconds


def save_copy(target: Database, name: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with _altering(target) as connection:
        copy = _prefix(connection) + name
        if _tables(connection, copy):
            raise TargetNotEmpty(f"{target.shown} has a saved copy {name} already", "use another name")
        here = _here(connection)
        if tables := _tables(connection, here):
            _create(connection, copy)
            try:
                _move(connection, [(here, table, copy) for table in tables])
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):
                    _drop_empty(connection, copy)
                raise


def bring_back(target: Database, name: str) -> None:
    with _altering(target) as connection, _scratch_database(connection) as discarded:
        here, copy = _here(connection), _prefix(connection) + name
        tables = _tables(connection, copy)
        if not tables:
            raise Configuration(f"{target.shown} has no saved copy {name}", "see `restore --list-saved`")
        away = [(here, table, discarded) for table in _tables(connection, here)]
        _move(connection, [*away, *((copy, table, here) for table in tables)])
        _drop(connection, copy)


def drop_saved(target: Database, name: str) -> None:
    with _altering(target) as connection:
        _drop(connection, _prefix(connection) + name)


def saved_names(target: Database) -> tuple[str, ...]:
    """An empty database is left over from a killed process, and no saved copy."""
    with connected(target) as connection:
        start = _prefix(connection)
        return tuple(sorted(n.removeprefix(start) for n in _databases(connection, start) if _tables(connection, n)))


@contextlib.contextmanager
def scratch(target: Database) -> Iterator[Database]:
    with _altering(target) as connection, _scratch_database(connection) as name:
        yield _within(target, name)


def move_in(scratch_database: Database, target: Database, tables: Iterable[str]) -> None:
    """Move these tables from a scratch database into `target`."""
    with connected(scratch_database) as connection:
        here = _here(connection)
    with _altering(target) as connection:
        there = _here(connection)
        _move(connection, [(here, table, there) for table in sorted(tables)])


def complete(target: Database) -> None:
    """Create the triggers that a process which was killed after it had moved tables has left out."""
    with _altering(target) as connection:
        _create_triggers(connection, _here(connection))


def require_right(target: Database) -> None:
    """Raise LoginFailed where the user may not create databases. Only creating one can tell."""
    with _altering(target) as connection, _scratch_database(connection):
        pass


@contextlib.contextmanager
def _scratch_database(connection: Connection) -> Iterator[str]:
    """An empty database, dropped afterwards. Also drops those of processes that are gone."""
    name = SCRATCH + secrets.token_hex(8)
    # The lock shows the others that the database is not left over from a killed process.
    _ask(connection, "SELECT GET_LOCK(%s, 0)", name)
    for old in _databases(connection, SCRATCH):
        if _ask(connection, "SELECT GET_LOCK(%s, 0)", old) == [1] and old != name:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted(old)}")
            _ask(connection, "SELECT RELEASE_LOCK(%s)", old)
    _create(connection, name)
    try:
        yield name
    finally:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted(name)}")


@contextlib.contextmanager
def _altering(target: Database) -> Iterator[Connection]:
    """A connection that stays open, and gives up after a while when another one locks a table."""
    with connected(target) as connection:
        connection.exec_driver_sql(STAY)
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_LOCK_WAIT}, foreign_key_checks = 0")
        yield connection


def _create(connection: Connection, name: str) -> None:
    """With the character set of the current database, so that tables created in it are as MLflow creates them."""
    from sqlalchemy.exc import DBAPIError

    ((charset, collation),) = connection.exec_driver_sql(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        "WHERE schema_name = DATABASE()"
    ).all()
    try:
        connection.exec_driver_sql(
            f"CREATE DATABASE IF NOT EXISTS {quoted(name)} CHARACTER SET {charset} COLLATE {collation}"
        )
    except DBAPIError as error:
        if getattr(error.orig, "args", (0,))[0] not in DENIED:
            raise
        (user,) = _ask(connection, "SELECT CURRENT_USER()")
        raise LoginFailed(
            f"the user {user} cannot create a database next to {_here(connection)}, for loading tables and for saved "
            "copies",
            r"GRANT ALL PRIVILEGES ON `mlflow\_ae5\_%`.* to this user",
        ) from None


def _move(connection: Connection, moves: Sequence[tuple[str, str, str]]) -> None:
    """Move tables (from, table, to) in one step; those from one database all go to the same one.

    A table with a trigger cannot move. So triggers are noted in a table that moves with the others, dropped, and
    created again.
    """
    from sqlalchemy.exc import SQLAlchemyError

    targets = {a: b for a, _table, b in moves}
    for database in targets.values():
        _create_triggers(connection, database)
    noted = [(a, _NOTE, b) for a, b in targets.items() if _note_triggers(connection, a)]
    parts = (f"{quoted(a)}.{quoted(table)} TO {quoted(b)}.{quoted(table)}" for a, table, b in [*moves, *noted])
    try:
        connection.exec_driver_sql(f"RENAME TABLE {', '.join(parts)}")
    except BaseException:
        with contextlib.suppress(SQLAlchemyError):
            for database in targets:
                _create_triggers(connection, database)
        raise
    for database in targets.values():
        _create_triggers(connection, database)


def _note_triggers(connection: Connection, database: str) -> bool:
    """Note the triggers of MLflow's tables and drop them. Whether any are noted."""
    note = f"{quoted(database)}.{quoted(_NOTE)}"
    if triggers := _triggers(connection, database):
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {note} (name VARCHAR(64) PRIMARY KEY, about VARCHAR(64), text LONGTEXT)"
        )
        for name, (table, text) in triggers.items():
            connection.exec_driver_sql(f"REPLACE INTO {note} VALUES (%s, %s, %s)", (name, table, text))  # noqa: S608
        connection.commit()
        for name in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(database)}.{quoted(name)}")
    return _is_noted(connection, database)


def _create_triggers(connection: Connection, database: str) -> None:
    """Create the noted triggers, and drop the notes."""
    if not _is_noted(connection, database):
        return
    note, there, tables = (
        f"{quoted(database)}.{quoted(_NOTE)}",
        _triggers(connection, database),
        _tables(connection, database),
    )
    noted = connection.exec_driver_sql(f"SELECT name, about, text FROM {note}").all()  # noqa: S608
    with _inside(connection, database):
        for name, table, text in noted:
            if name not in there and table in tables:
                connection.exec_driver_sql(f"CREATE TRIGGER {quoted(name)} {text}".replace("%", "%%"))
    connection.exec_driver_sql(f"DROP TABLE {note}")


@contextlib.contextmanager
def _inside(connection: Connection, database: str) -> Iterator[None]:
    """Make `database` the current one: a trigger keeps the name of its table as given, here without the database."""
    here = _here(connection)
    connection.exec_driver_sql(f"USE {quoted(database)}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"USE {quoted(here)}")


def _is_noted(connection: Connection, database: str) -> bool:
    query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    return bool(_ask(connection, query, database, _NOTE))


def _triggers(connection: Connection, database: str) -> dict[str, tuple[str, str]]:
    """name: (table, what follows the name in the statement that creates it)."""
    rows = connection.exec_driver_sql(
        "SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement "
        "FROM information_schema.triggers WHERE trigger_schema = %s",
        (database,),
    ).all()
    return {
        name: (table, f"{timing} {event} ON {quoted(table)} FOR EACH ROW {body}")
        for name, table, timing, event, body in rows
        if table in schema.all_tables()
    }


def _drop(connection: Connection, name: str) -> None:
    """Drop MLflow's tables in that database, and the database where nothing else is in it."""
    if tables := [*_tables(connection, name), *([_NOTE] if _is_noted(connection, name) else [])]:
        every = ", ".join(f"{quoted(name)}.{quoted(table)}" for table in tables)
        connection.exec_driver_sql(f"DROP TABLE {every}")
    _drop_empty(connection, name)


def _drop_empty(connection: Connection, name: str) -> None:
    if not _ask(connection, "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", name):
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted(name)}")


def _prefix(connection: Connection) -> str:
    """The prefix of the saved copies of the current database: other databases of the server have their own."""
    return f"{SAVED}{hashlib.sha256(_here(connection).encode()).hexdigest()[:6]}_"


def _here(connection: Connection) -> str:
    return str(_ask(connection, "SELECT DATABASE()")[0])


def _databases(connection: Connection, start: str) -> list[str]:
    names = _ask(connection, "SELECT schema_name FROM information_schema.schemata")
    return [str(name) for name in names if str(name).startswith(start)]


def _tables(connection: Connection, where: str) -> list[str]:
    """MLflow's tables in a database."""
    query = "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = %s"
    return sorted(str(name) for name in _ask(connection, query, where) if name in schema.all_tables())


def _ask(connection: Connection, query: str, *values: str) -> list[object]:
    """The first column."""
    return [row[0] for row in connection.exec_driver_sql(query, values).all()]


def _within(target: Database, name: str) -> Database:
    from sqlalchemy.engine import make_url

    url = make_url(target.uri).set(database=name)
    shown = f"{target.shown} (database {name})"
    return replace(target, uri=url.render_as_string(hide_password=False), shown=shown)
