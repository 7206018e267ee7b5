"""Read a project archive, and refuse one that cannot be unpacked safely.

AE5 requires exactly one top folder with an `anaconda-project.yml`. Links to files inside that folder are read as
copies of those files, and count as such; every other link is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.files import storage_errors
from mlflow_ae5_deploy.common.members import BrokenArchive, Kind, Limits, Member, damage_reported, leads_to, walk
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.common.yaml_limits import MAX_BYTES
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, read_project_file

_CHUNK = 1 << 16
_DEEPEST_LINK = 40


@dataclass(frozen=True)
class FileEntry:
    mode: int  # 0o755 or 0o644
    size: int
    sha256: str


@dataclass(frozen=True)
class ProjectContents:
    """A checked archive. files: sorted paths below the top folder."""

    top: str
    files: Mapping[str, FileEntry]
    commands: tuple[str, ...]
    env_specs: tuple[str, ...]
    variables: Mapping[str, str | None]


@dataclass
class ArchiveSummary:
    """Result of one pass: entries below the top folder, links not yet followed."""

    top: str = ""
    kinds: dict[str, Kind] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    links: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)


def read_project_archive(
    path: Path, extract_to: Path | None = None, *, limits: Limits | None = None, called: str | None = None
) -> ProjectContents:
    """Check an archive from end to end, then write its files to `extract_to`, if any.

    Raises ReleaseRefused naming the file and the entry, before anything is written; Configuration when the file
    cannot be read. `called`: how messages name the file, if not by its path.
    """
    limits = limits or Limits()
    where = called or str(path)
    with _refusals(where), open_regular(path) as file:
        survey = survey_members(walk(file, limits), where, keep={PROJECT_FILE: MAX_BYTES + 1})
        sources = follow_links(survey, where)
        total = 0
        for entry_path, entry in survey.files.items():  # copies behind links included
            total += entry.size
            limits.check(total, entry_path)
        if PROJECT_FILE not in survey.kept:
            raise _no_project_file(survey, where)
        project = read_project_file(survey.kept[PROJECT_FILE], f"{where}: {survey.top}/{PROJECT_FILE}")
        if extract_to is not None:
            file.seek(0)
            with storage_errors("unpack the release", extract_to):
                _extract(walk(file, limits), sources, extract_to, where)
    return ProjectContents(
        top=survey.top,
        files=dict(sorted(survey.files.items())),
        commands=project.commands,
        env_specs=project.env_specs,
        variables=project.variables,
    )


def survey_members(members: Iterator[Member], where: str, *, keep: Mapping[str, int]) -> ArchiveSummary:
    """Check every path and hash every file, in one pass.

    keep: files to return, and their largest size in bytes.
    """
    survey = ArchiveSummary()
    for member in members:
        parts = safe_parts(member.name, where)
        if not parts:
            continue
        if survey.top and parts[0] != survey.top:
            raise ReleaseRefused(
                f"The archive has two top folders, {survey.top!r} and {parts[0]!r}; AE5 takes exactly one.",
                where=where,
                remedy="Pack the one folder that holds the project: tar czf project.tar.gz <folder>",
            )
        survey.top = parts[0]
        if len(parts) == 1:
            if member.kind != "folder":
                raise ReleaseRefused(f"Entry {member.name!r} is outside of the one top folder.", where=where)
            continue
        _note(survey, "/".join(parts[1:]), member, where, keep)
    _check_parents(survey, where)
    if not survey.top:
        raise ReleaseRefused("The archive is empty.", where=where)
    return survey


def safe_parts(name: str, where: str) -> list[str]:
    """The parts of a stored path. ReleaseRefused for one that may leave its folder."""
    problem = ""
    if not name.isprintable():
        problem = "has a name with control or undecodable characters"
    elif name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        problem = "has an absolute path"
    elif "\\" in name:
        problem = "has a backslash in its path"
    elif ".." in name.split("/"):
        problem = "has '..' in its path"
    if problem:
        raise ReleaseRefused(f"Entry {name!r} {problem}.", where=where, remedy="Do not use this archive.")
    return [part for part in name.split("/") if part not in ("", ".")]


def _note(survey: ArchiveSummary, path: str, member: Member, where: str, keep: Mapping[str, int]) -> None:
    earlier = survey.kinds.get(path)
    if earlier is not None and not earlier == member.kind == "folder":
        raise ReleaseRefused(f"Entry {member.name!r} is in the archive twice.", where=where)
    if member.kind == "other":
        raise ReleaseRefused(
            f"Entry {member.name!r} is a device, a pipe or something else that is not a file.", where=where
        )
    survey.kinds[path] = member.kind
    if member.kind in ("symlink", "hardlink"):
        survey.links[path] = (member.kind, member.target)
    elif member.kind == "file":
        survey.files[path], content = _hash(member, keep.get(path, 0))
        if path in keep:
            survey.kept[path] = content


def _hash(member: Member, keep: int) -> tuple[FileEntry, bytes]:
    digest = hashlib.sha256()
    total = 0
    kept = bytearray()
    with damage_reported(), member.read() as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            total += len(chunk)
            kept += chunk[: keep - len(kept)]
    if total != member.size:
        raise BrokenArchive(f"is truncated or damaged ({member.name!r} has {total} of {member.size} bytes)")
    mode = 0o755 if member.mode & 0o111 else 0o644
    return FileEntry(mode, total, digest.hexdigest()), bytes(kept)


def _check_parents(survey: ArchiveSummary, where: str) -> None:
    checked: set[str] = set()
    for path in survey.kinds:
        parent = path
        while "/" in parent and (parent := parent.rpartition("/")[0]) not in checked:
            checked.add(parent)
            if survey.kinds.get(parent, "folder") != "folder":
                raise ReleaseRefused(
                    f"Entry {path!r} lies below {parent!r}, which is a link or a file, not a folder.", where=where
                )


def follow_links(survey: ArchiveSummary, where: str) -> dict[str, str]:
    """Resolve every link to the entry of its file.

    Returns path -> path of the stored file behind it.
    """
    sources = {path: path for path in survey.files}
    for link in survey.links:
        path = link
        for _ in range(_DEEPEST_LINK):
            if path not in survey.links:
                break
            path = _link_target(survey, path, where)
        if path not in sources:
            what = "a folder" if path in _folders(survey) else "nothing in the archive"
            raise ReleaseRefused(
                f"Link {link!r} leads to {what}; only links to files of the same folder are accepted.", where=where
            )
        sources[link] = sources[path]
    for link in survey.links:
        survey.files[link] = survey.files[sources[link]]
    return sources


def _link_target(survey: ArchiveSummary, link: str, where: str) -> str:
    kind, target = survey.links[link]
    found = leads_to([survey.top, *link.split("/")], kind, target)
    if found is None:
        raise ReleaseRefused(
            f"Link {link!r} leaves the project folder (it points to {target!r}).",
            where=where,
            remedy="Do not use this archive.",
        )
    return "/".join(found[1:])


def _folders(survey: ArchiveSummary) -> set[str]:
    found = {path for path, kind in survey.kinds.items() if kind == "folder"}
    for path in survey.kinds:
        parts = path.split("/")
        found.update("/".join(parts[:depth]) for depth in range(len(parts)))
    return found


def _no_project_file(survey: ArchiveSummary, where: str) -> ReleaseRefused:
    near = [path for path in sorted(survey.kinds) if path.rpartition("/")[2].startswith("anaconda-project.y")]
    hint = f" (there is {near[0]!r}, which AE5 does not look at)" if near else ""
    return ReleaseRefused(
        f"The archive's folder {survey.top!r} holds no {PROJECT_FILE}{hint}.",
        where=where,
        remedy="This is not a project archive of AE5; name another release.",
    )


def _extract(members: Iterator[Member], sources: Mapping[str, str], folder: Path, where: str) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for member in members:
        path = "/".join(safe_parts(member.name, where)[1:])
        if member.kind == "folder":
            (folder / path).mkdir(parents=True, exist_ok=True, mode=0o700)
        elif member.kind == "file":
            with damage_reported(), member.read() as stream:
                _write(folder / path, stream, member.mode)
    for link, source in sources.items():
        if link != source:
            (folder / link).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy(folder / source, folder / link)


def _write(target: Path, stream: IO[bytes], mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with target.open("xb") as out:
        shutil.copyfileobj(stream, out)
    target.chmod(0o700 if mode & 0o111 else 0o600)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, without waiting for a pipe or a device.

    Raises Configuration for anything else, OSError as `open` does.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise Configuration("The release is not a regular file.", where=str(path))


def refuse_large(archive_size: int, where: str) -> None:
    """Raise ReleaseRefused for an archive of more bytes than AE5 takes."""
    if archive_size > Limits().total:
        raise ReleaseRefused(f"The release is larger than {size(Limits().total)}.", where=where)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _refusals(where: str) -> Iterator[None]:
    try:
        yield
    except BrokenArchive as error:
        raise ReleaseRefused(
            f"The release {where.rpartition('/')[2]} {error}.",
            where=where,
            remedy="Fetch it again, or name another release.",
        ) from None
    except FileNotFoundError:
        raise Configuration("The release archive does not exist.", where=where) from None
    except OSError as error:
        raise Configuration(f"The release archive cannot be read: {error.strerror}.", where=where) from None
