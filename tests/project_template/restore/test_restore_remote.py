"""A snapshot in an object store is read as a whole before a restore touches anything, as one in a folder is."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server.common import object_store
from mlflow_ae5_server.common.errors import Configuration, SnapshotDamaged
from mlflow_ae5_server.repository.repository import open_backend
from mlflow_ae5_server.restore.object_store_saved_copies import ObjectStoreSavedCopies
from mlflow_ae5_server.restore.saved_copies import MAX_JOURNAL


def test_a_damaged_object_is_named_before_anything_is_touched(
    pilot: Any, tmp_path: Path, home_at: Any, take: Any, bucket: Any
) -> None:
    source = dataclasses.replace(pilot.home, backups=f"{bucket(f'b{uuid.uuid4().hex}')}/backups")
    take(source)
    backend = open_backend(source.backups)
    victim = sorted(item.name for item in backend.items("objects"))[-1]
    data = backend.read(victim)
    assert data is not None
    backend.write(victim, data[:-1] + bytes([data[-1] ^ 1]))
    home = home_at(tmp_path / "home", source.backups)

    with pytest.raises(SnapshotDamaged, match=victim.rpartition("/")[2]):
        home.restore("--snapshot", "latest")

    assert not home.artifacts.exists()
    assert not home.store.file.exists()
    assert home.interrupted() is None


def contents(url: str) -> dict[str, bytes]:
    import obstore

    store = object_store.open_store(url)
    return {str(m["path"]): bytes(obstore.get(store, m["path"]).bytes()) for page in obstore.list(store) for m in page}


def test_a_large_artifact_goes_from_a_bucket_to_a_bucket(
    pilot: Any, tmp_path: Path, home_at: Any, take: Any, bucket: Any
) -> None:
    """In parts, each read from one store while another is sent to the other."""
    import obstore

    name = uuid.uuid4().hex
    source, target = f"{bucket(f'a{name}')}/root", f"{bucket(f't{name}')}/root"
    obstore.put(object_store.open_store(source), "1/r/artifacts/weights", b"0123456789" * 2_000_000)
    obstore.put(object_store.open_store(source), "1/r/artifacts/small", b"x")
    home = dataclasses.replace(pilot.home, backups=f"{bucket(f'b{name}')}/backups", destination=source)
    take(home)
    restored = home_at(tmp_path / "home", home.backups, "", target).restore()
    assert (restored["outcome"], restored["written_files"]) == ("done", 2)
    assert contents(target) == contents(source)


def test_what_a_store_cannot_copy_by_itself_is_saved_too(bucket: Any) -> None:
    import obstore

    url = bucket(f"k{uuid.uuid4().hex}")
    for name, data in {"a": b"a" * 100, "ü 100%": b"b", "empty": b""}.items():
        obstore.put(object_store.open_store(f"{url}/root"), f"1/{name}", data)
    before = contents(f"{url}/root")
    copies = ObjectStoreSavedCopies(f"{url}/root", server_copy=-1)
    copies.save("x")
    assert contents(f"{url}/root") == {}
    assert contents(f"{url}/root.x") == before
    copies.bring_back("x")
    assert contents(f"{url}/root") == before


def test_a_file_below_a_file_is_restored_to_a_bucket_but_not_to_a_folder(
    pilot: Any, tmp_path: Path, home_at: Any, take: Any, bucket: Any
) -> None:
    import obstore

    name = uuid.uuid4().hex
    source, target = f"{bucket(f'a{name}')}/root", f"{bucket(f't{name}')}/root"
    for path in ("1/dir", "1/dir-x", "1/dir/file"):
        obstore.put(object_store.open_store(source), path, path.encode())
    home = dataclasses.replace(pilot.home, backups=f"{bucket(f'b{name}')}/backups", destination=source)
    take(home)
    assert home.job("backup", "verify")["exit_code"] == 0
    folder = home_at(tmp_path / "home", home.backups)
    (refusal,) = folder.restore("--dry-run")["would_refuse"]
    assert (refusal["name"], refusal["exit_code"]) == ("names", Configuration.exit_code)
    for words in (("restore", "--replace"), ("drill",)):
        with pytest.raises(Configuration, match="cannot hold 1/dir/file: 1/dir is a file there"):
            folder.job(*words)
    assert not folder.artifacts.exists()
    assert not folder.store.file.exists()
    assert home_at(tmp_path / "other", home.backups, "", target).restore()["written_files"] == 3
    assert contents(target) == contents(source)


def test_a_restore_journal_that_is_too_large_is_not_read(home_at: Any, tmp_path: Path, pilot: Any, bucket: Any) -> None:
    import obstore

    url = bucket(f"j{uuid.uuid4().hex}")
    obstore.put(object_store.open_store(url), ".mlflow-ae5-restore.json", bytes(MAX_JOURNAL + 1))
    home = home_at(tmp_path / "home", pilot.home.backups, "", url)
    for words in (("--dry-run",), ("--undo",), ("--list-saved",)):
        with pytest.raises(SnapshotDamaged, match="restore journal of"):
            home.restore(*words)
