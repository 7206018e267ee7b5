"""Databases beside a MySQL database: what is kept aside, and scratch places.

A database is to MySQL what a schema is to PostgreSQL. One RENAME TABLE moves all tables from one to the other, with
their keys and numbering, or none; InnoDB sees to it that it is so after a crash too (MySQL 8, MariaDB 10.6). Views
beside MLflow's tables stay, and see whatever tables have those names.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.errors import ConfigurationError, CredentialsError, NotEmptyError
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.locks import STAY
from mlflow_ae5_server.database.mysql import DENIED, connected, quoted

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_KEPT = "mlflow_ae5_kept_"
_SCRATCH = "mlflow_ae5_scratch_"
_NOTE = "mlflow_ae5_triggers"  # the table of those that are to be made again
_PATIENCE = 10  # seconds to wait for who holds on to a table


def save_copy(target: Database, name: str) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with _altering(target) as connection:
        kept = _kept(connection) + name
        if _tables(connection, kept):
            raise NotEmptyError(f"{target.shown} already keeps something as {name}", "use another name")
        here = _here(connection)
        if tables := _tables(connection, here):
            _create(connection, kept)
            try:
                _move(connection, [(here, table, kept) for table in tables])
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):
                    _drop_empty(connection, kept)
                raise


def bring_back(target: Database, name: str) -> None:
    with _altering(target) as connection, _scratch_database(connection) as gone:
        here, kept = _here(connection), _kept(connection) + name
        tables = _tables(connection, kept)
        if not tables:
            raise ConfigurationError(f"{target.shown} keeps nothing as {name}", "see what is kept aside")
        away = [(here, table, gone) for table in _tables(connection, here)]
        _move(connection, [*away, *((kept, table, here) for table in tables)])
        _drop(connection, kept)


def drop_saved(target: Database, name: str) -> None:
    with _altering(target) as connection:
        _drop(connection, _kept(connection) + name)


def kept(target: Database) -> tuple[str, ...]:
    """An empty one is what is left of a process that was killed: nothing is kept in it."""
    with connected(target) as connection:
        start = _kept(connection)
        return tuple(sorted(n.removeprefix(start) for n in _databases(connection, start) if _tables(connection, n)))


@contextlib.contextmanager
def scratch(target: Database) -> Iterator[Database]:
    with _altering(target) as connection, _scratch_database(connection) as name:
        yield _within(target, name)


def move_in(scratch_database: Database, target: Database, tables: Iterable[str]) -> None:
    """All of these tables, from a scratch place into `target`."""
    with connected(scratch_database) as connection:
        here = _here(connection)
    with _altering(target) as connection:
        there = _here(connection)
        _move(connection, [(here, table, there) for table in sorted(tables)])


def complete(target: Database) -> None:
    """What a process that was killed after it had moved tables still owed them."""
    with _altering(target) as connection:
        _make_triggers(connection, _here(connection))


def require_right(target: Database) -> None:
    """That the user may make databases. Raises CredentialsError. There is no other way to know than to make one."""
    with _altering(target) as connection, _scratch_database(connection):
        pass


@contextlib.contextmanager
def _scratch_database(connection: Connection) -> Iterator[str]:
    """An empty database, removed afterwards; and those of processes that are gone."""
    name = _SCRATCH + secrets.token_hex(8)
    # This connection's lock tells the others that the database is not left over from a killed process.
    _ask(connection, "SELECT GET_LOCK(%s, 0)", name)
    for old in _databases(connection, _SCRATCH):
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
    """A connection that stays, and gives up when somebody holds on to a table."""
    with connected(target) as connection:
        connection.exec_driver_sql(STAY)
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_PATIENCE}, foreign_key_checks = 0")
        yield connection


def _create(connection: Connection, name: str) -> None:
    """With the character set of the database at hand, so that tables made in it are as MLflow would make them."""
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
        raise CredentialsError(
            f"the user {user} cannot make a database beside {_here(connection)}, in which tables are put together or "
            "kept aside",
            r"GRANT ALL PRIVILEGES ON `mlflow\_ae5\_%`.* to this user",
        ) from None


def _move(connection: Connection, moves: Sequence[tuple[str, str, str]]) -> None:
    """(from, table, to), those from one place all to one place; in one step.

    A table with a trigger does not go to another database. So triggers are written down, taken away, and made again
    where the tables are; what is written down goes with them.
    """
    from sqlalchemy.exc import SQLAlchemyError

    ways = {a: b for a, _table, b in moves}
    for scratch_database in ways.values():
        _make_triggers(connection, scratch_database)
    noted = [(a, _NOTE, b) for a, b in ways.items() if _note_triggers(connection, a)]
    parts = (f"{quoted(a)}.{quoted(table)} TO {quoted(b)}.{quoted(table)}" for a, table, b in [*moves, *noted])
    try:
        connection.exec_driver_sql(f"RENAME TABLE {', '.join(parts)}")
    except BaseException:
        with contextlib.suppress(SQLAlchemyError):
            for scratch_database in ways:
                _make_triggers(connection, scratch_database)
        raise
    for scratch_database in ways.values():
        _make_triggers(connection, scratch_database)


def _note_triggers(connection: Connection, scratch_database: str) -> bool:
    """Write down, and take away, the triggers of MLflow's tables. Whether any are written down."""
    note = f"{quoted(scratch_database)}.{quoted(_NOTE)}"
    if found := _triggers(connection, scratch_database):
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {note} (name VARCHAR(64) PRIMARY KEY, about VARCHAR(64), text LONGTEXT)"
        )
        for name, (table, text) in found.items():
            connection.exec_driver_sql(f"REPLACE INTO {note} VALUES (%s, %s, %s)", (name, table, text))  # noqa: S608
        connection.commit()
        for name in found:
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(scratch_database)}.{quoted(name)}")
    return _is_noted(connection, scratch_database)


