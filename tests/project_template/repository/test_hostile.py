"""A backup folder that others can write to: what they put there is named, and nothing outside is read or changed."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import os
import resource
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from mlflow_ae5_server.common.errors import DamagedError, ProjectError, StorageError
from mlflow_ae5_server.repository.backend import BackendFile
from mlflow_ae5_server.repository.repository import open_backend

from tests.project_template.repository.conftest import Server, Wrapped, in_child, new_server
from tests.project_template.restore.conftest import Home, tree

VERBS = ("list", "show", "verify", "prune --keep-last 1 --yes", "create --allow-external")
MiB = 1024 * 1024
SHA = "a" * 64


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server with one snapshot. Only to be copied."""
    server = new_server(tmp_path_factory.mktemp("original"))
    server.use_mlflow()
    server.write("1/a", b"a" * 1000)
    assert server.job("create --allow-external")[0] == 0
    assert server.job("verify")[0] == 0
    return server.folder


class Hostile:
    """The folder of the backups, and what somebody else may do to it. `outside` is theirs to point at."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.backend = Path(server.backend)
        self.outside = server.folder / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")

    @property
    def manifest(self) -> Path:
        (found,) = (self.backend / "snapshots").iterdir()
        return found

    def read(self) -> Any:
        return json.loads(self.manifest.read_text())

    def object(self, sha256: str) -> Path:
        return self.backend / "objects" / sha256[:2] / sha256

    def of_database(self) -> Path:
        return self.object(self.read()["database"]["file"][0])

    def link(self, name: str) -> None:
        """The real content, moved outside, with a link in its stead: to follow it would seem to work."""
        path = self.backend / name
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


def on_marker(make: Callable[[Path], object]) -> Callable[[Hostile], object]:
    return lambda hostile: hostile.replace(hostile.backend / "mlflow-ae5-backups.json", make)


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


def without_snapshots(hostile: Hostile, *others: str) -> None:
    hostile.manifest.unlink()
    for name in others:
        (hostile.backend / "snapshots" / name).write_text("theirs")


# What no snapshot can be read through: `verify`, `show` and a restore end with 16 for it.
UNREADABLE: dict[str, Callable[[Hostile], object]] = {
    **{f"manifest: {name}": on_manifest(make) for name, make in KINDS.items()},
    **{f"object: {name}": on_object(make) for name, make in KINDS.items()},
    "object: a bomb": on_object(lambda path: path.write_bytes(bomb(1 << 28))),
    "object: a bomb without its size": on_object(lambda path: path.write_bytes(endless(1 << 28))),
    "object: a link": lambda hostile: hostile.link(str(hostile.of_database().relative_to(hostile.backend))),
    "folder of objects: a link": lambda h: h.link(str(h.of_database().parent.relative_to(h.backend))),
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
    **{f"marker: {name}": on_marker(make) for name, make in KINDS.items()},
    "marker: a list": on_marker(content(b"[]")),
    "marker: the limit": on_marker(sparse(16 * MiB)),
    "marker: another's": lambda h: h.replace(
        h.backend / "mlflow-ae5-backups.json", lambda path: path.hardlink_to(h.outside / "precious")
    ),
    "marker: a control character": on_marker(content(b'{"format": 1, "repository": "\\u001b[2J"}')),
    "marker: a long text": on_marker(content(b'{"format": 1, "repository": "%s"}' % (b"a" * 1000))),
    "marker: a format to come": on_marker(content(b'{"format": 2, "repository": "a"}')),
    "snapshots: emptied": without_snapshots,
    "snapshots: another's": lambda hostile: without_snapshots(hostile, "thesis.tex"),
    "snapshots: another's JSON": lambda hostile: without_snapshots(hostile, "package.json"),
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
    **{f"tmp: {name}": (lambda h, make=make: h.replace(h.backend / "tmp" / "x", make)) for name, make in KINDS.items()},
    **{
        f"{folder}: {name}": (lambda h, f=folder, m=make: h.replace(h.backend / f / h.manifest.name, m))
        for name, make in KINDS.items()
        for folder in ("verified", "unfinished")
    },
    **{
        f"{file}: {name}": (lambda h, file=file, make=make: h.replace(h.backend / file, make))
        for name, make in KINDS.items()
        for file in ("lock/99.json", "spare", "meant-empty.json", f"damaged/{SHA}", "damaged/zz", "lock/\u00b2.json")
    },
    **{
        f"{folder}: a link": linked(folder)
        for folder in ("tmp", "lock", "verified", "unfinished", "damaged", "spare", "meant-empty.json")
    },
    "lease: the last one": lambda h: h.replace(h.backend / "lock" / f"{'9' * 18}.json", content(b'{"released": true}')),
    "lease: more than all": lambda h: h.replace(h.backend / "lock" / f"{'9' * 240}.json", Path.touch),
    "verified: nonsense": lambda h: h.replace(
        h.backend / "verified" / h.manifest.name,
        lambda path: path.write_text('{"at": "yesterday", "damaged": [5, {"object": "zz"}], "found": {}, "right": []}'),
    ),
    "verified: a number without end": lambda h: h.replace(
        h.backend / "verified" / h.manifest.name,
        content(b'{"at": "2026-01-01T00:00:00+00:00", "damaged": [], "found": %s}' % (b"9" * 4300)),
    ),
    "unfinished: nonsense": lambda h: h.replace(
        h.backend / "unfinished" / "00000002-20260101T000000Z-abcdef.json",
        lambda path: path.write_text('{"started": [], "read_from": NaN, "lists": ["../../etc/passwd", 5]}'),
    ),
    "a name that cannot be shown": lambda h: h.replace(h.backend / "snapshots" / "\x1b[2J\udcff.json", Path.touch),
}


@pytest.fixture
def hostile(original: Path, tmp_path: Path) -> Hostile:
    shutil.copytree(original, tmp_path / "server")
    return Hostile(new_server(tmp_path / "server", made=True))


def restored(hostile: Hostile) -> int:
    try:
        home = Home.at(hostile.server.folder / "home", hostile.server.backend)
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
    (hostile.backend / "tmp").mkdir(exist_ok=True)
    (hostile.backend / "tmp/precious").write_text("precious")
    hostile.link("tmp")
    code, report = hostile.server.job("create --allow-external")
    assert (code, "tmp in " in report["error"], "is no folder" in report["error"]) == (25, True, True)
    assert list(tree(hostile.outside / "tmp")) == ["precious"]


def test_a_bomb_takes_no_memory(hostile: Hostile) -> None:
    def work(limit: int = 600 * MiB) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit,) * 2)
        assert hostile.server.job("verify")[0] == DamagedError.exit_code

    for make in (long_list, on_manifest(content(nested(400, 9000)))):
        make(hostile)
        assert in_child(work) == 0


# Numbers


def forged_number(hostile: Hostile, name: str) -> None:
    hostile.forge(sequence=int(name[:8]), id=name[9:-5])
    hostile.manifest.rename(hostile.backend / "snapshots" / name)


def made(hostile: Hostile) -> list[Path]:
    return [path for name in ("snapshots", "unfinished", "objects") for path in (hostile.backend / name).rglob("*")]


@pytest.mark.parametrize(
    "make",
    [
        lambda h, name: (h.backend / "snapshots" / name).write_text("{}"),
        lambda h, name: shutil.copy(h.manifest, h.backend / "snapshots" / name),
        forged_number,
        lambda h, name: h.replace(h.backend / "unfinished" / name, content(b"{}")),
    ],
    ids=["nonsense", "copied", "forged", "unfinished"],
)
@pytest.mark.parametrize("number", ["99999999", "99999998", "02000000"])
def test_no_snapshot_is_made_behind_a_number_that_no_backup_comes_to(
    hostile: Hostile, make: Callable[[Hostile, str], object], number: str
) -> None:
    name = f"{number}-20260101T000000Z-aaaaaa.json"
    make(hostile, name)
    before = made(hostile)
    code, report = hostile.server.job("create --allow-external")
    assert (code, name in report["error"]) == (DamagedError.exit_code, True)
    assert made(hostile) == before
    (found,) = hostile.backend.glob(f"*/{name}")
    found.unlink()
    (hostile.backend / "newest.json").unlink()
    assert hostile.server.job("create --allow-external")[0] == 0
    assert hostile.server.job("verify")[0] == 0


def test_a_lease_that_none_can_follow_is_named(hostile: Hostile) -> None:
    BESIDE["lease: the last one"](hostile)
    for verb in ("create --allow-external", "prune --keep-last 1 --yes"):
        code, report = hostile.server.job(verb)
        assert (code, f"lock/{'9' * 18}.json" in report["error"]) == (DamagedError.exit_code, True)


# The folder itself


class Toggling(Wrapped):
    """Before every operation, also one that reads, the folder is swapped for a link, and back."""

    def __init__(self, hostile: Hostile, *, swap: Callable[[int], bool]) -> None:
        super().__init__(open_backend(hostile.server.backend), lambda _verb, _name: self.toggle())
        self.steps = 0
        self._hostile = hostile
        self._swap = swap
        self._away = hostile.backend.with_name("away")
        self._lock = threading.Lock()

    def toggle(self) -> None:
        with self._lock:
            self.steps += 1
            if self._swap(self.steps) and not self._away.exists():
                self._hostile.backend.rename(self._away)
                self._hostile.backend.symlink_to(self._hostile.outside)
            elif not self._swap(self.steps) and self._away.exists():
                self._hostile.backend.unlink()
                self._away.rename(self._hostile.backend)

    def read(self, name: str) -> bytes | None:
        self.toggle()
        return super().read(name)

    def items(self, prefix: str) -> Iterator[BackendFile]:
        self.toggle()
        return super().items(prefix)

    def prepare(self) -> None:
        self.toggle()
        super().prepare()

    def clean(self) -> None:
        self.toggle()
        super().clean()

    def reserve_space(self) -> None:
        self.toggle()
        super().reserve_space()


SWAPS: dict[str, Callable[[int], bool]] = {
    "always": lambda step: step % 2 == 0,
    "always, the other way round": lambda step: step % 2 == 1,
    "in the middle": lambda step: 20 <= step < 25,
    "for good": lambda step: step >= 20,
    "right away": lambda _step: True,
}


@pytest.mark.parametrize("how", SWAPS)
def test_a_folder_that_is_swapped_for_a_link_while_a_backup_runs(hostile: Hostile, how: str) -> None:
    """What is made is made in the folder that was opened, or the backup fails; the other folder stays as it was."""
    for name in ("tmp", "objects", "snapshots", "lock"):
        (hostile.outside / name).mkdir()
        (hostile.outside / name / "deadbeef-1").write_text("precious")
    shutil.copy(hostile.backend / "mlflow-ae5-backups.json", hostile.outside)
    before = tree(hostile.outside), sorted(hostile.outside.rglob("*"))
    hostile.server.write("1/b", b"b" * 5000)
    backend = Toggling(hostile, swap=SWAPS[how])
    try:
        made = hostile.server.back_up(backend=backend)
    except DamagedError:
        made = None
    assert (tree(hostile.outside), sorted(hostile.outside.rglob("*"))) == before
    assert how not in {"for good", "right away"} or made is None
    assert how != "in the middle" or made is not None
    if backend.steps and hostile.backend.is_symlink():
        hostile.backend.unlink()
        hostile.backend.with_name("away").rename(hostile.backend)
    found = [one.id for one in hostile.server.repository().snapshots()]
    assert found[1:] == ([made.id] if made else [])
    assert hostile.server.job("create --allow-external")[0] == 0


def test_what_is_published_is_read_again(hostile: Hostile) -> None:
    """A volume that stores something else than what it was given."""

    class Forgetful(Wrapped):
        def create(self, name: str, data: bytes) -> bool:
            return super().create(name, data[:-1] if name.startswith("snapshots/") else data)

    with pytest.raises(DamagedError, match="is not what was written"):
        hostile.server.back_up(backend=Forgetful(open_backend(hostile.server.backend), lambda _verb, _name: None))


# Files of others


def test_a_folder_with_nothing_but_a_tmp_of_somebody_is_not_taken(server: Server) -> None:
    theirs = Path(server.backend, "tmp", "thesis.tex")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(StorageError, match=r"holds something else: tmp/thesis\.tex"):
        server.back_up()
    assert [*Path(server.backend).rglob("*")] == [theirs.parent, theirs]


def test_only_our_own_files_are_deleted(server: Server) -> None:
    folder = Path(server.backend, "tmp")
    (folder.parent / "lost+found").mkdir(parents=True)
    folder.mkdir()
    (folder / "0123abcd-17").write_text("of a first backup that was killed")
    server.back_up()
    assert list(folder.iterdir()) == []
    for name in ("thesis.tex", "0123abcd-17", "0123abcd-17.tex"):
        (folder / name).write_text("x")
    (folder.parent / "lock" / "thesis.tex").write_text("x")
    server.back_up()
    assert sorted(file.name for file in folder.iterdir()) == ["0123abcd-17.tex", "thesis.tex"]
    assert (folder.parent / "lock" / "thesis.tex").exists()


def without_powers() -> None:
    """For a process that ends soon: root obeys the permissions of files like everybody else."""
    if os.geteuid() == 0:
        header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(header, nothing) == 0


FORBIDDEN: dict[str, Callable[[Hostile], Path]] = {
    "object": Hostile.of_database,
    "folder of objects": lambda h: h.of_database().parent,
    "objects": lambda h: h.backend / "objects",
    "manifest": lambda h: h.manifest,
    "snapshots": lambda h: h.backend / "snapshots",
    "lock": lambda h: next((h.backend / "lock").iterdir()),
    "verified": lambda h: next((h.backend / "verified").iterdir()),
    "marker": lambda h: h.backend / "mlflow-ae5-backups.json",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_this_account_may_not_read_is_named(hostile: Hostile, what: str) -> None:
    path, told = FORBIDDEN[what](hostile), hostile.server.folder / "told.json"
    mode = path.stat().st_mode
    path.chmod(0)

    def work() -> None:
        without_powers()
        told.write_text(json.dumps({verb: hostile.server.job(verb) for verb in VERBS}))

    try:
        assert in_child(work) == 0
    finally:
        path.chmod(mode)
    found = json.loads(told.read_text())
    assert {code for code, _report in found.values()} <= {0, DamagedError.exit_code}
    failed = {verb: json.dumps(report) for verb, (code, report) in found.items() if code}
    if what == "object":  # and the others are read all the same
        report = found["verify"][1]
        assert report["checked_objects"] == report["of_objects"]
        failed.pop("prune --keep-last 1 --yes")  # the snapshot is known as damaged by then
    assert failed
    assert all(path.name in report and "permission denied" in report for report in failed.values())


def test_folders_in_place_of_manifests_keep_no_descriptor(hostile: Hostile) -> None:
    for number in range(100):
        (hostile.backend / "snapshots" / f"{number:08d}-20200101T000000Z-aaaaaa.json").mkdir()
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    assert hostile.server.job("list")[0] == 0
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before
