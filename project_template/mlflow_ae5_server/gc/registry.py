"""Which runs and logged models a registered model version needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from mlflow_ae5_server.gc.tables import MODELS, VERSIONS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_DELETED = "Deleted_Internal"  # the stage MLflow gives to versions that were deleted
_BATCH = 500  # ids in a query


class Registry:
    """The needed ids; read again whenever a version was added or changed.

    A version names its artifacts in several ways: run_id, `runs:/ID/...`, `models:/ID`, or a location with the ID among
    its folders. So every part of its source counts, and it needs the run or model with that id.
    """

    def __init__(self, include_registered: bool) -> None:
        self._include = include_registered
        self._read: tuple[object, ...] = ()
        self._needed: dict[str, str] = {}

    def refresh(self, connection: Connection) -> bool:
        """Read the versions if one has changed. Returns whether it has."""
        if self._include:
            return False
        query = select(func.count(), func.max(VERSIONS.c.creation_time), func.max(VERSIONS.c.last_updated_time))
        state = tuple(connection.execute(query.select_from(VERSIONS)).one())
        if state == self._read:
            return False
        self._read = state
        self._needed = _needed(connection)
        return True

    def protects(self, owner: str) -> bool:
        return owner in self._needed

    def version(self, owner: str) -> str:
        """The name of a model that needs `owner`."""
        return self._needed.get(owner, "")


def _needed(connection: Connection) -> dict[str, str]:
    """Id -> the name of a model that needs it."""
    query = select(VERSIONS.c.name, VERSIONS.c.run_id, VERSIONS.c.source, VERSIONS.c.storage_location).where(
        or_(VERSIONS.c.current_stage.is_(None), VERSIONS.c.current_stage != _DELETED)
    )
    needed: dict[str, str] = {}
    for name, run, source, storage in connection.execute(query):
        for text in (run, source, storage):
            for part in re.split(r"[/:?#@]+", text or ""):
                if len(part) >= 8:  # an id; names of folders do no harm
                    needed.setdefault(part, name)
    models = [part for part in needed if part.startswith("m-")]
    for start in range(0, len(models), _BATCH):
        chosen = MODELS.c.model_id.in_(models[start : start + _BATCH])
        for model, run in connection.execute(select(MODELS.c.model_id, MODELS.c.source_run_id).where(chosen)):
            if run:
                needed.setdefault(run, needed[model])
    return needed
