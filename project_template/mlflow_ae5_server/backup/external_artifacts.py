"""Find artifacts outside the store of this server: no snapshot has them."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.folders import local_folder, real
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.database.connection import Database, connect_engine

if TYPE_CHECKING:
    from sqlalchemy import Select

# Tables and the column with a location; some do not exist in older schemas.
_LOCATIONS: tuple[tuple[str, str], ...] = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")  # of traces: tags with locations
_INSIDE = ("mlflow-artifacts:", "runs:", "models:")  # through this server, or references to what is examined itself
PLACEHOLDERS = ("dummy-source", "prompt-template")  # instead of the source of a prompt, which has no files
_MAX_ROOTS = 50  # reported


def find(store: Database, destination: str) -> tuple[list[str], int]:
    """Roots of artifacts that are not below `destination`; number of running runs."""
    from sqlalchemy import inspect, text

    engine = connect_engine(store)
    roots: dict[str, None] = {}
    with engine.connect() as connection:
        inspector = inspect(connection)
        present = set(inspector.get_table_names())
        for table, column in _LOCATIONS:
            if table in present and column in {found["name"] for found in inspector.get_columns(table)}:
                rows = connection.execution_options(stream_results=True).execute(foreign(table, column))
                for location in (str(row[0]) for row in rows):
                    if len(roots) < _MAX_ROOTS and not is_inside(location, destination):
                        roots.setdefault(_root(location))
        query = "SELECT count(*) FROM runs WHERE status = 'RUNNING'"
        if "lifecycle_stage" in {found["name"] for found in inspector.get_columns("runs")}:
            query += " AND lifecycle_stage = 'active'"  # a deleted run keeps its status
        running = connection.execute(text(query)).scalar()
    return [shown(scrub(root)) for root in roots], int(running or 0)


def foreign(table: str, column: str) -> Select[str]:
    """Distinct locations, without the perhaps millions with this server's prefix."""
    import sqlalchemy as sa  # `select` quotes names that some databases reserve, such as `key`

    location_column: sa.ColumnClause[str] = sa.column(column, sa.String)
    query = (
        sa.select(location_column)
        .distinct()
        .select_from(sa.table(table))
        .where(
            location_column.is_not(None),
            location_column != "",
            location_column.not_like("mlflow-artifacts:%"),
            location_column.not_in(PLACEHOLDERS),
        )
    )
    if table == "trace_tags":
        query = query.where(sa.column("key", sa.String).in_(_TAGS))
    return query


def is_inside(location: str, destination: str) -> bool:
    """Whether `location` is in `destination`, or leads through the server itself."""
    if location.lower().startswith(_INSIDE):
        return True
    try:
        folder, store = local_folder(location), local_folder(destination)
        if folder is not None and store is not None:
            return real(folder).is_relative_to(real(store))
    except (Configuration, ValueError):  # on another machine, or no path at all
        return False
    if folder is not None or store is not None:
        return False
    inner, outer = (posixpath.normpath(url).rstrip("/") for url in (location, destination))
    return inner == outer or inner.startswith(outer + "/")


def refuse_overlap(destination: str, backups: str) -> None:
    """Raise Configuration for backups among the artifacts, or the reverse."""
    if is_inside(backups, destination) or is_inside(destination, backups):
        raise Configuration(
            f"the backups in {scrub(backups)} and the artifacts in {scrub(destination)} overlap",
            "use a MLFLOW_TRACKING_BACKUP_DESTINATION outside the artifacts, best on another volume",
        )


def _root(location: str) -> str:
    """Without the part for one run: `s3://bucket/1` of `s3://bucket/1/<id>/artifacts`."""
    own_part = r"/(?:traces/[^/]+|models/[^/]+|[0-9a-f]{32})(?:/artifacts)?(?:/.*)?\Z"
    return re.sub(own_part, "", location.rstrip("/")) or "/"
