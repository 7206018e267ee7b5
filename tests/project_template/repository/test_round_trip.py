"""Awkward artifacts from a server's folder into a snapshot, and back into a folder: everything as it was."""

import os

from mlflow_ae5_server.restore import files as recover_files
from mlflow_ae5_server.restore.target import FolderTarget

from tests.project_template.repository.test_create import MANY, fill

NAMES = {
    b"0/r1/artifacts/not utf-8 \xff": b"6",
    "0/" + "\u00e9" * 127 + "x": b"7",  # 255 bytes
    "0/ lead and trail ": b"8",
    "0/\t\x7f": b"9",
}
MIDDLE = 2 * 1024**3 + 12345  # bytes: more than a signed number of 32 bits holds
SIZE = MIDDLE + 64 * 1024**2


def restore(server, manifest, target):
    repository = server.repository()
    return recover_files.restore(
        lambda: repository.files(manifest), repository.reader(), FolderTarget(target), again=False
    )


def test_odd_names_come_back(server, tmp_path):
    fill(server)
    for path, data in NAMES.items():
        server.write(path, data)
    manifest = server.back_up()
    done = restore(server, manifest, tmp_path / "restored")
    assert (done.files, done.bytes) == (manifest.artifacts.files, manifest.artifacts.bytes)
    for name, data in {**MANY, **NAMES}.items():
        assert (tmp_path / "restored" / os.fsdecode(name)).read_bytes() == data


def test_two_gigabytes_of_hole_cost_little_and_come_back(server, tmp_path):
    with server.write("sparse", b"begin").open("r+b") as stream:
        stream.truncate(SIZE)
        stream.seek(MIDDLE)
        stream.write(b"middle")
    manifest = server.back_up()
    entry = server.entries(manifest)["sparse"]
    assert (entry.size, sum(part.length for part in entry.parts)) == (SIZE, SIZE)
    assert manifest.stored_bytes < 200_000
    assert manifest.new_objects < 10

    restore(server, manifest, tmp_path / "restored")
    back = tmp_path / "restored" / "sparse"
    assert back.stat().st_size == SIZE
    assert back.stat().st_blocks * 512 < 20_000_000
    with back.open("rb") as stream:
        assert stream.read(6) == b"begin\0"
        stream.seek(MIDDLE - 1)
        assert stream.read(8) == b"\0middle\0"
