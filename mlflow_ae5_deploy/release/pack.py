"""Writing a project archive whose bytes depend on nothing but the files: sorted, one fixed time, no owner."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mlflow_ae5_deploy.release.archive import FileEntry

_TIME = 315_532_800  # 1980-01-01 UTC, the earliest that zip tools understand as well


def pack(target: Path, top: str, files: Mapping[str, tuple[FileEntry, Path | bytes]]) -> None:
    """Write `target` (.tar.gz). `files` maps paths below `top` to their entries and content."""
    folders = {top}
    for path in files:
        parts = path.split("/")[:-1]
        folders.update("/".join([top, *parts[: depth + 1]]) for depth in range(len(parts)))
    names = sorted([*folders, *(f"{top}/{path}" for path in files)])
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            if name in folders:
                tar.addfile(_info(name, tarfile.DIRTYPE, 0o755, 0))
            else:
                entry, content = files[name.partition("/")[2]]
                with _open(content) as stream:
                    tar.addfile(_info(name, tarfile.REGTYPE, entry.mode, entry.size), stream)
    target.chmod(0o600)


def _open(content: Path | bytes) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _info(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.size = size
    info.mtime = _TIME
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
