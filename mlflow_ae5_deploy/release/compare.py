"""Whether a project on the platform already holds what would be uploaded.

AE5 renames the top folder and may add files; it also appends lines to a project's `.gitignore`. So the archive is
recognised by its provenance: the same content digest, and every file that the provenance lists still as it was.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.members import BrokenArchive, Limits, walk
from mlflow_ae5_deploy.release.archive import ArchiveSummary, survey_members
from mlflow_ae5_deploy.release.customize import BuiltArchive
from mlflow_ae5_deploy.release.provenance import PROVENANCE_FILE, from_json

_EDITED_BY_PLATFORM = {".gitignore"}
_SHOWN = 3
_KEPT = {PROVENANCE_FILE: 16 << 20}  # some hundred bytes for each of the entries that an archive may have


@dataclass(frozen=True)
class Comparison:
    """reason: a sentence, also when it is the same. release: what the project says it was made from, if it does."""

    same: bool
    reason: str
    release: str | None


def content_digest_of(archive_bytes: bytes) -> str | None:
    """The content digest of a downloaded project archive; None when it is not ours, or was changed since."""
    provenance, survey, _ = _read(archive_bytes)
    if provenance is None or survey is None or _deviations(provenance, survey):
        return None
    return str(provenance["content_digest"])


@dataclass(frozen=True)
class BuildRecord:
    """What a project on the platform says it was made from. edited: how its files differ from that."""

    release: str
    tool: str
    content_digest: str
    changes: tuple[str, ...]
    edited: tuple[str, ...]


def made_of(archive_bytes: bytes) -> tuple[BuildRecord | None, str]:
    """(what its provenance says, or why that is not known). Never raises for bad bytes."""
    provenance, survey, problem = _read(archive_bytes)
    if provenance is None or survey is None:
        return None, problem
    changes = provenance.get("changes")
    return BuildRecord(
        _release_name(provenance),
        str(provenance.get("tool") or ""),
        provenance["content_digest"],
        tuple(str(change) for change in changes) if isinstance(changes, list) else (),
        tuple(_deviations(provenance, survey)),
    ), ""


def same_content(archive_bytes: bytes, built: BuiltArchive) -> Comparison:
    """Compare a downloaded project archive with the archive that would be uploaded. Never raises for bad bytes."""
    provenance, survey, problem = _read(archive_bytes)
    if provenance is None or survey is None:
        return Comparison(False, problem, None)
    release = _release_name(provenance)
    theirs, ours = provenance["content_digest"], built.content_digest
    if theirs != ours:
        desired = _release_name(built.provenance)
        return Comparison(
            False,
            f"It holds other content: {release} (content {theirs[:12]}), desired is {desired} (content {ours[:12]}).",
            release,
        )
    deviations = _deviations(provenance, survey)
    if deviations:
        more = f" and {len(deviations) - _SHOWN} more" if len(deviations) > _SHOWN else ""
        return Comparison(
            False, f"It was changed since it was uploaded: {', '.join(deviations[:_SHOWN])}{more}.", release
        )
    return Comparison(True, f"It holds exactly this content: {release} (content {ours[:12]}).", release)


def _read(archive_bytes: bytes) -> tuple[dict[str, Any] | None, ArchiveSummary | None, str]:
    """(provenance, survey, what is wrong)."""
    try:
        survey = survey_members(walk(io.BytesIO(archive_bytes), Limits()), "the project", keep=_KEPT)
    except BrokenArchive as error:
        return None, None, f"The project's archive {error}."
    except ReleaseRefused as error:
        return None, None, f"The project's archive cannot be read: {error.what}"
    if PROVENANCE_FILE not in survey.kept:
        return None, survey, "It was not made by this tool (there is no provenance in it)."
    provenance = from_json(survey.kept[PROVENANCE_FILE])
    if provenance is None:
        return None, survey, "Its provenance cannot be read (damaged, or written by another version of this tool)."
    return provenance, survey, ""


def _deviations(provenance: Mapping[str, Any], survey: ArchiveSummary) -> list[str]:
    found = []
    for path, digest in sorted(provenance["files"].items()):
        entry = survey.files.get(path)
        if path in _EDITED_BY_PLATFORM:
            continue
        if entry is None:
            found.append(f"{path} is missing")
        elif entry.sha256 != digest:
            found.append(f"{path} was edited")
    return found


def _release_name(provenance: Mapping[str, Any]) -> str:
    release = provenance["release"]
    kind, version, source = (release.get(key) for key in ("kind", "version", "source"))
    if kind == "bundled":
        return f"bundled release {version}"
    if version:
        return f"release {version}"
    return f"release {source}"
