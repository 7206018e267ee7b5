"""A release, how to fetch one, and the archive built from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

GITHUB_API = "https://api.github.com/repos/anaconda/mlflow-tracking-server"

ReleaseKind = Literal["bundled", "version", "path", "url"]
Checked = Literal["given", "recorded", "first-use", "announced", "none"]
"""What the checksum of a release was compared with: one given by the user, recorded on an earlier use, recorded now
(first-use), announced by its source and not recorded, or nothing."""


@dataclass(frozen=True)
class Release:
    kind: ReleaseKind
    version: str | None
    source: str  # without userinfo and query of a URL, without folders of a path
    path: Path  # a folder for the bundled template, else an archive
    sha256: str | None  # of the archive
    checked: Checked


@dataclass(frozen=True)
class FetchSettings:
    """Settings of a download. Times are in seconds."""

    cache_dir: Path
    mirror: str | None = None  # base URL or local folder instead of GitHub; see `versions`
    sha256: str | None = None  # required checksum of the archive
    ca_file: Path | None = None  # PEM file of further trusted authorities
    connect_timeout: float = 10
    read_timeout: float = 60
    deadline: float = 1800  # of one `obtain`
    offline: bool = False  # send no request
    record: bool = True  # False: the cache is read-only, and a release that is not in it is Unreachable
    github_api: str = GITHUB_API


@dataclass(frozen=True)
class BuiltArchive:
    path: Path
    sha256: str  # of the archive's bytes
    content_digest: str  # of its files; see `provenance`
    size: int
    provenance: Mapping[str, Any]
    commands: tuple[str, ...]
    env_specs: tuple[str, ...]
    changes: tuple[str, ...]  # customizations, a line each
    warnings: tuple[str, ...] = ()
    variables: frozenset[str] = frozenset()  # those whose value the configuration sets, in plain text
