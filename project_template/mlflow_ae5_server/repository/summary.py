"""Describe snapshots and the results of their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mlflow_ae5_server.common.text import counted, moment
from mlflow_ae5_server.repository import check, damage
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository, SnapshotEntry


def describe(repository: Repository, entries: Sequence[SnapshotEntry]) -> list[dict[str, Any]]:
    """The fields of `backup list`."""
    damaged = damage.of_snapshots(repository.backend, [entry.manifest for entry in entries if entry.manifest])
    return [_entry_fields(repository, entry, len(damaged.get(entry.name, ()))) for entry in entries]


def describe_manifest(repository: Repository, manifest: Manifest) -> dict[str, Any]:
    """The fields of `backup show`: the manifest without digests, and its checks."""
    fields = asdict(manifest)
    fields["read_from"] = datetime.fromtimestamp(manifest.read_from, UTC).isoformat(timespec="seconds")
    fields["artifacts"].pop("lists")
    fields["database"]["file"] = len(manifest.database.get("file", ()))
    fields["database"]["tables"] = [
        {key: value for key, value in table.items() if key != "objects"} for table in manifest.database["tables"]
    ]
    damaged = damage.of_snapshots(repository.backend, [manifest]).get(manifest.name, ())
    return {
        **fields,
        "deleted_runs": manifest.deleted_runs,
        "models": manifest.models,
        "complete": manifest.complete,
        **_check_fields(repository, manifest.name, len(damaged)),
    }


def check_text(fields: dict[str, Any]) -> str:
    """What the checks have shown, in a few words."""
    if fields.get("damaged"):
        return f"DAMAGED: {fields['damaged']}"
    message = [f"verified {moment(fields['verified'])}"] if fields["verified"] else []
    if sampled := fields["sampled"]:
        message.append(f"sampled, {sampled['checked']} of {sampled['of'] or '?'}, {moment(sampled['at'])}")
    return "; ".join(message) or "not verified"


def _entry_fields(repository: Repository, entry: SnapshotEntry, damaged: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"snapshot": entry.id, "sequence": entry.sequence}
    manifest = entry.manifest
    if manifest is None:
        return {**fields, "verified": None, "sampled": None, "complete": False, "damaged": entry.problem}
    return {
        **fields,
        "started": manifest.started,
        "finished": manifest.finished,
        "mlflow_version": manifest.mlflow_version,
        "revision": manifest.revision,
        "dialect": manifest.dialect,
        "rows": manifest.rows,
        "runs": manifest.runs,
        "deleted_runs": manifest.deleted_runs,
        "models": manifest.models,
        "artifacts": manifest.artifacts.files,
        "artifact_bytes": manifest.artifacts.bytes,
        "stored_bytes": manifest.stored_bytes,
        **_check_fields(repository, entry.name, damaged),
        "complete": manifest.complete,
    }


def _check_fields(repository: Repository, name: str, damaged: int) -> dict[str, Any]:
    """The times of the last full check and sample, or the damage.

    `damaged` is the number of its blobs that are recorded as damaged, whichever snapshot's check found them.
    """
    state = check.state(repository, name)
    at = state.at if state is not None and state.damaged else None
    damaged = max(damaged, state.damaged if state is not None else 0)
    if not damaged:
        return {"verified": state and state.in_full, "sampled": state and state.sampled}
    last_intact = state and state.last_intact
    message = f"{counted(damaged, 'objects')} missing or damaged"
    message += f", found {moment(at)}" if at else ""
    message += f"; the last check without damage was {moment(last_intact)}" if last_intact else ""
    return {"verified": None, "sampled": None, "damaged": message, "damaged_found": at, "right": last_intact}
