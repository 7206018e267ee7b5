"""Build the archive that is uploaded: a customised release with its provenance.

Order: the release's files, the overlay, then the changes to `anaconda-project.yml`. Same input, same bytes: entries
are sorted, with one fixed time and no owner. The finished archive is read back before it gets its name.
"""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.common.files import private_folder, storage_errors
from mlflow_ae5_deploy.config.checks import is_confidential
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import FileEntry, ProjectContents, read_project_archive, sha256_of
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.release.models import BuiltArchive, Release
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, read_project_file
from mlflow_ae5_deploy.release.provenance import PROVENANCE_FILE, SCHEMA, digest_content, recorded_in, to_json
from mlflow_ae5_deploy.release.tree import Tree, collect, refuse_large_content

TOP = "mlflow.tracking.server"  # AE5 renames the top folder anyway
_LOCK_FILE = "anaconda-project-lock.yml"
_PLACEHOLDERS = ("", "unset")  # releases' defaults for "no value": AE5 does not start while a variable has none
_TIME = 315_532_800  # 1980-01-01 UTC, the earliest time of zip files


def build(release: Release, slipstream: SlipstreamSettings, destination: Path) -> BuiltArchive:
    """Write the archive to `destination` (0600).

    Raises ReleaseRefused or Configuration, and then leaves no file.
    """
    if slipstream.overlay is not None and not slipstream.overlay.is_dir():
        raise Configuration("The overlay is not a folder, or does not exist.", where=f"overlay {slipstream.overlay}")
    private_folder(destination.parent)
    with (
        storage_errors("write the archive", destination),
        TemporaryDirectory(dir=destination.parent, prefix=".slipstream-") as name,
    ):
        work = Path(name)
        tree, origin = _lay_out(release, slipstream, work)
        content = _edited(tree, slipstream, str(release.path))
        total = sum(len(source) if isinstance(source, bytes) else source.stat().st_size for source in content.values())
        refuse_large_content(total, "the release and the overlay", slipstream.overlay or release.path)
        files = {path: (_entry(source), source) for path, source in content.items()}
        provenance = _provenance(origin, tree.changes, {path: entry for path, (entry, _) in files.items()})
        record = to_json(provenance)
        files[PROVENANCE_FILE] = (_entry(record), record)
        unfinished = work / "unfinished.tar.gz"
        _pack(unfinished, TOP, files)
        read_back = _read_back(unfinished, {path: entry for path, (entry, _) in files.items()})
        built = BuiltArchive(
            path=destination,
            sha256=sha256_of(unfinished),
            content_digest=str(provenance["content_digest"]),
            size=unfinished.stat().st_size,
            provenance=provenance,
            commands=read_back.commands,
            env_specs=read_back.env_specs,
            changes=tuple(tree.changes),
            warnings=tuple(tree.warnings),
            variables=frozenset(slipstream.variables),
        )
        os.replace(unfinished, destination)  # noqa: PTH105 - the atomic one, by its usual name
    return built


def _lay_out(release: Release, slipstream: SlipstreamSettings, work: Path) -> tuple[Tree, Mapping[str, Any]]:
    """The release's files, replaced by the overlay's; and the release, as the provenance names it.

    The archive of an installed project is the release that it was made from, with the customizations of then.
    """
    folder = release.path
    if not folder.is_dir():
        folder = work / "release"
        read_project_archive(release.path, extract_to=folder)
    tree = collect(folder, "the release")
    origin: Mapping[str, Any] = {name: getattr(release, name) for name in ("kind", "version", "source", "sha256")}
    if (earlier := recorded_in(folder, tree.files)) is not None:
        origin, tree.changes = earlier["release"], [str(line) for line in earlier["changes"]]
    if slipstream.overlay is not None:
        overlay = collect(slipstream.overlay, "the overlay")
        tree.changes += overlay.changes
        tree.warnings += overlay.warnings
        for path, source in overlay.files.items():
            verb = "replaced" if path in tree.files else "added"
            if path not in tree.files or not filecmp.cmp(tree.files[path], source, shallow=False):
                tree.changes.append(f"file {path}: {verb} (overlay)")
            tree.files[path] = source
    _refuse_file_as_folder(tree, slipstream)
    return tree, origin


def _refuse_file_as_folder(tree: Tree, slipstream: SlipstreamSettings) -> None:
    for path in tree.files:
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if (above := "/".join(parents[:depth])) in tree.files:
                raise Configuration(
                    f"{above!r} would be both a file and a folder.", where=f"overlay {slipstream.overlay}"
                )


def _edited(tree: Tree, slipstream: SlipstreamSettings, where: str) -> dict[str, Path | bytes]:
    """Content by path, with the edited project file. Adds to the tree's changes."""
    content: dict[str, Path | bytes] = dict(tree.files)
    if PROJECT_FILE not in content:
        raise ReleaseRefused(f"The release holds no {PROJECT_FILE}.", where=where)
    data = tree.files[PROJECT_FILE].read_bytes()
    read_project_file(data, where)  # before the edit, so that its own faults are reported as such
    if slipstream.variables or slipstream.dependencies or slipstream.channels or slipstream.commands:
        from mlflow_ae5_deploy.release.edit import edit_project_file

        data, changes = edit_project_file(data, slipstream, where)
        tree.changes += changes
        content[PROJECT_FILE] = data
        if (slipstream.dependencies or slipstream.channels) and _LOCK_FILE in content:
            del content[_LOCK_FILE]
            tree.changes.append(f"{_LOCK_FILE}: left out (it does not fit the changed packages)")
    project = read_project_file(data, where)
    for name, default in project.variables.items():
        refuse_secret(name, default or "")
    for name, value in slipstream.variables.items():
        if project.variables.get(name) != str(value):
            raise RuntimeError(f"variable {name} was not written as requested")
    return content


def _entry(source: Path | bytes) -> FileEntry:
    if isinstance(source, bytes):
        return FileEntry(0o644, len(source), hashlib.sha256(source).hexdigest())
    status = source.stat()
    return FileEntry(0o755 if status.st_mode & 0o111 else 0o644, status.st_size, sha256_of(source))


def _provenance(release: Mapping[str, Any], changes: list[str], files: Mapping[str, FileEntry]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "release": dict(release),
        "changes": list(changes),
        "tool": f"mlflow-ae5-deploy {bundled_version()}",
        "files": {path: entry.sha256 for path, entry in sorted(files.items())},
        "content_digest": digest_content(files),
    }


def _read_back(archive: Path, expected: Mapping[str, FileEntry]) -> ProjectContents:
    """Read the finished archive and compare it with what was to be written."""
    contents = read_project_archive(archive)
    if contents.top != TOP or dict(contents.files) != dict(expected):
        raise RuntimeError("the archive does not read back as it was written")
    return contents


def refuse_secret(name: str, value: str) -> None:
    """Raise Configuration for a default that may be a secret, without repeating it."""
    if value not in _PLACEHOLDERS and is_confidential(name, value):
        raise Configuration(
            "The value looks like a secret, and everybody with access to the project could read it.",
            where=f"variable {name}",
            remedy=f"Move it to server.secrets, as a reference (named {name}).",
        )


def _pack(target: Path, top: str, files: Mapping[str, tuple[FileEntry, Path | bytes]]) -> None:
    """Write `target` (.tar.gz). files: entries and content by path below `top`."""
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
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
                    tar.addfile(_info(name, tarfile.REGTYPE, entry.mode, entry.size), stream)
    target.chmod(0o600)


def _info(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    info.size = size
    info.mtime = _TIME
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
