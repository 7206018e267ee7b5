"""What the tests of restores and of undos share."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.database import dump, locks
from mlflow_ae5_server.database.connection import Database, connect_engine


def is_identical(home: Any, pilot: Any) -> bool:
    return dump.digests(home.store) == pilot.digests and home.files() == pilot.files


@contextlib.contextmanager
def serving(store: Database) -> Iterator[None]:
    """The mark of a server, without what it does to the connections that this process makes later."""
    named = os.environ.get("PGAPPNAME")
    with locks.serving(store):
        os.environ.pop("PGAPPNAME", None)
        yield
    if named is not None:
        os.environ["PGAPPNAME"] = named


def everything(home: Any) -> tuple[object, ...]:
    """What a restore that is refused must leave as it was."""
    names = {path.name for path in home.folder.rglob("*") if not path.name.endswith(".lock")} - {"store"}
    return dump.state(home.store), names, home.tree()


def refused(home: Any, error: type[ProjectError], *words: str) -> str:
    """The message with which a restore is refused, and that nothing was touched."""
    before = everything(home)
    with pytest.raises(error) as caught:
        home.restore(*words or ("--snapshot", "latest"))
    assert everything(home) == before
    return str(caught.value)


def work_on(home: Any, pilot: Any) -> tuple[object, object]:
    """Data of its own in `home`, as it is after a server has worked there; its digests."""
    from sqlalchemy import text

    home.store_folder()
    if dump.state(home.store).kind == "empty":
        shutil.copy(pilot.home.store.file, home.store.file)
    word = uuid.uuid4().hex
    with connect_engine(home.store).begin() as connection:
        connection.execute(text("UPDATE runs SET name = :word"), {"word": word})
    (home.artifacts / "1" / word).mkdir(parents=True)
    (home.artifacts / "1" / word / "a").write_text(word)
    return dump.digests(home.store), home.files()
