"""Before a restore touches anything: is the snapshot whole, can the target take it, and is the target free?"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_ae5_server.common.errors import (
    ConfigurationError,
    CredentialsError,
    DamagedError,
    InUseError,
    NotEmptyError,
    ProjectError,
    StorageError,
)
from mlflow_ae5_server.common.folders import local_folder
from mlflow_ae5_server.common.text import amount
from mlflow_ae5_server.database import dialects, mysql_saved_copy, schema
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.dialects import DatabasePart, DatabaseState
from mlflow_ae5_server.repository.check import CheckResult, note, verify
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository
from mlflow_ae5_server.restore.saved_copies import SavedCopies, SavedSize

DIALECTS = ("sqlite", "postgresql", "mysql")
_ROOM = 1.05  # of what a snapshot needs


@dataclass(frozen=True)
class Preflight:
    """What came of looking at a snapshot's objects, and how many seconds that took."""

    verified: CheckResult
    seconds: float

    def require_sound(self, snapshot: Manifest) -> None:
        found = self.verified
        if not found.found:
            return
        named = [f"{entry.get('object') or entry.get('name')}: {entry['what']}" for entry in found.damaged[:3]]
        more = "; and more" if found.found > len(named) else ""
        raise DamagedError(
            f"the snapshot {snapshot.id} is damaged in {found.found} of {found.of_objects} objects: "
            f"{'; '.join(named)}{more}",
            "nothing was touched; choose another one with --snapshot ID, and verify the backups",
        )


def refuse_kind(snapshot: Manifest, part: DatabasePart, store: Database) -> None:
    """Raises SchemaError for a newer schema, ConfigurationError for a database that snapshots cannot go to."""
    schema.require_supported(part.revision, f"the snapshot {snapshot.id}")
    if store.dialect not in DIALECTS:
        raise ConfigurationError(
            f"a snapshot cannot be restored into {store.shown}: it is {store.dialect}",
            f"restore into {' or '.join(DIALECTS)}",
        )


def check(repository: Repository, snapshot: Manifest) -> Preflight:
    """Read every object of a snapshot. What is wrong is in the result, not raised.

    It is read once more when it is restored, also from an object store, where that takes its time: a target that is
    half filled when the damage shows costs more than that.
    """
    started = time.monotonic()
    found = verify(repository, snapshot)
    if found.found:
        with contextlib.suppress(StorageError):  # the backups may be lent for reading only
            note(repository, snapshot, found)
    return Preflight(found, time.monotonic() - started)


# The target


@dataclass(frozen=True)
class TargetState:
    """What is at a target. `user`: who serves on it."""

    user: str | None
    state: DatabaseState
    contents: SavedSize | None

    @property
    def has_database(self) -> bool:
        return self.state.kind != "empty"

    @property
    def occupied(self) -> bool:
        return self.has_database or self.contents is not None


def look(store: Database, path: SavedCopies) -> TargetState:
    state = dialects.state(store)
    if store.dialect == "sqlite" and state.kind == "empty" and state.others:
        # Somebody else's tables: the file is replaced as a whole, and they would go with it.
        state = DatabaseState("foreign", others=state.others)
    return TargetState(dialects.in_use(store), state, path.contents())


def refuse_user(found: TargetState, store: Database) -> None:
    if found.user is not None:
        raise InUseError(
            f"{found.user} works on {store.shown}", "stop the deployment, then run it again; nothing was touched"
        )


def refuse_foreign(found: TargetState, store: Database) -> None:
    """What is no MLflow database that we know is not ours to move, --replace or not."""
    if found.state.kind == "foreign":
        what = f"schema revision {found.state.revision}" if found.state.revision else "no schema that we know"
        names = ", ".join((*found.state.tables, *found.state.others)[:5])
        raise NotEmptyError(
            f"{store.shown} holds something that is not of this MLflow ({what}): {names}",
            "give an empty database, or move that away by hand; --replace does not touch it",
        )


def refuse_occupied(found: TargetState, store: Database, path: SavedCopies) -> None:
    if not found.occupied:
        return
    held = []
    if found.has_database:
        held.append(f"{store.shown} holds {len(found.state.tables)} tables with {found.state.rows} rows")
    if found.contents is not None:
        held.append(f"{path.shown} holds {found.contents}")
    raise NotEmptyError(
        " and ".join(held),
        "restore into an empty place, or with --replace, which keeps all of it aside for --undo",
    )


