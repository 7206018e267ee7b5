"""Refuse to back up an artifact store or database that has lost its content.

Where the volume is not mounted, an empty folder looks like a server that has never stored an artifact.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from mlflow_ae5_server.backup.external_artifacts import is_inside
from mlflow_ae5_server.common.errors import RepositoryFailed
from mlflow_ae5_server.common.text import counted, shown
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.repository.backend import decoded
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

MEANT = "meant-empty.json"
_READY = 2  # the status, in the database, of a logged model whose files were uploaded
_FEW = 20  # runs or artifacts that may be gone without a warning


def refuse_empty(store: Database, destination: str, source: str, previous: Manifest | None) -> None:
    """Raise RepositoryFailed for an empty store that should have artifacts."""
    expected = []
    if previous is not None and previous.artifacts.files:
        expected.append(f"the snapshot {previous.id} has {counted(previous.artifacts.files, 'artifacts')}")
    if model := model_in(store, destination):
        expected.append(f"the database says that files of {model} are there")
    if expected:
        raise RepositoryFailed(
            f"there are no artifacts in {source}, but {' and '.join(expected)}; no snapshot was made",
            "check that its volume is mounted, or use `backup create --allow-empty` if they were deleted on purpose",
        )


def refuse_no_runs(shown_store: str, previous: Manifest | None) -> None:
    """Raise RepositoryFailed for a database without the many runs of the last snapshot.

    A few may be of first tries, and collected since.
    """
    if previous is not None and many_gone(previous.all_runs, previous.all_runs):
        raise RepositoryFailed(
            f"there are no runs in {shown_store}, but the snapshot {previous.id} has "
            f"{counted(previous.all_runs, 'runs')}; no snapshot was made",
            "check that it is the right database, or use `backup create --allow-empty` if they were deleted on purpose",
        )


def note_meant(repository: Repository, snapshot: Manifest) -> None:
    """Record that a snapshot is meant to have no artifacts, so that the next one may have none, too."""
    repository.backend.write(MEANT, json.dumps({"snapshot": snapshot.id}).encode())


def was_meant(repository: Repository, previous: Manifest | None) -> bool:
    """Whether `note_meant` has recorded the previous snapshot."""
    if previous is None or previous.artifacts.files:
        return False
    noted = decoded(repository.backend.read(MEANT)) or {}
    return noted.get("snapshot") == previous.id


def many_gone(gone: int, before: int) -> bool:
    """Whether so many are gone that an administrator should be warned."""
    return gone > _FEW and 2 * gone > before


def model_in(store: Database, destination: str) -> str:
    """The name of a model with files below `destination`; empty for none."""
    engine = connect_engine(store)
    with (
        engine.connect() as connection,
        engine.connect() as other,
        contextlib.closing(models(connection, other)) as each,
    ):
        return shown(next((name for name, location in each if location and is_inside(location, destination)), ""))


def models(connection: Connection, other: Connection) -> Generator[tuple[str, str], None, None]:
    """Name and location of each model version and logged model not deleted.

    `other` is for queries while rows still arrive: not every database can do both on one connection.
    """
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())

    def columns(table: str) -> set[str]:
        return {column["name"] for column in inspector.get_columns(table)} if table in present else set()

    def rows(table: str, names: list[str], *where: sa.ColumnElement[bool]) -> Iterator[Any]:
        query: Any = sa.select(*(sa.column(name) for name in names)).select_from(sa.table(table)).where(*where)
        with connection.execution_options(stream_results=True).execute(query) as result:
            yield from result

    if "lifecycle_stage" in columns("logged_models"):
        alive = (sa.column("status") == _READY, sa.column("lifecycle_stage") == "active")
        for model, location in rows("logged_models", ["model_id", "artifact_location"], *alive):
            yield f"the logged model {model}", str(location)
    if not (present_columns := columns("model_versions")):
        return
    location_column = "storage_location" if "storage_location" in present_columns else "source"
    stage: sa.ColumnClause[str] = sa.column("current_stage", sa.String)
    alive_versions = sa.or_(stage.is_(None), stage != "Deleted_Internal")
    names = ["name", "version", location_column, "source"]
    for name, version, location, source in rows("model_versions", names, alive_versions):
        yield f"version {version} of the model {name!r}", _resolved(other, str(location or source or ""))


def _resolved(connection: Connection, source: str) -> str:
    """The location of a source, or of the run that it names.

    Empty for a run that does not exist, and for a model, which is examined by itself.
    """
    import sqlalchemy as sa

    scheme, _, rest = source.partition(":/")
    if scheme == "models":
        return ""
    if scheme != "runs":
        return source
    query = sa.text("SELECT artifact_uri FROM runs WHERE run_uuid = :run")
    return str(connection.execute(query, {"run": rest.strip("/").partition("/")[0]}).scalar() or "")
