"""Unpack uploaded archives safely, and pack them as AE5 serves them."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlflow_ae5_deploy.common.members import BrokenArchive, Limits, Member, TooMuch, damage_reported, leads_to, walk
from mlflow_ae5_deploy.sandbox.errors import bad

PROJECT_FILE = "anaconda-project.yml"


def unpack(archive: Path, target: Path) -> None:
    """Unpack an uploaded archive; `target` becomes its single top folder.

    Raises ApiError 400 for anything else, and for entries that would leave that folder. Blocking.
    """
    raw = target.with_name(target.name + ".unpacking")
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(mode=0o700, parents=True)
    try:
        with archive.open("rb") as file:
            _write(walk(file, Limits()), raw)
        top = _single_top(raw)
        if not (top / PROJECT_FILE).is_file():
            raise bad(f"The project archive has no {PROJECT_FILE} in its top directory")
        shutil.rmtree(target, ignore_errors=True)
        top.rename(target)
    except TooMuch as error:
        raise bad(f"The project archive {error}") from error
    except (BrokenArchive, OSError, ValueError) as error:  # ValueError: a NUL in a name
        raise bad("The project archive cannot be read") from error
    finally:
        shutil.rmtree(raw, ignore_errors=True)


def _write(members: Iterator[Member], target: Path) -> None:
    """Write the members, links last, so that nothing is written through one."""
    links: list[Member] = []
    for member in members:
        if not _is_safe(member):
            raise bad(f"Unsafe entry in the project archive: {member.name}")
        path = target / member.name
        if member.kind == "folder":
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if member.kind == "file":
            with damage_reported(), member.read() as stream, path.open("xb") as out:
                shutil.copyfileobj(stream, out)
            path.chmod((member.mode & 0o755) | 0o600)
        else:
            links.append(member)
    for link in (link for link in links if link.kind == "hardlink"):
        os.link(target / link.target, target / link.name, follow_symlinks=False)
    for link in (link for link in links if link.kind == "symlink"):
        (target / link.name).symlink_to(link.target)


def _is_safe(member: Member) -> bool:
    """Whether a member is a file, a folder, or a link within the top folder."""
    parts = list(PurePosixPath(member.name).parts)
    if member.kind == "other" or member.name.startswith("/") or ".." in parts:
        return False
    return member.kind in ("file", "folder") or leads_to(parts, member.kind, member.target) is not None


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


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
