"""Snapshots that others have changed: every verb reports the damage, and reads and changes nothing outside."""

import resource
from pathlib import Path

import pytest
import zstandard
from mlflow_ae5_server.common.errors import SnapshotDamaged

from tests.project_template.repository.conftest import in_child
from tests.project_template.repository.hostile import (
    LONG_LINE,
    MARKER,
    MiB,
    content,
    entry,
    entry_part,
    forged,
    forged_artifacts,
    linked,
    listed,
    nested,
    of_every_kind,
    replaced,
    sparse,
)

MANY_VALUES = b'{"a":[' + b"[]," * 1_000_000 + b'1],"digest":"x"}'
BOMB = bytes(1 << 28)


def without_snapshots(hostile, *others):
    hostile.manifest.unlink()
    for name in others:
        (hostile.backend / "snapshots" / name).write_text("theirs")


CHANGES = {
    **of_every_kind("manifest", "object", MARKER),
    "object: a bomb": replaced("object", content(b"z" + zstandard.ZstdCompressor().compress(BOMB))),
    "object: a bomb without its size": replaced(
        "object", content(b"z" + zstandard.ZstdCompressor(write_content_size=False).compress(BOMB))
    ),
    "object: a link": linked("object"),
    "folder of objects: a link": lambda hostile: hostile.link(hostile.path("object").parent),
    "objects: a link": linked("objects"),
    "snapshots: a link": linked("snapshots"),
    "snapshots: emptied": without_snapshots,
    "snapshots: another's": lambda hostile: without_snapshots(hostile, "thesis.tex"),
    "snapshots: another's JSON": lambda hostile: without_snapshots(hostile, "package.json"),
    "marker: a list": replaced(MARKER, content(b"[]")),
    "marker: the limit": replaced(MARKER, sparse(16 * MiB)),
    "marker: another's": lambda hostile: replaced(MARKER, lambda path: path.hardlink_to(hostile.outside / "precious"))(
        hostile
    ),
    "marker: a control character": replaced(MARKER, content(b'{"format": 1, "repository": "\\u001b[2J"}')),
    "marker: a long text": replaced(MARKER, content(b'{"format": 1, "repository": "%s"}' % (b"a" * 1000))),
    "marker: a format to come": replaced(MARKER, content(b'{"format": 2, "repository": "a"}')),
    "manifest: indentation": replaced("manifest", content(nested(400, 1200))),
    "manifest: indentation within the depth": replaced("manifest", content(nested(7, 200_000))),
    "manifest: many values": replaced("manifest", content(MANY_VALUES)),
    "lists: a way out": forged_artifacts(lists=["../../etc/passwd"]),
    "lists: no text": forged_artifacts(lists=[5]),
    "lists: no list": forged_artifacts(lists="x"),
    "artifacts: too many bytes": forged_artifacts(bytes=2**70),
    "artifacts: another field": forged_artifacts(more=1),
    "artifacts: a control character": forged_artifacts(source="\x1b[2Jhome"),
    "version: a long text": forged(mlflow_version="x" * 5000),
    "version: a control character": forged(mlflow_version="\x1b]0;x\x07"),
    "rows: less than none": forged(rows=-1),
    "rows: a fraction": forged(rows=1.5),
    "rows: a word": forged(rows="many"),
    "started: before time": forged(started="0001-01-01T00:00:00+23:59"),
    "started: no time": forged(started="yesterday"),
    "read from: never": forged(read_from=1e300),
    "database: nothing": forged(database={}),
    "database: a long text": forged(database=lambda database: {**database, "server": "x" * 5000}),
    "database: a way out": forged(database=lambda database: {**database, "file": ["../../etc/passwd"]}),
    "entry: 3,000 deep": entry(p="/".join(["d"] * 3000)),
    "entry: nothing but deep": listed(b"[" * 200_000),
    "entry: no end": listed(b'{"p":"' + b"x" * 7 * MiB),
    "entry: 56 MiB": LONG_LINE,
    "entry: many values": listed(b'{"p":[' + b"[]," * 2 * MiB + b"1]}"),
    "entry: a way out": entry(p="../outside/precious"),
    "entry: ours": entry(p=".mlflow-ae5-restore.json"),
    "entry: half a character": entry(p="\ud800"),
    "entry: twice": listed(b'{"p":"a","l":"b"}\n' * 2),
    "entry: no order": listed(b'{"p":"b","l":"b"}\n{"p":"a","l":"b"}\n'),
    "entry: a link to NUL": entry(l="a\0b"),
    "entry: a link to a number": entry(l=5),
    "entry: time": entry(m=10**40),
    "entry: no time": entry(m=float("inf")),
    "entry: a mark that is none": entry(k=5),
    "entry: an offset": entry_part(offset=2**70, total=2**71),
    "entry: a total": entry_part(total=2**40),
    "entry: a fraction": entry_part(length=5.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_snapshot_is_damaged(hostile, change):
    CHANGES[change](hostile)
    codes = hostile.use()
    assert (codes["verify"], codes["restore"]) == (SnapshotDamaged.exit_code,) * 2
    assert set(codes.values()) <= {0, SnapshotDamaged.exit_code}


def test_a_bomb_takes_no_memory(hostile):
    def work(limit=600 * MiB):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit,) * 2)
        for change in (LONG_LINE, replaced("manifest", content(nested(400, 9000)))):
            change(hostile)
            assert hostile.server.job("verify")[0] == SnapshotDamaged.exit_code

    assert in_child(work) == 0
