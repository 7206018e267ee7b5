"""Into an empty database of any dialect, from a snapshot of any dialect."""

from __future__ import annotations

from mlflow_ae5_server.database import Database
from mlflow_ae5_server.errors import ConfigurationError
from mlflow_ae5_server.snapshot import dump
from mlflow_ae5_server.snapshot.dump import schema, sqlite
from mlflow_ae5_server.snapshot.dump.records import DatabasePart
from mlflow_ae5_server.snapshot.dump.workplace import storage_errors, workplace
from mlflow_ae5_server.snapshot.objects import ObjectReader


def load(part: DatabasePart, objects: ObjectReader, target: Database) -> None:
    schema.require_known(part.revision, "the snapshot")
    dump.require_empty(target)
    if (part.dialect, target.dialect) == ("sqlite", "sqlite"):
        _file_to_file(part, objects, target)
    else:
        raise ConfigurationError(f"{part.dialect} to {target.dialect} is not supported")


def _file_to_file(part: DatabasePart, objects: ObjectReader, target: Database) -> None:
    place = sqlite.file_of(target)
    with storage_errors(place.parent):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with workplace(place.parent) as folder:
        sqlite.assemble(part, objects, folder / "new.sqlite")
        sqlite.publish(folder / "new.sqlite", place)
