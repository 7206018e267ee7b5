"""Collect the files of a folder for an archive: a release, or an overlay."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_errors
from mlflow_ae5_deploy.common.members import Limits
from mlflow_ae5_deploy.common.text import as_sentence, counted, size

PROVENANCE_FOLDER = ".mlflow-ae5-deploy"

# Made by tools and useless on the platform: left out silently.
_LITTER = {
    ".git",
    "__pycache__",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".DS_Store",
    PROVENANCE_FOLDER,
}

# Left out because they would do harm, and reported.
_LOCAL = {
    "envs": "environments are made on the platform",
    "anaconda-project-local.yml": "it holds settings, possibly secrets, of one machine",
}


@dataclass
class Tree:
    """files: path with `/` -> file. changes: lines on files left out. warnings: sentences on those with content."""

    files: dict[str, Path] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def collect(folder: Path, called: str) -> Tree:
    """Every file of a folder that belongs into the archive.

    called: the folder's name in messages.

    Links to files of the same folder are read as copies. Raises Configuration for links that leave the folder or
    lead to folders, and for what is not a file.
    """
    root = folder.resolve()
    tree = Tree()
    total = 0
    with storage_errors(f"read {called}", folder):
        _data_folder(root, tree, called)
        for path, entry in _walk(root, "", tree, called):
            file = _readable(root, path, entry, called)
            total += file.stat().st_size
            refuse_large_content(total, called, folder)
            tree.files[path] = file
    return tree


def refuse_large_content(total: int, called: str, where: Path) -> None:
    """Raise Configuration if `total` bytes, links included, are too many."""
    if total > Limits().total:
        raise Configuration(f"The files of {called} are larger than {size(Limits().total)} in all.", where=str(where))


def _walk(folder: Path, prefix: str, tree: Tree, called: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = prefix + entry.name
        if entry.name in _LITTER or entry.name.endswith((".pyc", ".egg-info")) or path == "data":
            continue
        reason = _LOCAL.get(path) or ("it is meant for secrets" if entry.name == ".env" else None)
        if reason:
            tree.changes.append(f"{path} of {called}: left out ({reason})")
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), path + "/", tree, called)
        else:
            yield path, entry


def _data_folder(root: Path, tree: Tree, called: str) -> None:
    """Leave `data` out: AE5 links it to the volume unless a folder is in the way."""
    data = root / "data"
    if not os.path.lexists(data):
        return
    inside = sorted(p.relative_to(root).as_posix() for p in data.rglob("*") if not p.is_dir()) if data.is_dir() else []
    if data.is_symlink() or not inside:
        tree.changes.append(f"data of {called}: left out (AE5 puts a link to the shared volume there)")
        return
    listed = ", ".join(inside[:3]) + (", ..." if len(inside) > 3 else "")
    left_out = f"data of {called}: left out, with {counted(len(inside), 'files')} in it ({listed})"
    tree.changes.append(left_out)
    tree.warnings.append(
        f"{as_sentence(left_out)} AE5 puts a link to the shared volume there. If the server needs these files, copy "
        "them to the volume."
    )


def _readable(root: Path, path: str, entry: os.DirEntry[str], called: str) -> Path:
    where = f"{root}/{path}"
    if not path.isprintable() or "\\" in path:
        raise Configuration(f"A file of {called} has a name that no archive can hold: {path!r}.", where=repr(where))
    file = Path(entry.path)
    if entry.is_symlink():
        try:
            file = file.resolve(strict=True)
        except (OSError, RuntimeError):
            raise Configuration(
                f"Link {path!r} of {called} is broken: its target does not exist.", where=where
            ) from None
        if not file.is_relative_to(root):
            raise Configuration(
                f"Link {path!r} of {called} leaves its folder.", where=where, remedy="Put a copy of the file there."
            )
        if file.is_dir():
            raise Configuration(f"Link {path!r} of {called} leads to a folder. Copy the folder instead.", where=where)
    if not stat.S_ISREG(file.stat().st_mode):
        raise Configuration(f"{path!r} of {called} is not a regular file.", where=where)
    return file
