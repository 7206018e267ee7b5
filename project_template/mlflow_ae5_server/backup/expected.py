"""What must be in the artifact store of this server, whatever is found there: where its volume is not mounted, an empty
folder looks like a server that was never given an artifact."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.backup.external_artifacts import is_inside
from mlflow_ae5_server.common.errors import StorageError
from mlflow_ae5_server.common.text import counted, shown
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.repository.backend import decoded
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

MEANT = "meant-empty.json"
_READY = 2  # a logged model whose files were uploaded, in the table's own numbers
_FEW = 20  # runs or artifacts that may be gone without a word


def refuse_empty(store: Database, destination: str, source: str, previous: Manifest | None) -> None:
    """For a store in which nothing was found. Raises StorageError where there should have been something.

    `previous` is the newest snapshot; one whose manifest is damaged tells nothing.
    """
    expected = []
    if previous is not None and previous.artifacts.files:
        expected.append(f"the snapshot {previous.id} has {counted(previous.artifacts.files, 'artifacts')}")
    if model := model_in(store, destination):
        expected.append(f"the database says that files of {model} are there")
    if found := " and ".join(expected):
        seen = f"there is no artifact at all in {source}, but {found}; no snapshot was made"
        hint = "is its volume mounted? If all of them were removed on purpose, use `backup create --allow-empty`"
        raise StorageError(seen, hint)


def refuse_no_runs(shown_store: str, previous: Manifest | None) -> None:
    """For a database without any run, deleted ones included. Raises StorageError where the newest snapshot has more
    than a few: those of a first try are soon collected."""
    if previous is not None and many_gone(previous.runs, previous.runs):
        raise StorageError(
            f"there is no run at all in {shown_store}, but the snapshot {previous.id} has "
            f"{counted(previous.runs, 'runs')}; no snapshot was made",
            "is it the right database, and whole? If all of them were removed on purpose, use "
            "`backup create --allow-empty`",
        )


def note_meant(repository: Repository, snapshot: Manifest) -> None:
    """Remember that somebody means this snapshot to be without artifacts: the next one may be, too."""
    repository.backend.write(MEANT, json.dumps({"snapshot": snapshot.id}).encode())


def was_meant(repository: Repository, previous: Manifest | None) -> bool:
    """Whether the newest snapshot is one of which that is remembered."""
    if previous is None or previous.artifacts.files:
        return False
    noted = decoded(repository.backend.read(MEANT)) or {}
    return noted.get("snapshot") == previous.id


def many_gone(gone: int, before: int) -> bool:
    """Whether so many of what the snapshot before had, `before` in all, are missing that somebody should look."""
    return gone > _FEW and 2 * gone > before


def model_in(store: Database, destination: str) -> str:
    """A model version or logged model, for people, whose files are below `destination`; empty where there is none."""
    engine = connect_engine(store)
    with (
        engine.connect() as connection,
        engine.connect() as other,
        contextlib.closing(models(connection, other)) as found,
    ):
        return shown(next((who for who, location in found if location and is_inside(location, destination)), ""))


def models(connection: Connection, other: Connection) -> Generator[tuple[str, str], None, None]:
    """Of each model version and logged model that is not deleted: what to call it, and where its files are.

    `other` is for what is asked while an answer still comes in: not every database can do both on one connection.
    """
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())

    def columns(table: str) -> set[str]:
        return {found["name"] for found in inspector.get_columns(table)} if table in present else set()

    def rows(table: str, names: list[str], *where: sa.ColumnElement[bool]) -> Iterator[Any]:
        query: Any = sa.select(*(sa.column(name) for name in names)).select_from(sa.table(table)).where(*where)
        with connection.execution_options(stream_results=True).execute(query) as result:
            yield from result

    if "lifecycle_stage" in columns("logged_models"):
        alive = (sa.column("status") == _READY, sa.column("lifecycle_stage") == "active")
        for model, location in rows("logged_models", ["model_id", "artifact_location"], *alive):
            yield f"the logged model {model}", str(location)
    if not (known := columns("model_versions")):
        return
    location_column = "storage_location" if "storage_location" in known else "source"
    stage: sa.ColumnClause[str] = sa.column("current_stage", sa.String)
    standing = sa.or_(stage.is_(None), stage != "Deleted_Internal")
    for name, version, location, source in rows(
        "model_versions", ["name", "version", location_column, "source"], standing
    ):
        yield f"version {version} of the model {name!r}", _followed(other, str(location or source or ""))


def _followed(connection: Connection, source: str) -> str:
    """Where a source that names a run keeps its files; empty where that leads nowhere. A source that names a model is
    as good as that model, which is looked at by itself."""
    import sqlalchemy as sa

    scheme, _, rest = source.partition(":/")
    if scheme == "models":
        return ""
    if scheme != "runs":
        return source
    query = sa.text("SELECT artifact_uri FROM runs WHERE run_uuid = :run")
    return str(connection.execute(query, {"run": rest.strip("/").partition("/")[0]}).scalar() or "")