def _make_triggers(connection: Connection, scratch_database: str) -> None:
    """Make those that are written down, and forget what is written."""
    if not _is_noted(connection, scratch_database):
        return
    note, there, tables = (
        f"{quoted(scratch_database)}.{quoted(_NOTE)}",
        _triggers(connection, scratch_database),
        _tables(connection, scratch_database),
    )
    noted = connection.exec_driver_sql(f"SELECT name, about, text FROM {note}").all()  # noqa: S608
    with _inside(connection, scratch_database):
        for name, table, text in noted:
            if name not in there and table in tables:
                connection.exec_driver_sql(f"CREATE TRIGGER {quoted(name)} {text}".replace("%", "%%"))
    connection.exec_driver_sql(f"DROP TABLE {note}")


@contextlib.contextmanager
def _inside(connection: Connection, scratch_database: str) -> Iterator[None]:
    """A trigger remembers the name of its table as it was told, and should not remember the database."""
    here = _here(connection)
    connection.exec_driver_sql(f"USE {quoted(scratch_database)}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"USE {quoted(here)}")


def _is_noted(connection: Connection, scratch_database: str) -> bool:
    query = "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s"
    return bool(_ask(connection, query, scratch_database, _NOTE))


def _triggers(connection: Connection, scratch_database: str) -> dict[str, tuple[str, str]]:
    """name: (table, what follows the name in the statement that makes it)."""
    found = connection.exec_driver_sql(
        "SELECT trigger_name, event_object_table, action_timing, event_manipulation, action_statement "
        "FROM information_schema.triggers WHERE trigger_schema = %s",
        (scratch_database,),
    ).all()
    return {
        name: (table, f"{timing} {event} ON {quoted(table)} FOR EACH ROW {body}")
        for name, table, timing, event, body in found
        if table in schema.all_tables()
    }


def _drop(connection: Connection, name: str) -> None:
    """MLflow's tables in that database, and the database where nothing else is in it."""
    if tables := [*_tables(connection, name), *([_NOTE] if _is_noted(connection, name) else [])]:
        every = ", ".join(f"{quoted(name)}.{quoted(table)}" for table in tables)
        connection.exec_driver_sql(f"DROP TABLE {every}")
    _drop_empty(connection, name)


def _drop_empty(connection: Connection, name: str) -> None:
    if not _ask(connection, "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", name):
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {quoted(name)}")


def _kept(connection: Connection) -> str:
    """What the names of all that is kept aside begin with: other databases of the same server keep theirs."""
    return f"{_KEPT}{hashlib.sha256(_here(connection).encode()).hexdigest()[:6]}_"


def _here(connection: Connection) -> str:
    return str(_ask(connection, "SELECT DATABASE()")[0])


def _databases(connection: Connection, start: str) -> list[str]:
    found = _ask(connection, "SELECT schema_name FROM information_schema.schemata")
    return [str(name) for name in found if str(name).startswith(start)]


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
