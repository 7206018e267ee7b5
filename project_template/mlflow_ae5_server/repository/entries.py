"""Entries of a file list: a line of JSON per name, in the order of path bytes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mlflow_ae5_server.common import json_input
from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, SnapshotDamaged
from mlflow_ae5_server.repository.blob_types import LIMIT, is_digest
from mlflow_ae5_server.restore.saved_copies import RESERVED

MAX_PARTS = 250_000  # of a file, of LIMIT bytes each: 2 TB
_NO_NAMES = frozenset({"", ".", ".."})
_SHORT = 64 * 1024  # bytes: so short a line needs no further limits
_decode = json.JSONDecoder().raw_decode  # in half the time of json.loads, which counts for millions of lines
_MAX_PATH = 4095  # bytes of a path, or of the target of a link: no file system takes more


class FilePart(NamedTuple):
    """`length` bytes at `offset` of a blob."""

    sha256: str
    offset: int
    length: int
    total: int  # plain size of the blob; of a pack, more than `length`


class FileEntry(NamedTuple):
    path: str
    """Relative to the root of the artifacts; bytes that are not UTF-8 as surrogate escapes (PEP 383)."""
    kind: str
    """"file", "link" (symbolic) or "special" (a device, socket or pipe: recorded, never opened)."""
    size: int
    sha256: str
    """Of the whole content, which is the parts one after another."""
    mtime_ns: int
    mark: str
    """Identifies an unchanged file: size, mtime_ns, ctime_ns and inode, or the etag; "" if it changed meanwhile."""
    parts: tuple[FilePart, ...]
    target: str = ""
    """Of a link."""


def key(path: str) -> bytes:
    """The sort key of the file list."""
    return path.encode("utf-8", "surrogateescape")


def text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def line(entry: FileEntry) -> bytes:
    """Serialize `entry` as one line. The same entry always gives the same bytes."""
    path = json.dumps(entry.path)
    if entry.kind == "link":
        return f'{{"p":{path},"l":{json.dumps(entry.target)}}}\n'.encode("ascii")
    if entry.kind == "special":
        return f'{{"p":{path},"x":1}}\n'.encode("ascii")
    mark = f',"k":{json.dumps(entry.mark)}' if entry.mark else ""
    # One blob that is the file and nothing else, or none for no bytes, goes without saying.
    is_whole = not entry.parts or (len(entry.parts) == 1 and entry.parts[0].sha256 == entry.sha256)
    parts = "" if is_whole else f',"o":[{",".join(map(_part, entry.parts))}]'
    data = f'{{"p":{path},"s":{entry.size},"d":"{entry.sha256}","m":{entry.mtime_ns}{mark}{parts}}}\n'
    return data.encode("ascii")


def _part(part: FilePart) -> str:
    if part.offset == 0 and part.total == part.length:
        return f'["{part.sha256}",{part.length}]'
    return f'["{part.sha256}",{part.offset},{part.length},{part.total}]'


def parse(data: bytes) -> FileEntry:
    """The entry in a line. Raises SnapshotDamaged for what `line` would not write."""
    try:
        found = _decoded(data.decode("ascii"))
        path = found["p"]
        if "l" in found:
            return _safe(FileEntry(path, "link", 0, "", 0, "", (), found["l"]))
        if "x" in found:
            return _safe(FileEntry(path, "special", 0, "", 0, "", ()))
        size, digest = found["s"], found["d"]
        if "o" in found:
            parts = tuple(FilePart(p[0], 0, p[1], p[1]) if len(p) == 2 else FilePart(*p) for p in found["o"])
        else:
            parts = (FilePart(digest, 0, size, size),) if size else ()
        return _safe(FileEntry(path, "file", size, digest, found["m"], found.get("k", ""), parts))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise SnapshotDamaged("the list of artifacts has a malformed line", ANOTHER_SNAPSHOT) from None


def _decoded(text: str) -> Any:
    if len(text) >= _SHORT:
        return json_input.parse(text)
    found, end = _decode(text)
    if text[end:].strip():
        raise ValueError("more than an object")
    return found


def _safe(entry: FileEntry) -> FileEntry:
    """`entry`, if its path stays within the folder; else ValueError."""
    if not _is_path(entry.path) or not _NO_NAMES.isdisjoint(entry.path.split("/")) or entry.path.startswith(RESERVED):
        raise ValueError("path")
    if entry.kind == "link" and not _is_path(entry.target):
        raise ValueError("target")
    if entry.kind == "file" and not _is_consistent(entry):
        raise ValueError("content")
    return entry


def _is_path(text: object) -> bool:
    return isinstance(text, str) and "\0" not in text and 0 < len(key(text)) <= _MAX_PATH


def _is_consistent(entry: FileEntry) -> bool:
    if not type(entry.size) is type(entry.mtime_ns) is int or not -(2**63) <= entry.mtime_ns < 2**63:
        return False
    if not is_digest(entry.sha256) or not isinstance(entry.mark, str):
        return False
    size = 0
    for sha256, offset, length, total in entry.parts:
        if not type(offset) is type(length) is type(total) is int or not is_digest(sha256):
            return False
        if offset < 0 or not 0 < length <= total - offset or total > LIMIT:
            return False
        size += length
    return size == entry.size
