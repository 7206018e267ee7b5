"""Find a version, or the latest one: on GitHub, on a mirror, or in a folder.

A mirror is flat. Of the upstream release X.Y.Z it holds `mlflow.tracking.server.X.Y.Z.tar.gz`, beside it optionally
`mlflow.tracking.server.X.Y.Z.tar.gz.sha256` (what `sha256sum` prints), and a text file `latest` with a version in it.
A local folder works the same way; without `latest` in it, its highest version is the latest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import Configuration, ReleaseRefused, UnexpectedAnswer
from mlflow_ae5_deploy.release.http import HttpClient, NotThere, check_url, public_form

VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}(?:[-.+]?[A-Za-z0-9.]+)?")
_ASSET = re.compile(rf"mlflow\.tracking\.server\.({VERSION.pattern})\.tar\.gz")
_SHA256 = re.compile(r"\b[0-9a-fA-F]{64}\b")


@dataclass(frozen=True)
class Location:
    version: str
    url: str
    sha256: str | None  # announced by the file's source; guards against damage, not forgery


def asset_name(version: str) -> str:
    return f"mlflow.tracking.server.{version}.tar.gz"


def version_of(file_name: str) -> str | None:
    found = _ASSET.fullmatch(file_name)
    return found.group(1) if found else None


def in_order(versions: list[str]) -> list[str]:
    """Oldest first: numbers compare as numbers; 1.0.0rc1 comes before 1.0.0."""

    def key(version: str) -> tuple[Any, ...]:
        numbers = [int(n) for n in re.match(r"[0-9.]*[0-9]", version).group().split(".")]  # type: ignore[union-attr]
        rest = version[len(".".join(map(str, numbers))) :]
        return (numbers, rest == "", rest)

    return sorted(set(versions), key=key)


def latest_on_mirror(mirror: str, web: HttpClient) -> str:
    url = f"{mirror.rstrip('/')}/latest"
    try:
        text = web.document(check_url(url, "the mirror"), "text/plain").decode("utf-8", "replace").strip()
    except NotThere:
        raise Configuration(
            "The mirror has no file 'latest'.", where=public_form(url), remedy="Name a version: --release X.Y.Z"
        ) from None
    return _as_version(text, public_form(url))


def on_mirror(mirror: str, version: str, web: HttpClient) -> Location:
    url = check_url(f"{mirror.rstrip('/')}/{asset_name(version)}", "the mirror")
    try:
        text = web.document(f"{url}.sha256", "text/plain").decode("utf-8", "replace")
    except NotThere:
        return Location(version, url, None)
    return Location(version, url, _as_sha256(text, public_form(url) + ".sha256"))


def latest_on_github(api: str, web: HttpClient) -> Location:
    url = check_url(f"{api}/releases/latest", "GitHub's API")
    try:
        release = _json(web, url)
    except NotThere:
        raise Configuration("The upstream project has no release.", where=public_form(url)) from None
    for location in _assets([release]):
        return location
    raise ReleaseRefused(
        f"The latest release has no file {asset_name('X.Y.Z')}.", where=public_form(url), remedy="Name a version."
    )


def on_github(api: str, version: str, web: HttpClient) -> Location:
    """Find a version by its tag, else by file name among the last 100 releases."""
    try:
        found = _assets([_json(web, check_url(f"{api}/releases/tags/{version}", "GitHub's API"))])
    except NotThere:
        found = []
    if not any(location.version == version for location in found):
        try:
            found = _assets(_json(web, f"{api}/releases?per_page=100"))
        except NotThere:
            found = []
    for location in found:
        if location.version == version:
            return location
    listed = ", ".join(reversed(in_order([location.version for location in found])[-5:]))
    raise Configuration(
        f"There is no release {version}.",
        where=public_form(f"{api}/releases"),
        remedy=f"The newest ones are {listed}." if listed else "",
    )


def in_folder(folder: Path) -> list[str]:
    """Versions in a local mirror, oldest first."""
    try:
        return in_order([v for path in folder.iterdir() if (v := version_of(path.name)) is not None])
    except OSError as error:
        raise Configuration(f"The mirror cannot be read: {error.strerror}.", where=str(folder)) from None


def latest_in_folder(folder: Path) -> str:
    marker = folder / "latest"
    if marker.is_file():
        return _as_version(marker.read_text(encoding="utf-8", errors="replace").strip(), str(marker))
    versions = in_folder(folder)
    if not versions:
        raise Configuration(f"The mirror has no file {asset_name('X.Y.Z')}.", where=str(folder))
    return versions[-1]


def checksum_file(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def published_sha256(archive: Path) -> str | None:
    checksum = checksum_file(archive)
    if not checksum.is_file():
        return None
    return _as_sha256(checksum.read_text(encoding="utf-8", errors="replace"), str(checksum))


def _as_version(text: str, where: str) -> str:
    version = text.removeprefix("v")
    if not VERSION.fullmatch(version):
        raise ReleaseRefused("The mirror's file 'latest' does not hold a version (X.Y.Z).", where=where)
    return version


def _as_sha256(text: str, where: str) -> str:
    found = _SHA256.search(text[:4096])
    if found is None:
        raise ReleaseRefused("The mirror's checksum file does not hold a SHA-256.", where=where)
    return found.group().lower()


def _json(web: HttpClient, url: str) -> Any:
    try:
        return json_input.parse(web.document(url, "application/vnd.github+json"))
    except ValueError:
        raise UnexpectedAnswer("The answer is not JSON.", where=public_form(url)) from None


def _assets(releases: Any) -> list[Location]:
    """Release archives among GitHub's release objects."""
    found = []
    for release in releases if isinstance(releases, list) else []:
        assets = release.get("assets") if isinstance(release, dict) else None
        for asset in assets if isinstance(assets, list) else []:
            version = version_of(str(asset.get("name"))) if isinstance(asset, dict) else None
            if version is None:
                continue
            digest = _SHA256.search(str(asset.get("digest") or ""))  # "sha256:<hex>", absent in older releases
            url = check_url(str(asset.get("browser_download_url")), "the release")
            found.append(Location(version, url, digest.group().lower() if digest else None))
    return found
