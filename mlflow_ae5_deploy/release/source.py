"""Sources of a release: bundled, `latest`, a version, a path or a URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow_ae5_deploy.common.clock import Clock, Deadline
from mlflow_ae5_deploy.release.models import FetchSettings, Release


def latest_version(settings: FetchSettings, *, clock: Clock) -> str:
    """The version of `latest`, without fetching it. Raises as `obtain` does."""
    from mlflow_ae5_deploy.release.fetch import Fetcher

    return Fetcher(settings, Deadline(clock, settings.deadline), None).latest_version()


def obtain(
    desired: str,
    settings: FetchSettings,
    *,
    clock: Clock,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Release:
    """Obtain a release: `bundled`, `latest`, `X.Y.Z`, a path, or an https URL.

    A version or URL that is in the cache is taken from there without a request. `on_progress(bytes so far, bytes in
    all or None)` is called while something is fetched. Raises Configuration (no such version, path or address; disk
    full), ReleaseRefused (not an archive, wrong checksum), Unreachable, Denied or DeadlineExceeded.
    """
    from mlflow_ae5_deploy.release.fetch import Fetcher
    from mlflow_ae5_deploy.release.versions import VERSION  # what talks HTTP is imported when it is needed

    fetcher = Fetcher(settings, Deadline(clock, settings.deadline), on_progress)
    if desired == "bundled":
        return fetcher.bundled()
    if desired == "latest":
        return fetcher.version(fetcher.latest_version())
    if VERSION.fullmatch(desired.removeprefix("v")):
        return fetcher.version(desired.removeprefix("v"))
    if "://" in desired:
        return fetcher.url(desired)
    return fetcher.file(Path(desired).expanduser())
