"""A backup folder that others can write to: what they put there is named, and nothing outside is read or changed."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from mlflow_ae5_server.common.errors import DamagedError, ProjectError

from tests.project_template.repository.conftest import Server, in_child, new_server
from tests.project_template.restore.conftest import Home, tree

VERBS = ("list", "show", "verify", "prune --keep-last 1 --yes", "create --allow-outside")
MiB = 1024 * 1024
SHA = "a" * 64


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server with one snapshot. Only to be copied."""
    server = new_server(tmp_path_factory.mktemp("original"))
    server.use_mlflow()
    server.write("1/a", b"a" * 1000)
    assert server.job("create --allow-outside")[0] == 0
    assert server.job("verify")[0] == 0
    return server.folder


class Hostile:
    """The folder of the backups, and what somebody else may do to it. `outside` is theirs to point at."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.place = Path(server.place)
        self.outside = server.folder / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")

    @property
    def manifest(self) -> Path:
        (found,) = (self.place / "snapshots").iterdir()
        return found

    def read(self) -> Any:
        return json.loads(self.manifest.read_text())

    def object(self, sha256: str) -> Path:
        return self.place / "objects" / sha256[:2] / sha256

    def of_database(self) -> Path:
        return self.object(self.read()["database"]["file"][0])

    def link(self, name: str) -> None:
        """The real content, moved outside, with a link in its stead: to follow it would seem to work."""
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            path.rename(self.outside / path.name)
        else:
            (self.outside / path.name).mkdir()
            (self.outside / path.name / "precious").write_text("precious")
        path.symlink_to(self.outside / path.name)

    def replace(self, path: Path, make: Callable[[Path], object]) -> None:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)

    def forge(self, **changes: Any) -> None:
        """A manifest with other values, and the digest that it must have."""
        data = {**self.read(), **changes}
        data.pop("digest")
        written = json.dumps(data, sort_keys=True, indent=1) + "\n"
        data["digest"] = hashlib.sha256(written.encode("ascii")).hexdigest()
        self.manifest.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")

    def forge_artifacts(self, **changes: Any) -> None:
        self.forge(artifacts={**self.read()["artifacts"], **changes})

    def forge_list(self, *lines: bytes) -> None:
        data = b"".join(line + b"\n" for line in lines)
        sha256 = hashlib.sha256(data).hexdigest()
        self.object(sha256).parent.mkdir(exist_ok=True)
        self.object(sha256).write_bytes(b"r" + data)
        self.forge_artifacts(lists=[sha256])

    def forge_entry(self, **changes: Any) -> None:
        self.forge_list(json.dumps({"p": "a", "s": 0, "d": hashlib.sha256().hexdigest(), "m": 1, **changes}).encode())


def sparse(size: int) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def listening(path: Path) -> None:
    """A socket's file, whose path may be longer than a socket's can be."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made.bind(f"/proc/self/fd/{here}/{path.name}"[-100:])
        finally:
            os.close(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": listening,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a folder": lambda path: (path.mkdir(), (path / "x").write_text("x")),
    "huge": sparse(1 << 40),
    "more than any": sparse(16 * MiB + 1),
    "deep": lambda path: path.write_bytes(b"[" * 200_000),
    "deep within": lambda path: path.write_bytes(b'{"damaged":' * 100_000),
}


def bomb(size: int) -> bytes:
    """A small frame that says how much it is."""
    return b"z" + zstandard.ZstdCompressor().compress(bytes(size))


def endless(size: int) -> bytes:
    """The same without a word of it."""
    return b"z" + zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))


def on_object(make: Callable[[Path], object]) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.replace(hostile.of_database(), make)


def on_manifest(make: Callable[[Path], object]) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.replace(hostile.manifest, make)


def linked(name: str) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.link(name)


def forged(**changes: Any) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.forge(**changes)


def of_artifacts(**changes: Any) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.forge_artifacts(**changes)


def entry(**changes: Any) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.forge_entry(**changes)


