"""The provenance inside an archive, and the comparison with a project by it.

The file is `<top>/.mlflow-ae5-deploy/provenance.json`:
`{"schema": 1, "release": {"kind", "version", "source", "sha256"}, "changes": [...], "tool": "mlflow-ae5-deploy X",
"files": {path: sha256}, "content_digest": sha256}`. It holds no time: same input, same bytes. It does not list
itself, so the digest does not depend on the tool's version or on the release's source.

AE5 renames the top folder, may add files, and appends lines to `.gitignore`. So a downloaded archive is recognised by
its content digest, as long as every file that its provenance lists is unchanged.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.members import BrokenArchive, Limits, walk
from mlflow_ae5_deploy.common.yaml_limits import MAX_BYTES
from mlflow_ae5_deploy.release.archive import ArchiveSummary, FileEntry, sha256_of, survey_members
from mlflow_ae5_deploy.release.differences import EDITED_BY_PLATFORM, differences
from mlflow_ae5_deploy.release.models import BuiltArchive
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE
from mlflow_ae5_deploy.release.tree import PROVENANCE_FOLDER

PROVENANCE_FILE = f"{PROVENANCE_FOLDER}/provenance.json"
SCHEMA = 1
_SHOWN = 3
# The provenance has some hundred bytes for each of the entries that an archive may have.
_KEPT = {PROVENANCE_FILE: 16 << 20, PROJECT_FILE: MAX_BYTES + 1}


def digest_content(files: Mapping[str, FileEntry]) -> str:
    """SHA-256 over path and SHA-256 of every file; without modes, which AE5 drops."""
    digest = hashlib.sha256()
    for path, entry in sorted(files.items()):
        digest.update(f"{path}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def to_json(provenance: Mapping[str, Any]) -> bytes:
    return (json.dumps(provenance, indent=1, sort_keys=True) + "\n").encode()


def from_json(data: bytes) -> dict[str, Any] | None:
    """The record, or None when it is not one that this tool wrote."""
    try:
        found = json_input.parse(data)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        return None
    files = found.get("files")
    well_formed = (
        isinstance(found.get("content_digest"), str)
        and isinstance(found.get("release"), dict)
        and isinstance(files, dict)
        and all(isinstance(digest, str) for digest in files.values())
    )
    return found if well_formed else None


def recorded_in(folder: Path, files: Mapping[str, Path]) -> dict[str, Any] | None:
    """The provenance in an unpacked archive, if it is about exactly these files."""
    path = folder / PROVENANCE_FILE
    if not path.is_file() or path.stat().st_size > _KEPT[PROVENANCE_FILE]:
        return None
    provenance = from_json(path.read_bytes())
    if provenance is None or not isinstance(provenance.get("changes"), list):
        return None
    listed = {path: digest for path, digest in provenance["files"].items() if path not in EDITED_BY_PLATFORM}
    found = {path: sha256_of(file) for path, file in files.items() if path not in EDITED_BY_PLATFORM}
    return provenance if listed == found else None


@dataclass(frozen=True)
class Comparison:
    same: bool
    reason: str  # a phrase, also for the same content; empty where the differences are all
    release: str | None  # per the project's provenance
    desired_release: str = ""  # that of the archive to upload
    differences: tuple[str, ...] = ()  # `setting: observed → desired`

    @property
    def release_change(self) -> str:
        """`installed → configured`; empty where the release stays, or that of the project is not known."""
        if self.release in (None, self.desired_release):
            return ""
        return " → ".join(short_name(name) for name in (self.release or "", self.desired_release))


def content_digest_of(archive_bytes: bytes) -> str | None:
    """The content digest of a downloaded archive; None if it was not made by this tool, or edited since."""
    provenance, survey, _ = _read(archive_bytes)
    if provenance is None or survey is None or _deviations(provenance, survey):
        return None
    return str(provenance["content_digest"])


@dataclass(frozen=True)
class BuildRecord:
    """The provenance of a project on the platform."""

    release: str
    tool: str
    content_digest: str
    changes: tuple[str, ...]
    edited: tuple[str, ...]  # files changed since


def build_record_of(archive_bytes: bytes) -> tuple[BuildRecord | None, str]:
    """The provenance of a downloaded archive, or why there is none. Never raises."""
    provenance, survey, problem = _read(archive_bytes)
    if provenance is None or survey is None:
        return None, problem
    changes = provenance.get("changes")
    return BuildRecord(
        release_name(provenance),
        str(provenance.get("tool") or ""),
        provenance["content_digest"],
        tuple(str(change) for change in changes) if isinstance(changes, list) else (),
        tuple(_deviations(provenance, survey)),
    ), ""


def has_content(archive_bytes: bytes, built: BuiltArchive) -> bool:
    """Whether a downloaded archive is the one to upload. Never raises."""
    return content_digest_of(archive_bytes) == built.content_digest


def same_content(archive_bytes: bytes, built: BuiltArchive) -> Comparison:
    """Compare a downloaded archive with the one to upload. Never raises."""
    provenance, survey, problem = _read(archive_bytes)
    desired = release_name(built.provenance)
    if survey is None:
        return Comparison(False, problem, None, desired)
    if provenance is None:
        return Comparison(False, problem, None, desired, _differences(survey, built))
    release, edited = release_name(provenance), _deviations(provenance, survey)
    if provenance["content_digest"] == built.content_digest and not edited:
        return Comparison(True, release, release, desired)
    found = Comparison(False, "", release, desired, _differences(survey, built))
    if edited:
        more = f" and {len(edited) - _SHOWN} more" if len(edited) > _SHOWN else ""
        return replace(found, reason=f"edited on the platform since the upload ({', '.join(edited[:_SHOWN])}{more})")
    if found.release_change or found.differences:
        return found
    return replace(found, reason="its content is not the configured one")


def short_name(release: str) -> str:
    """`bundled 0.1.0`, `release.tar.gz`: a release below the heading Release."""
    return release.replace("release ", "", 1)


def _differences(survey: ArchiveSummary, built: BuiltArchive) -> tuple[str, ...]:
    with built.path.open("rb") as file:
        desired = survey_members(walk(file, Limits()), "the archive", keep=_KEPT)
    return differences(survey, desired, built.variables)


def _read(archive_bytes: bytes) -> tuple[dict[str, Any] | None, ArchiveSummary | None, str]:
    """(provenance, survey, what is wrong)."""
    try:
        survey = survey_members(walk(io.BytesIO(archive_bytes), Limits()), "the project", keep=_KEPT)
    except BrokenArchive as error:
        return None, None, f"its archive {error}"
    except ReleaseRefused as error:
        return None, None, f"its archive cannot be read ({error.what.rstrip('.')})"
    if PROVENANCE_FILE not in survey.kept:
        return None, survey, "not made by this tool (no provenance in it)"
    provenance = from_json(survey.kept[PROVENANCE_FILE])
    if provenance is None:
        return None, survey, "its provenance cannot be read (damaged, or written by another version of this tool)"
    return provenance, survey, ""


def _deviations(provenance: Mapping[str, Any], survey: ArchiveSummary) -> list[str]:
    found = []
    for path, digest in sorted(provenance["files"].items()):
        entry = survey.files.get(path)
        if path in EDITED_BY_PLATFORM:
            continue
        if entry is None:
            found.append(f"{path} is missing")
        elif entry.sha256 != digest:
            found.append(path)
    return found


def release_name(provenance: Mapping[str, Any]) -> str:
    release = provenance["release"]
    kind, version, source = (release.get(key) for key in ("kind", "version", "source"))
    if kind == "bundled":
        return f"bundled release {version}"
    if version:
        return f"release {version}"
    return f"release {source}"