def refuse_rights(store: Database, destination: str, *, replace: bool) -> None:
    """Raises CredentialsError where the account cannot make what a restore makes."""
    if store.file is not None:
        _require_writable(store.file.parent, "MLFLOW_BACKEND_STORE_URI")
    elif store.dialect == "postgresql":
        _require_create(store, replace=replace)
    elif store.dialect == "mysql":
        mysql_saved_copy.require_right(store)
    if (folder := local_folder(destination)) is not None:
        _require_writable(folder, "MLFLOW_ARTIFACTS_DESTINATION")


def _require_create(store: Database, *, replace: bool) -> None:
    from sqlalchemy import text

    from mlflow_ae5_server.database.connection import connect_engine

    query = (
        "SELECT quote_ident(current_user), quote_ident(current_database()), quote_ident(current_schema()), "
        "has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'CREATE')"
    )
    with connect_engine(store).connect() as connection:
        user, name, path, tables, schemas = connection.execute(text(query)).one()
    if tables is False:  # None: there is no current schema, which is refused elsewhere
        raise CredentialsError(
            f"{user} cannot make tables in {store.shown} (schema {path})",
            f"GRANT CREATE, USAGE ON SCHEMA {path} TO {user}",
        )
    if replace and not schemas:
        raise CredentialsError(
            f"{user} cannot make a schema in {store.shown}, in which --replace would keep the tables aside",
            f"GRANT CREATE ON DATABASE {name} TO {user}, or restore into an empty database",
        )


def _require_writable(folder: Path, setting: str) -> None:
    existing = _existing(folder)
    if not existing.is_dir():
        raise ConfigurationError(f"{existing} is a file, not a folder", f"point {setting} elsewhere")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise CredentialsError(
            f"{existing} is not writable", f"give this account write permission there, or point {setting} elsewhere"
        )


def refuse_tight(
    store: Database, destination: str, snapshot: Manifest, part: DatabasePart, *, artifacts: bool = True
) -> None:
    """Raises StorageError where a disk has no room for the files of the snapshot, or for its database alone."""
    desired: dict[int, tuple[Path, int]] = {}
    for path, size in (
        (local_folder(destination), snapshot.artifacts.bytes if artifacts else 0),
        (store.file.parent if store.file is not None else None, database_size(part)),
    ):
        if path is not None:
            existing = _existing(path)
            device = existing.stat().st_dev
            desired[device] = (existing, desired.get(device, (existing, 0))[1] + int(size * _ROOM))
    for existing, size in desired.values():
        free = shutil.disk_usage(existing).free
        if free < size:
            raise StorageError(
                f"the snapshot {snapshot.id} needs {amount(size)} in {existing}, and {amount(free)} are free",
                "make room there; nothing was touched",
            )


def refuse_nesting(store: Database, destination: str, backups: str) -> None:
    """Neither database nor backups may lie within the artifacts: --replace moves these, and a restore fills them."""
    folder = local_folder(destination)
    if folder is None:
        inner, outer = backups.rstrip("/") + "/", destination.rstrip("/") + "/"
        if inner.startswith(outer):
            raise ConfigurationError(f"the backups {backups} lie within the artifacts", "keep them elsewhere")
        return
    root = os.path.realpath(folder)
    for path, what in ((store.file, "the database"), (local_folder(backups), "the backups")):
        if path is not None and f"{os.path.realpath(path)}/".startswith(f"{root}/"):
            raise ConfigurationError(f"{what} {path} is within the artifacts {folder}", "keep it elsewhere")


def database_size(part: DatabasePart) -> int:
    """About how many bytes the database takes."""
    from mlflow_ae5_server.database import sqlite

    return len(part.file) * sqlite.CHUNK if part.file else part.rows * 200


def estimate(checked: Preflight, snapshot: Manifest, part: DatabasePart) -> float:
    """Seconds a restore would take: reading as fast as it just went, and assumptions on the low side for the rest.

    100 MB/s of writing and reading back, 1,000 files/s; rows, which are looked at before, 10,000/s into tables or 25
    MB/s as a file.
    """
    rows = database_size(part) / 25e6 if part.file else part.rows / 10e3
    return round(2 * checked.seconds + snapshot.artifacts.bytes / 100e6 + snapshot.artifacts.files / 1000 + rows + 1, 1)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    folder = Path(os.path.realpath(folder))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def message(error: ProjectError) -> dict[str, Any]:
    return {"exit_code": error.exit_code, "error": error.message, "hint": error.hint}