def numbers(**part: Any) -> Callable[[Hostile], object]:
    values = {"offset": 0, "length": 5, "total": 5, **part}
    return entry(s=values["length"], d=SHA, o=[["b" * 64, *values.values()]])


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def nested(levels: int, times: int) -> bytes:
    """A small file that is a large one once it is written with its indentation."""
    return b'{"a":[' + b",".join([b"[" * levels + b"]" * levels] * times) + b'],"digest":"x"}'


def long_list(hostile: Hostile) -> None:
    """A line of 56 MiB, of which each object is small as it is kept."""
    pieces = [b'{"p":' + b"[" * 6, *[b"[[]]," * (8 * MiB // 5)] * 7]
    lists = [hashlib.sha256(piece).hexdigest() for piece in pieces]
    for piece, sha256 in zip(pieces, lists, strict=True):
        hostile.object(sha256).parent.mkdir(exist_ok=True)
        hostile.object(sha256).write_bytes(b"z" + zstandard.ZstdCompressor().compress(piece))
    hostile.forge_artifacts(lists=lists)


# What no snapshot can be read through: `verify`, `show` and a restore end with 16 for it.
UNREADABLE: dict[str, Callable[[Hostile], object]] = {
    **{f"manifest: {name}": on_manifest(make) for name, make in KINDS.items()},
    **{f"object: {name}": on_object(make) for name, make in KINDS.items()},
    "object: a bomb": on_object(lambda path: path.write_bytes(bomb(1 << 28))),
    "object: a bomb without its size": on_object(lambda path: path.write_bytes(endless(1 << 28))),
    "object: a link": lambda hostile: hostile.link(str(hostile.of_database().relative_to(hostile.place))),
    "folder of objects: a link": lambda h: h.link(str(h.of_database().parent.relative_to(h.place))),
    "objects: a link": linked("objects"),
    "snapshots: a link": linked("snapshots"),
    "lists: a way out": of_artifacts(lists=["../../etc/passwd"]),
    "lists: no text": of_artifacts(lists=[5]),
    "lists: no list": of_artifacts(lists="x"),
    "artifacts: too many bytes": of_artifacts(bytes=2**70),
    "artifacts: another field": of_artifacts(more=1),
    "artifacts: a control character": of_artifacts(source="\x1b[2Jhome"),
    "manifest: indentation": on_manifest(content(nested(400, 1200))),
    "manifest: indentation within the depth": on_manifest(content(nested(7, 200_000))),
    "manifest: many values": on_manifest(content(b'{"a":[' + b"[]," * 1_000_000 + b'1],"digest":"x"}')),
    "version: a long text": forged(mlflow_version="x" * 5000),
    "database: a long text": lambda h: h.forge(database={**h.read()["database"], "server": "x" * 5000}),
    "version: a control character": forged(mlflow_version="\x1b]0;x\x07"),
    "rows: less than none": forged(rows=-1),
    "rows: a fraction": forged(rows=1.5),
    "rows: a word": forged(rows="many"),
    "started: before time": forged(started="0001-01-01T00:00:00+23:59"),
    "started: no time": forged(started="yesterday"),
    "read from: never": forged(read_from=1e300),
    "database: nothing": forged(database={}),
    "database: a way out": lambda h: h.forge(database={**h.read()["database"], "file": ["../../etc/passwd"]}),
    "entry: 3,000 deep": entry(p="/".join(["d"] * 3000)),
    "entry: nothing but deep": lambda hostile: hostile.forge_list(b"[" * 200_000),
    "entry: no end": lambda hostile: hostile.forge_list(b'{"p":"' + b"x" * 7 * MiB),
    "entry: 56 MiB": long_list,
    "entry: many values": lambda hostile: hostile.forge_list(b'{"p":[' + b"[]," * 2 * MiB + b"1]}"),
    "entry: a way out": entry(p="../outside/precious"),
    "entry: ours": entry(p=".mlflow-ae5-restore.json"),
    "entry: half a character": entry(p="\ud800"),
    "entry: twice": lambda h: h.forge_list(*[b'{"p":"a","l":"b"}'] * 2),
    "entry: no order": lambda h: h.forge_list(b'{"p":"b","l":"b"}', b'{"p":"a","l":"b"}'),
    "entry: a link to NUL": entry(l="a\0b"),
    "entry: a link to a number": entry(l=5),
    "entry: time": entry(m=10**40),
    "entry: no time": entry(m=float("inf")),
    "entry: a mark that is none": entry(k=5),
    "entry: an offset": numbers(offset=2**70, total=2**71),
    "entry: a total": numbers(total=2**40),
    "entry: a fraction": numbers(length=5.0),
}
# What concerns no snapshot: those are as before, and whoever needs that file ends with 16.
BESIDE: dict[str, Callable[[Hostile], object]] = {
    **{f"tmp: {name}": (lambda h, make=make: h.replace(h.place / "tmp" / "x", make)) for name, make in KINDS.items()},
    **{
        f"{folder}: {name}": (lambda h, f=folder, m=make: h.replace(h.place / f / h.manifest.name, m))
        for name, make in KINDS.items()
        for folder in ("verified", "unfinished")
    },
    **{
        f"{file}: {name}": (lambda h, file=file, make=make: h.replace(h.place / file, make))
        for name, make in KINDS.items()
        for file in ("lease/99.json", "spare", "meant-empty.json", f"damaged/{SHA}", "damaged/zz", "lease/\u00b2.json")
    },
    **{
        f"{folder}: a link": linked(folder)
        for folder in ("tmp", "lease", "verified", "unfinished", "damaged", "spare", "meant-empty.json")
    },
    "unfinished: nonsense": lambda h: h.replace(
        h.place / "unfinished" / "00000002-20260101T000000Z-abcdef.json",
        lambda path: path.write_text('{"started": [], "read_from": NaN, "lists": ["../../etc/passwd", 5]}'),
    ),
    "a name that cannot be shown": lambda h: h.replace(h.place / "snapshots" / "\x1b[2J\udcff.json", Path.touch),
}


@pytest.fixture
def hostile(original: Path, tmp_path: Path) -> Hostile:
    shutil.copytree(original, tmp_path / "server")
    return Hostile(new_server(tmp_path / "server", made=True))


def restored(hostile: Hostile) -> int:
    try:
        home = Home.at(hostile.server.folder / "home", hostile.server.place)
        return int(home.restore("--dry-run", "--no-upgrade")["exit_code"])
    except ProjectError as error:
        return error.exit_code


def used(hostile: Hostile) -> dict[str, int]:
    """Every verb's exit code; a traceback is none."""
    before = tree(hostile.outside), sorted(hostile.outside.rglob("*"))
    codes = {"restore": restored(hostile), **{verb: hostile.server.job(verb)[0] for verb in VERBS}}
    assert (tree(hostile.outside), sorted(hostile.outside.rglob("*"))) == before
    return codes


@pytest.mark.parametrize("how", UNREADABLE)
def test_a_snapshot_that_others_have_changed_is_damaged(hostile: Hostile, how: str) -> None:
    UNREADABLE[how](hostile)
    codes = used(hostile)
    assert (codes["verify"], codes["restore"]) == (DamagedError.exit_code,) * 2
    assert set(codes.values()) <= {0, DamagedError.exit_code}


@pytest.mark.parametrize("how", BESIDE)
def test_what_others_put_beside_the_snapshots_is_named_or_no_matter(hostile: Hostile, how: str) -> None:
    BESIDE[how](hostile)
    codes = used(hostile)
    assert codes["restore"] in {0, DamagedError.exit_code}
    assert set(codes.values()) <= {0, DamagedError.exit_code}


def test_files_in_what_a_link_called_tmp_leads_to_are_not_deleted(hostile: Hostile) -> None:
    (hostile.place / "tmp").mkdir(exist_ok=True)
    (hostile.place / "tmp/precious").write_text("precious")
    hostile.link("tmp")
    code, report = hostile.server.job("create --allow-outside")
    assert (code, "tmp in " in report["error"], "is no folder" in report["error"]) == (16, True, True)
    assert list(tree(hostile.outside / "tmp")) == ["precious"]


def test_a_bomb_takes_no_memory(hostile: Hostile) -> None:
    def work(limit: int = 600 * MiB) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit,) * 2)
        assert hostile.server.job("verify")[0] == DamagedError.exit_code

    for make in (long_list, on_manifest(content(nested(400, 9000)))):
        make(hostile)
        assert in_child(work) == 0
