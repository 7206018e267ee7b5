"""Which runs and logged models a registered model version needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select

from mlflow_ae5_server.gc.tables import MODELS, VERSIONS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_DELETED = "Deleted_Internal"  # the stage MLflow gives to versions that were deleted
_PART = 500


class Registry:
    """Read once, and again whenever a version was added or changed since.

    A version names its artifacts in several ways: run_id, `runs:/ID/...`, `models:/ID`, or a location with the ID among
    its folders. So whatever is a part of its source counts, and a run or model with that very id is needed by it.
    """

    def __init__(self, include_registered: bool) -> None:
        self._include = include_registered
        self._read: tuple[object, ...] = ()
        self._needed: dict[str, str] = {}

    def refresh(self, connection: Connection) -> bool:
        """Whether anything is different from before."""
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
    from sqlalchemy import column, table

    named = table("model_versions", column("name"), column("run_id"), column("source"), column("storage_location"),
                  column("current_stage"))  # fmt: skip
    query = select(named.c.name, named.c.run_id, named.c.source, named.c.storage_location).where(
        or_(named.c.current_stage.is_(None), named.c.current_stage != _DELETED)
    )
    needed: dict[str, str] = {}
    for name, run, source, storage in connection.execute(query):
        for text in (run, source, storage):
            for part in re.split(r"[/:?#@]+", text or ""):
                if len(part) >= 8:  # an id; names of folders do no harm
                    needed.setdefault(part, name)
    models = [part for part in needed if part.startswith("m-")]
    for start in range(0, len(models), _PART):
        chosen = MODELS.c.model_id.in_(models[start : start + _PART])
        for model, run in connection.execute(select(MODELS.c.model_id, MODELS.c.source_run_id).where(chosen)):
            if run:
                needed.setdefault(run, needed[model])
    return needed
