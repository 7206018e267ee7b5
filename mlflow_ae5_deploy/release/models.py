"""A release, and how to fetch one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GITHUB_API = "https://api.github.com/repos/anaconda/mlflow-tracking-server"

ReleaseKind = Literal["bundled", "version", "path", "url"]
Checked = Literal["given", "recorded", "first-use", "announced", "none"]


@dataclass(frozen=True)
class Release:
    """A release at hand.

    source: where it is from, without userinfo and query of a URL, without folders of a path.
    path: a folder for the bundled template, an archive file otherwise. sha256: of that file; None for a folder.
    checked: what the checksum was compared with: `given` by the user, `recorded` on an earlier use, `first-use`
    (recorded now, compared from now on), `announced` (by the place it is from, and not recorded), or `none` (nothing
    to compare with, and not recorded).
    """

    kind: ReleaseKind
    version: str | None
    source: str
    path: Path
    sha256: str | None
    checked: Checked


@dataclass(frozen=True)
class FetchSettings:
    """mirror: base URL, or local folder, that replaces GitHub (see `catalogue`). sha256: what the archive must have.

    ca_file: PEM file of the authorities to trust. Times in seconds; deadline: of one `obtain` altogether.
    offline: no request is made. record: whether the cache may be written; without it no checksum is recorded, no
    folder or lock made, nothing damaged removed, and an archive that would have to be downloaded is Unreachable.
    """

    cache_dir: Path
    mirror: str | None = None
    sha256: str | None = None
    ca_file: Path | None = None
    connect_timeout: float = 10
    read_timeout: float = 60
    deadline: float = 1800
    offline: bool = False
    record: bool = True
    github_api: str = GITHUB_API
