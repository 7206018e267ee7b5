"""Fetch releases: bundled, from a file, a mirror, GitHub or a URL, with a cache."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mlflow_ae5_deploy.common.clock import Clock, Deadline
from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused, Unreachable
from mlflow_ae5_deploy.common.files import storage_errors
from mlflow_ae5_deploy.common.members import HEAD, describe_foreign, recognise
from mlflow_ae5_deploy.release.archive import open_regular, read_project_archive, refuse_large
from mlflow_ae5_deploy.release.bundled import bundled_version, template_dir
from mlflow_ae5_deploy.release.cache import Expectation, ReleaseCache
from mlflow_ae5_deploy.release.download import Progress, discard, download
from mlflow_ae5_deploy.release.http import HttpClient, NotThere, Timeouts, check_url, public_form
from mlflow_ae5_deploy.release.models import Checked, FetchSettings, Release, ReleaseKind
from mlflow_ae5_deploy.release.versions import (
    VERSION,
    Location,
    asset_name,
    in_folder,
    latest_in_folder,
    latest_on_github,
    latest_on_mirror,
    on_github,
    on_mirror,
    published_sha256,
    version_of,
)


def latest_version(settings: FetchSettings, *, clock: Clock) -> str:
    """The version of `latest`, without fetching it. Raises as `obtain` does."""
    return Fetcher(settings, Deadline(clock, settings.deadline), None).latest_version()


def obtain(
    desired: str,
    settings: FetchSettings,
    *,
    clock: Clock,
    on_progress: Progress | None = None,
) -> Release:
    """Obtain a release: `bundled`, `latest`, `X.Y.Z`, a path, or an https URL.

    A version or URL that is in the cache is taken from there without a request. `on_progress(bytes so far, bytes in
    all or None)` is called while something is fetched. Raises Configuration (no such version, path or address; disk
    full), ReleaseRefused (not an archive, wrong checksum), Unreachable, Denied or DeadlineExceeded.
    """
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


class Fetcher:
    def __init__(self, settings: FetchSettings, deadline: Deadline, on_progress: Progress | None) -> None:
        self.settings = settings
        self.deadline = deadline
        self.on_progress = on_progress
        self.given = _checksum(settings.sha256)
        self.mirror_folder = None
        if settings.mirror is not None and "://" not in settings.mirror:
            self.mirror_folder = Path(settings.mirror).expanduser()
        self._found: Location | None = None

    def bundled(self) -> Release:
        if self.given is not None:
            raise Configuration(
                "A checksum was given, but the bundled release is not an archive.",
                where="release bundled",
                remedy="Omit the checksum, or name its archive.",
            )
        folder = template_dir()
        return Release("bundled", bundled_version(folder), "bundled", folder, None, "none")

    def file(self, path: Path) -> Release:
        if path.is_dir():
            raise Configuration(
                "The release is a folder; an archive is needed.",
                where=str(path),
                remedy=_archive_in(path),
            )
        if not path.exists():
            raise Configuration(
                "The release does not exist.",
                where=str(path),
                remedy="A release is 'bundled', 'latest', a version (X.Y.Z), a path to an archive, or an https URL.",
            )
        actual = _archive_digest(path)
        if self.given not in (None, actual):
            raise ReleaseRefused(
                f"The release's SHA-256 is not the configured one: expected {self.given}, found {actual}.",
                where=str(path),
            )
        checked: Checked = "none" if self.given is None else "given"
        return Release("path", version_of(path.name), path.name, path.resolve(), actual, checked)

    def latest_version(self) -> str:
        if self.mirror_folder is not None:
            return latest_in_folder(self.mirror_folder)
        self._need_network("latest")
        with self._web() as web:
            if self.settings.mirror is not None:
                return latest_on_mirror(self.settings.mirror, web)
            self._found = latest_on_github(self.settings.github_api, web)
            return self._found.version

    def version(self, version: str) -> Release:
        name = asset_name(version)
        if self.mirror_folder is not None:
            return self._from_folder(self.mirror_folder / name, version)

        def locate(web: HttpClient) -> tuple[str, str | None]:
            if self.settings.mirror is not None:
                found = on_mirror(self.settings.mirror, version, web)
            else:
                found = self._found or on_github(self.settings.github_api, version, web)
            return found.url, found.sha256

        missing = f"The mirror has no release {version}." if self.settings.mirror is not None else ""
        return self._cached_or_fetched("version", version, name, self._origin(name), locate, missing)

    def url(self, url: str) -> Release:
        check_url(url, "the release")
        shown = public_form(url)
        base = re.sub(r"[^A-Za-z0-9._-]", "_", shown.rpartition("/")[2]) or "release"
        without_user = urlunsplit(urlsplit(url)._replace(netloc=urlsplit(shown).netloc, fragment=""))
        name = f"url-{hashlib.sha256(without_user.encode()).hexdigest()[:16]}-{base[-80:]}"
        return self._cached_or_fetched("url", version_of(base), name, shown, lambda _: (url, None))

    def _origin(self, name: str) -> str:
        if self.settings.mirror is not None:
            return f"{public_form(self.settings.mirror).rstrip('/')}/{name}"
        return f"{public_form(self.settings.github_api)}/releases: {name}"

    def _from_folder(self, path: Path, version: str) -> Release:
        if not path.is_file():
            there = ", ".join(reversed(in_folder(path.parent)[-5:])) or "none"
            raise Configuration(
                f"The mirror has no release {version}.", where=str(path), remedy=f"Versions in it: {there}."
            )
        actual = _archive_digest(path)
        expected = Expectation(self.given, published_sha256(path))
        checked = self._store().judge(path.name, actual, expected, str(path))
        return Release("version", version, f"mirror: {path.name}", path.resolve(), actual, checked)

    def _cached_or_fetched(
        self,
        kind: ReleaseKind,
        version: str | None,
        name: str,
        origin: str,
        locate: Callable[[HttpClient], tuple[str, str | None]],
        missing: str = "",
    ) -> Release:
        """Take a release from the cache, or fetch it.

        locate: returns URL and announced SHA-256; called only for a download.

        missing: what it means that the file is not at that URL.
        """
        store = self._store()
        with store.locked(name, self.deadline):
            stored = store.intact(name)
            if stored is not None and self.given in (None, stored):
                checked: Checked = "recorded" if self.given is None else "given"
                return Release(kind, version, origin, store.path(name), stored, checked)
            self._need_network(version or origin, stored, download=True)
            with self._web() as web:
                url, announced = locate(web)
                digest = self._fetch(web, url, store.part(name), public_form(url), missing)
                checked = self._accept(store, name, digest, Expectation(self.given, announced), public_form(url))
            return Release(kind, version, origin, store.path(name), digest, checked)

    def _store(self) -> ReleaseCache:
        return ReleaseCache(self.settings.cache_dir, read_only=not self.settings.record)

    def _fetch(self, web: HttpClient, url: str, part: Path, shown: str, missing: str) -> str:
        """SHA-256 of the finished download, which is a whole archive."""
        try:
            download(web, url, part, self.on_progress)
        except NotThere:
            raise Configuration(
                missing or "The server has no such file.",
                where=shown,
                remedy="Name a release that exists (--release latest takes the newest), or put this file there."
                if missing
                else "Check the address.",
            ) from None
        try:
            return _archive_digest(part, shown)
        except ReleaseRefused:
            discard(part)
            raise

    def _accept(self, store: ReleaseCache, name: str, digest: str, expected: Expectation, shown: str) -> Checked:
        part = store.part(name)
        try:
            if expected.given is None and store.recorded(name) is None:
                read_project_archive(part, called=shown)  # what is recorded as right must at least be whole
            checked = store.judge(name, digest, expected, shown)
        except ReleaseRefused:
            discard(part)
            raise
        with storage_errors("store the download", store.path(name)):
            os.replace(part, store.path(name))  # noqa: PTH105 - the atomic one, by its usual name
        return checked

    def _web(self) -> HttpClient:
        ca_file = self.settings.ca_file
        if ca_file is not None and not ca_file.is_file():
            raise Configuration("The file of certificate authorities does not exist.", where=str(ca_file))
        timeouts = Timeouts(self.settings.connect_timeout, self.settings.read_timeout)
        return HttpClient(self.deadline, timeouts, ca_file, self._way_out())

    def _way_out(self) -> str:
        cached_versions = self._store().versions()
        cached = f" In the cache: {', '.join(reversed(cached_versions[-5:]))}." if cached_versions else ""
        return (
            "Without internet access, name a mirror in the configuration (release.mirror), a downloaded archive "
            f"(--release PATH), or use the bundled release (--release bundled).{cached}"
        )

    def _need_network(self, what: str, stored: str | None = None, *, download: bool = False) -> None:
        if not self.settings.offline and (self.settings.record or not download):
            return
        found = f" (another one is, with SHA-256 {stored} instead of {self.given})" if stored else ""
        why = " (offline)" if self.settings.offline else ""
        raise Unreachable(
            f"The release {what} is not in the cache{found}, and downloads are disabled{why}.",
            where=what,
            remedy=self._way_out(),
        )


def _checksum(text: str | None) -> str | None:
    if text is None:
        return None
    digest = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Configuration(
            f"{text[:80]!r} is not a SHA-256.", where="release checksum", remedy="It has 64 hexadecimal digits."
        )
    return digest


def _archive_in(folder: Path) -> str:
    """What to do about a folder that is given for a release."""
    try:
        versions = in_folder(folder)
    except Configuration:
        versions = []
    if versions:
        return f"It holds archives: use `--release {shlex.quote(str(folder / asset_name(versions[-1])))}`."
    return "Pack it (tar czf release.tar.gz <folder>), or use it as slipstream.overlay."


def _archive_digest(path: Path, shown: str | None = None) -> str:
    """SHA-256 of a file that begins like an archive; else ReleaseRefused."""
    with storage_errors("read the release", path), open_regular(path) as file:
        head = file.read(HEAD)
        if recognise(head) is None:
            raise ReleaseRefused(
                f"The release is {describe_foreign(head)}.",
                where=shown or str(path),
                remedy="Check the address or path in a browser or with 'file'.",
            )
        refuse_large(file.seek(0, os.SEEK_END), shown or str(path))
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
