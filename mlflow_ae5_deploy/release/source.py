"""Where a release comes from: bundled, `latest`, a version, a path or a URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow_ae5_deploy.common.clock import Clock, Deadline

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


def latest_version(settings: FetchSettings, *, clock: Clock) -> str:
    """The version that `latest` is now: asks GitHub or the mirror, and fetches no release. Raises as obtain does."""
    from mlflow_ae5_deploy.release.fetch import Fetcher

    return Fetcher(settings, Deadline(clock, settings.deadline), None).latest_version()


def obtain(
    wanted: str,
    settings: FetchSettings,
    *,
    clock: Clock,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Release:
    """Bring a release to hand: `bundled`, `latest`, `X.Y.Z`, a path, or an https URL.

    A version or URL that is in the cache is taken from there without a request. `on_progress(bytes so far, bytes in
    all or None)` is called while something is fetched. Raises Configuration (no such version, path or address; disk
    full), ReleaseRefused (not an archive, wrong checksum), Unreachable, Denied or DeadlineExceeded.
    """
    from mlflow_ae5_deploy.release.fetch import Fetcher
    from mlflow_ae5_deploy.release.versions import VERSION  # what talks HTTP is imported when it is needed

    fetcher = Fetcher(settings, Deadline(clock, settings.deadline), on_progress)
    if wanted == "bundled":
        return fetcher.bundled()
    if wanted == "latest":
        return fetcher.version(fetcher.latest_version())
    if VERSION.fullmatch(wanted.removeprefix("v")):
        return fetcher.version(wanted.removeprefix("v"))
    if "://" in wanted:
        return fetcher.url(wanted)
    return fetcher.file(Path(wanted).expanduser())
