"""A backup folder that others can write to, and what they may do to it. Each change is a function of a Hostile."""

import hashlib
import json
import os
import socket
from pathlib import Path

import zstandard
from mlflow_ae5_server.common.errors import ProjectError

from tests.project_template.restore.conftest import Home, tree

MARKER = "mlflow-ae5-backups.json"
MiB = 1024 * 1024
SHA = "a" * 64
CREATE, PRUNE = "create --allow-external", "prune --keep-last 1 --yes"
VERBS = ("list", "show", "verify", PRUNE, CREATE)


class Hostile:
    """`outside` is a folder of the server's account that a link in the backup folder may lead to."""

    def __init__(self, server):
        self.server = server
        self.backend = Path(server.backend)
        self.outside = server.folder / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")

    @property
    def manifest(self):
        (file,) = (self.backend / "snapshots").iterdir()
        return file

    def read(self):
        return json.loads(self.manifest.read_text())

    def object(self, sha256):
        return self.backend / "objects" / sha256[:2] / sha256

    def path(self, name):
        """A file of the backup folder. "manifest" and "object": of the snapshot; {manifest} is its name."""
        if name in ("manifest", "object"):
            return self.manifest if name == "manifest" else self.object(self.read()["database"]["file"][0])
        return self.backend / (name.format(manifest=self.manifest.name) if "{" in name else name)

    def link(self, path):
        """Replace a file by a link to its real content: to follow it would seem to work."""
        path.parent.mkdir(exist_ok=True)
        target = self.outside / path.name
        if path.exists():
            path.rename(target)
        else:
            target.mkdir()
            (target / "precious").write_text("precious")
        path.symlink_to(target)

    def outside_state(self):
        return tree(self.outside), sorted(self.outside.rglob("*"))

    def forge(self, **changes):
        """A manifest with other values, and the digest that it must have."""
        data = {**self.read(), **changes}
        data.pop("digest")
        written = json.dumps(data, sort_keys=True, indent=1) + "\n"
        data["digest"] = hashlib.sha256(written.encode("ascii")).hexdigest()
        self.manifest.write_text(json.dumps(data, sort_keys=True, indent=1) + "\n")

    def forge_artifacts(self, **changes):
        self.forge(artifacts={**self.read()["artifacts"], **changes})

    def forge_lists(self, *blobs):
        """A file list of these blobs, which are small as stored."""
        digests = [hashlib.sha256(blob).hexdigest() for blob in blobs]
        for blob, sha256 in zip(blobs, digests, strict=True):
            self.object(sha256).parent.mkdir(exist_ok=True)
            self.object(sha256).write_bytes(b"z" + zstandard.ZstdCompressor().compress(blob))
        self.forge_artifacts(lists=digests)

    def restore(self):
        try:
            home = Home.at(self.server.folder / "home", self.server.backend)
            return int(home.restore("--dry-run", "--no-upgrade")["exit_code"])
        except ProjectError as error:
            return error.exit_code

    def use(self):
        """The exit code of every verb. None reads or changes anything outside; a traceback has no exit code."""
        before = self.outside_state()
        codes = {"restore": self.restore(), **{verb: self.server.job(verb)[0] for verb in VERBS}}
        assert self.outside_state() == before
        return codes


# Files


def content(data):
    return lambda path: path.write_bytes(data)


def sparse(size):
    return lambda path: (path.touch(), os.truncate(path, size))


def socket_file(path):
    """Its path may be longer than a socket's can be."""
    with socket.socket(socket.AF_UNIX) as created:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            created.bind(f"/proc/self/fd/{folder}/{path.name}"[-100:])
        finally:
            os.close(folder)


KINDS = {
    "a pipe": os.mkfifo,
    "a socket": socket_file,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a folder": lambda path: (path.mkdir(), (path / "x").write_text("x")),
    "huge": sparse(1 << 40),
    "more than any": sparse(16 * MiB + 1),
    "deep": content(b"[" * 200_000),
    "deep within": content(b'{"damaged":' * 100_000),
}


def nested(levels, times):
    """A small JSON file that is large with its indentation."""
    return b'{"a":[' + b",".join([b"[" * levels + b"]" * levels] * times) + b'],"digest":"x"}'


# Changes


def replaced(name, make):
    def change(hostile):
        path = hostile.path(name)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)

    return change


def of_every_kind(*names):
    return {f"{name}: {kind}": replaced(name, make) for kind, make in KINDS.items() for name in names}


def linked(name):
    return lambda hostile: hostile.link(hostile.path(name))


def forged(**changes):
    """Values of the manifest, or functions of the present values."""
    return lambda hostile: hostile.forge(
        **{name: value(hostile.read()[name]) if callable(value) else value for name, value in changes.items()}
    )


def forged_artifacts(**changes):
    return lambda hostile: hostile.forge_artifacts(**changes)


def listed(*blobs):
    return lambda hostile: hostile.forge_lists(*blobs)


def entry(**changes):
    line = {"p": "a", "s": 0, "d": hashlib.sha256().hexdigest(), "m": 1, **changes}
    return listed(json.dumps(line).encode() + b"\n")


def entry_part(**changes):
    part = {"offset": 0, "length": 5, "total": 5, **changes}
    return entry(s=part["length"], d=SHA, o=[["b" * 64, *part.values()]])


LONG_LINE = listed(b'{"p":' + b"[" * 6, *[b"[[]]," * (8 * MiB // 5)] * 7)  # 56 MiB
