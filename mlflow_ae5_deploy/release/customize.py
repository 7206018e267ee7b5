"""Making the archive that is uploaded: a release, customised, deterministic to the byte, with its provenance inside.

Order: the release's files, the overlay on top, then the changes to `anaconda-project.yml`. The finished archive is
read again by the same reader that judges foreign ones, and only then takes its name.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused
from mlflow_ae5_deploy.release.archive import FileEntry, ProjectContents, read_project_archive
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.release.customization import Customization, check, refuse_secret
from mlflow_ae5_deploy.release.edit import edit_project_file
from mlflow_ae5_deploy.release.files import private_folder, sha256_of, storage_errors
from mlflow_ae5_deploy.release.models import Release
from mlflow_ae5_deploy.release.pack import pack
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE, read_project_file
from mlflow_ae5_deploy.release.provenance import PROVENANCE_FILE, SCHEMA, digest_content, to_json
from mlflow_ae5_deploy.release.tree import Tree, collect, refuse_large_content

__all__ = ["TOP", "BuiltArchive", "Customization", "build"]

TOP = "mlflow.tracking.server"  # AE5 renames the top folder anyway
_LOCK_FILE = "anaconda-project-lock.yml"


@dataclass(frozen=True)
class BuiltArchive:
    """sha256 is of the archive's bytes, content_digest of its files (see provenance). changes: human sentences."""

    path: Path
    sha256: str
    content_digest: str
    size: int
    provenance: Mapping[str, Any]
    commands: tuple[str, ...]
    env_specs: tuple[str, ...]
    changes: tuple[str, ...]


def build(release: Release, customisation: Customization, destination: Path) -> BuiltArchive:
    """Write the archive to `destination` (a file, 0600). Raises ReleaseRefused or Configuration, and then leaves
    nothing behind.
    """
    check(customisation)
    private_folder(destination.parent)
    with (
        storage_errors("write the archive", destination),
        TemporaryDirectory(dir=destination.parent, prefix=".slipstream-") as name,
    ):
        work = Path(name)
        tree = _lay_out(release, customisation, work)
        content = _edited(tree, customisation, str(release.path))
        total = sum(len(source) if isinstance(source, bytes) else source.stat().st_size for source in content.values())
        refuse_large_content(total, "the release and the overlay", customisation.overlay or release.path)
        files = {path: (_entry(source), source) for path, source in content.items()}
        provenance = _provenance(release, tree.changes, {path: entry for path, (entry, _) in files.items()})
        record = to_json(provenance)
        files[PROVENANCE_FILE] = (_entry(record), record)
        unfinished = work / "unfinished.tar.gz"
        pack(unfinished, TOP, files)
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
        )
        os.replace(unfinished, destination)  # noqa: PTH105 - the atomic one, by its usual name
    return built


def _lay_out(release: Release, customisation: Customization, work: Path) -> Tree:
    """The release's files with the overlay's in their place."""
    folder = release.path
    if not folder.is_dir():
        folder = work / "release"
        read_project_archive(release.path, extract_to=folder)
    tree = collect(folder, "the release")
    if customisation.overlay is not None:
        overlay = collect(customisation.overlay, "the overlay")
        tree.changes += overlay.changes
        for path, source in overlay.files.items():
            verb = "replaced" if path in tree.files else "added"
            if path not in tree.files or not filecmp.cmp(tree.files[path], source, shallow=False):
                tree.changes.append(f"File {path} was {verb} (overlay).")
            tree.files[path] = source
    _refuse_file_as_folder(tree, customisation)
    return tree


def _refuse_file_as_folder(tree: Tree, customisation: Customization) -> None:
    for path in tree.files:
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if (above := "/".join(parents[:depth])) in tree.files:
                raise Configuration(
                    f"{above!r} would be both a file and a folder.", where=f"overlay {customisation.overlay}"
                )


def _edited(tree: Tree, customisation: Customization, where: str) -> dict[str, Path | bytes]:
    """Content by path, with `anaconda-project.yml` as it shall be. Adds to the tree's changes."""
    content: dict[str, Path | bytes] = dict(tree.files)
    if PROJECT_FILE not in content:
        raise ReleaseRefused(f"The release holds no {PROJECT_FILE}.", where=where)
    data = tree.files[PROJECT_FILE].read_bytes()
    read_project_file(data, where)  # before the edit, so that the release gets the blame for its own faults
    if customisation.edits_project_file:
        data, changes = edit_project_file(data, customisation, where)
        tree.changes += changes
        content[PROJECT_FILE] = data
        if (customisation.dependencies or customisation.channels) and _LOCK_FILE in content:
            del content[_LOCK_FILE]
            tree.changes.append(f"{_LOCK_FILE} was left out: it does not fit the changed dependencies.")
    project = read_project_file(data, where)
    for name, default in project.variables.items():
        refuse_secret(name, default or "")
    for name, value in customisation.variables.items():
        if project.variables.get(name) != str(value):
            raise RuntimeError(f"variable {name} was not written as it was asked for")
    return content


def _entry(source: Path | bytes) -> FileEntry:
    if isinstance(source, bytes):
        return FileEntry(0o644, len(source), hashlib.sha256(source).hexdigest())
    status = source.stat()
    return FileEntry(0o755 if status.st_mode & 0o111 else 0o644, status.st_size, sha256_of(source))


def _provenance(release: Release, changes: list[str], files: Mapping[str, FileEntry]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "release": {
            "kind": release.kind,
            "version": release.version,
            "source": release.source,
            "sha256": release.sha256,
        },
        "changes": list(changes),
        "tool": f"mlflow-ae5-deploy {bundled_version()}",
        "files": {path: entry.sha256 for path, entry in sorted(files.items())},
        "content_digest": digest_content(files),
    }


def _read_back(archive: Path, expected: Mapping[str, FileEntry]) -> ProjectContents:
    """Read the finished archive and compare it with what was to be written."""
    contents = read_project_archive(archive)
    if contents.top != TOP or dict(contents.files) != dict(expected):
        raise RuntimeError("the archive that was written does not read back as it was meant")
    return contents
