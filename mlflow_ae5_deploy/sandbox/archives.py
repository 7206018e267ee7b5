"""Opening what people upload, without trusting it, and keeping it the way AE5 hands it out again."""

from __future__ import annotations

import gzip
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ApiError, bad

MAX_UNPACKED_BYTES = 4 << 30
PROJECT_FILE = "anaconda-project.yml"


def unpack(archive: Path, target: Path) -> None:
    """Unpack an uploaded archive (tar, tar.gz, tar.bz2, tar.xz, zip) so that `target` is its single top folder.

    Raises ApiError 400 for anything else, and for entries that would leave that folder. Blocking.
    """
    raw = target.with_name(target.name + ".unpacking")
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(mode=0o700, parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, raw)
        else:
            _unpack_tar(archive, raw)
        top = _single_top(raw)
        if not (top / PROJECT_FILE).is_file():
            raise bad(f"The project archive has no {PROJECT_FILE} in its top directory")
        shutil.rmtree(target, ignore_errors=True)
        top.rename(target)
    finally:
        shutil.rmtree(raw, ignore_errors=True)


def _unpack_tar(archive: Path, target: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                if not _is_safe(member):
                    raise bad(f"Unsafe entry in the project archive: {member.name}")
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                member.mode = (member.mode & 0o755) | (0o700 if member.isdir() else 0o600)
            if sum(m.size for m in members) > MAX_UNPACKED_BYTES:
                raise bad("The project archive unpacks to more than 4 GiB")
            # Python 3.11.0 to 3.11.3 have no filters; every entry was checked above, and is once more where they exist.
            filters: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(target, members=members, **filters)  # noqa: S202
    except (tarfile.TarError, EOFError, OSError, gzip.BadGzipFile) as error:
        raise bad("The project archive cannot be read") from error


def _is_safe(member: tarfile.TarInfo) -> bool:
    """A file, a folder, or a link within the archive; nothing that leaves it by name or by target."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return False
    if member.issym() or member.islnk():
        target = PurePosixPath(member.linkname)
        if target.is_absolute():
            return False
        # A symbolic link starts at its own folder, a hard link at the archive's root.
        parts = posixpath.normpath(str(path.parent / target if member.issym() else target)).split("/")
        return ".." not in parts
    return member.isfile() or member.isdir()


def _unpack_zip(archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                path = PurePosixPath(info.filename)
                if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(info.external_attr >> 16):
                    raise bad(f"Unsafe entry in the project archive: {info.filename}")
            if sum(i.file_size for i in file.infolist()) > MAX_UNPACKED_BYTES:
                raise bad("The project archive unpacks to more than 4 GiB")
            file.extractall(target)  # noqa: S202 - every entry was checked above
            for info in file.infolist():
                mode = stat.S_IMODE(info.external_attr >> 16)
                if mode and not info.is_dir():
                    (target / info.filename).chmod(mode | stat.S_IRUSR | stat.S_IWUSR)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        raise bad("The project archive cannot be read") from error


def _single_top(folder: Path) -> Path:
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        raise bad("A valid project archive contains only one project directory")
    return entries[0]


def pack(folder: Path, target: Path, top: str) -> None:
    """Write `folder` as a gzipped tarball whose only top folder is `top`. Blocking."""
    temporary = target.with_name(f".{target.name}.tmp")
    with tarfile.open(temporary, "w:gz") as tar:
        tar.add(folder, arcname=top, filter=_anonymous)
    temporary.replace(target)


def unpack_own(archive: Path, target: Path) -> None:
    """Unpack an archive that `pack` wrote. Blocking."""
    try:
        unpack(archive, target)
    except ApiError as error:
        raise RuntimeError(f"the stored archive {archive.name} is damaged: {error.reason}") from error


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
