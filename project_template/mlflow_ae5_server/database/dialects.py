"""The database of a snapshot: dumped under the running server, proven table by table, loaded into any dialect.

    dump(database, objects)          one consistent state, into objects
    load(part, objects, target)      into an empty target: all or nothing
    refused(part, objects, target)   values that another kind of database cannot keep
    digests(target)                  rows and canonical digest per table: equal where the data is
    state(target)                    empty, ours, or foreign
    save_copy / bring_back / drop_saved / kept
    complete                         what a move that was cut off still owes
    require_free / settle            whether it can be moved now
    scratch(target)                  an empty database beside the real one, removed afterwards
    in_use(target)                   whether a server works on it

SQLite and PostgreSQL (psycopg 3) are tested against the real thing; MySQL against MariaDB, where the machine has one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.database import load as loading
from mlflow_ae5_server.database import mysql, portability, postgresql, saved_copy, sqlite
from mlflow_ae5_server.database.checks import Database
from mlflow_ae5_server.database.portability import Refused
from mlflow_ae5_server.database.records import DatabasePart, DatabaseState, TablePart
from mlflow_ae5_server.repository.interfaces import BlobSink, BlobSource
from mlflow_ae5_server.server import presence

__all__ = [
    "DatabasePart",
    "DatabaseState",
    "Refused",
    "TablePart",
    "bring_back",
    "complete",
    "digests",
    "drop_saved",
    "dump",
    "expected",
    "in_use",
    "kept",
    "load",
    "refusal",
    "refused",
    "require_free",
    "require_sound",
    "save_copy",
    "scratch",
    "settle",
    "state",
]


def dump(database: Database, objects: BlobSink) -> DatabasePart:
    """Everything MLflow keeps in `database`, in one consistent state, while its server goes on.

    Raises UnreachableError, CredentialsError, SchemaError, StorageError, DamagedError.
    """
    if database.dialect == "sqlite":
        return sqlite.dump(database, objects)
    if database.dialect == "postgresql":
        return postgresql.dump(database, objects)
    if database.dialect == "mysql":
        return mysql.dump(database, objects)
    raise _unsupported(database)


def load(
    part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool = False
) -> dict[str, tuple[int, str]]:
    """Put the rows of `part` into the empty `target`: all, or nothing. The schema becomes the one of `part.revision`.

    Returns rows and digest per table, as they must be in `target` now. shorten: shorten free text that does not fit.

    Raises NotEmptyError, SchemaError (a newer schema than the installed MLflow's) and ConfigurationError (something
    `target` cannot hold) before anything is written; DamagedError, UnreachableError, CredentialsError, StorageError.
    """
    loading.check(part)
    loading.require_empty(target, state(target))
    return loading.load(part, objects, target, shorten=shorten)


def refused(part: DatabasePart, objects: BlobSource, target: Database) -> list[Refused]:
    """Every value of `part` that the kind of database which `target` is cannot keep. Changes nothing in `target`."""
    loading.check(part)
    return loading.refused(part, objects, target)


def require_sound(part: DatabasePart, objects: BlobSource) -> None:
    """Raises DamagedError where the rows in `objects` are not those that `part` describes; StorageError, where there is
    no room to look at them."""
    loading.check(part)
    loading.require_sound(part, objects)


def expected(part: DatabasePart, objects: BlobSource, target: Database, *, shorten: bool) -> dict[str, tuple[int, str]]:
    """Rows and digest per table that a load of `part` leaves in `target`."""
    return loading.expected(part, objects, target, shorten=shorten)


def refusal(found: Sequence[Refused], target: Database) -> ConfigurationError:
    """What to say of them."""
    return portability.refusal(found, target.shown)


def digests(target: Database) -> dict[str, tuple[int, str]]:
    """Rows and canonical digest of each of MLflow's tables; compare with `DatabasePart.digests()`."""
    if target.dialect == "sqlite":
        return sqlite.digests(target)
    if target.dialect == "postgresql":
        return postgresql.digests(target)
    if target.dialect == "mysql":
        return mysql.digests(target)
    raise _unsupported(target)


def state(target: Database) -> DatabaseState:
    """What `target` holds. A SQLite file that does not exist is empty."""
    if target.dialect == "sqlite":
        return sqlite.state(target)
    if target.dialect == "postgresql":
        return postgresql.state(target)
    if target.dialect == "mysql":
        return mysql.state(target)
    raise _unsupported(target)


def save_copy(target: Database, name: str) -> None:
    """Move what `target` holds out of the way, in one step, under `name` (at most 40 letters, digits, - and _).

    A SQLite file that is not there is not kept, and cannot be brought back.

    Raises NotEmptyError (the name is taken), InUseError, CredentialsError.
    """
    saved_copy.save_copy(target, name)


def bring_back(target: Database, name: str) -> None:
    """Put what was kept as `name` back into its place, in one step; what `target` holds now is removed."""
    saved_copy.bring_back(target, name)


def require_free(target: Database) -> None:
    """That nobody holds a lock which `save_copy` would find. Raises InUseError. Changes nothing."""
    saved_copy.require_free(target)


def settle(target: Database) -> None:
    """What `save_copy` and `bring_back` do first: a SQLite file whose changes are all in it. Raises InUseError."""
    saved_copy.settle(target)


def complete(target: Database) -> None:
    """Make good what a process left undone that was killed right after it had moved tables. Call it in the end."""
    saved_copy.complete(target)


def drop_saved(target: Database, name: str) -> None:
    """Remove for good what was kept as `name`. Nothing happens where there is none."""
    saved_copy.drop_saved(target, name)


def kept(target: Database) -> tuple[str, ...]:
    """The names of what is kept aside."""
    return saved_copy.kept(target)


@contextlib.contextmanager
def scratch(target: Database) -> Iterator[Database]:
    """An empty database of the same kind beside `target`, removed afterwards; and what a killed run left of one."""
    with saved_copy.scratch(target) as database:
        yield database


def in_use(target: Database) -> str | None:
    """Who serves on `target`, in words for a person; None where nobody does. The mark is `presence.serving`."""
    return presence.in_use(target)


def _unsupported(database: Database) -> ConfigurationError:
    return ConfigurationError(
        f"snapshots of {database.dialect} databases are not supported", "use SQLite, PostgreSQL or MySQL"
    )
