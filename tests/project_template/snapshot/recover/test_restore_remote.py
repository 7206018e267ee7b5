"""A snapshot in an object store is read as a whole before a restore touches anything, as one in a folder is."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.errors import DamagedError
from mlflow_ae5_server.snapshot.places import open_place


def test_a_damaged_object_is_named_before_anything_is_touched(
    pilot: Any, tmp_path: Path, home_at: Any, take: Any, bucket: Any
) -> None:
    source = dataclasses.replace(pilot.home, backups=f"{bucket(f'b{uuid.uuid4().hex}')}/backups")
    take(source)
    place = open_place(source.backups)
    victim = sorted(item.name for item in place.items("objects"))[-1]
    data = place.read(victim)
    assert data is not None
    place.write(victim, data[:-1] + bytes([data[-1] ^ 1]))
    home = home_at(tmp_path / "home", source.backups)

    with pytest.raises(DamagedError, match=victim.rpartition("/")[2]):
        home.restore("--snapshot", "latest")

    assert not home.artifacts.exists()
    assert not home.store.file.exists()
    assert home.unfinished() is None
