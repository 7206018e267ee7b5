"""What the project's jobs report, one class per command; fields as in contract.json of the project template.

An empty text, an empty tuple and None mean absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar


@dataclass(frozen=True, kw_only=True)
class Report:
    """The fields of every command."""

    command: str = ""
    outcome: str = ""
    exit_code: int | None = None
    seconds: float | None = None
    error: str = ""
    hint: str = ""
    snapshot: str = ""  # the id of the snapshot that was made, read or restored
    warnings: tuple[str, ...] = ()  # what its log warns of, and no other field has
    interrupted_restore: str = ""  # why database and artifacts are not whole
    data: Mapping[str, Any] = field(default_factory=dict)  # the whole line as it was read

    @property
    def has_interrupted_restore(self) -> bool:
        """Whether the job looked for an interrupted restore, with whatever result."""
        return "interrupted_restore" in self.data


R = TypeVar("R", bound=Report)
R_co = TypeVar("R_co", bound=Report, covariant=True)


# garbage collection -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GcCount:
    """remaining: due, and could not be removed."""

    due: int = 0
    removed: int = 0
    remaining: int = 0


@dataclass(frozen=True)
class SkippedItem:
    id: str = ""
    kind: str = ""
    why: str = ""


@dataclass(frozen=True)
class Orphans:
    """Artifact folders without a row in the database."""

    removed: int = 0
    removed_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class GcReport(Report):
    dry_run: bool | None = None
    token_sha256: str = ""  # the start of the digest of the token that the job used
    server: str = ""  # `ok`, or why the job could not use it
    runs: GcCount | None = None
    experiments: GcCount | None = None
    logged_models: GcCount | None = None
    orphans: Orphans | None = None
    bytes: int | None = None
    skipped: tuple[SkippedItem, ...] = ()
    skipped_total: int | None = None


# schema and checks of the platform --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Migration:
    revision: str = ""
    what: str = ""


@dataclass(frozen=True, kw_only=True)
class UpgradeReport(Report):
    """revision: of the schema before. touched: whether a migration was started."""

    touched: bool | None = None
    revision: str = ""
    expected_revision: str = ""
    new_revision: str = ""
    migrations: tuple[Migration, ...] = ()
    migration_seconds: float | None = None

    @property
    def is_current(self) -> bool:
        """The schema is at the release's revision already."""
        return not self.migrations and bool(self.revision) and self.revision == self.expected_revision


@dataclass(frozen=True)
class KeyState:
    """at_hand: how the key of this name compares: same, other or unset."""

    name: str = ""
    at_hand: str = ""


@dataclass(frozen=True)
class CheckPart:
    """ok: None where there was nothing to check."""

    ok: bool | None = None
    message: str = ""
    hint: str = ""
    warning: str = ""
    warnings: tuple[str, ...] = ()
    revision: str = ""
    compared: tuple[KeyState, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckReport(Report):
    database: CheckPart | None = None
    artifacts: CheckPart | None = None
    keys: CheckPart | None = None
    server: CheckPart | None = None


# backups ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InFlight:
    running_runs: int = 0


@dataclass(frozen=True)
class DamagedObject:
    """object: its digest; name: where it has none, such as a file list."""

    object: str = ""
    name: str = ""
    what: str = ""


@dataclass(frozen=True)
class IncompleteSnapshot:
    snapshot: str = ""
    what: str = ""


@dataclass(frozen=True)
class CheckSample:
    """The last check of a snapshot, where it read a part."""

    at: str = ""
    checked: int | None = None
    of: int | None = None


@dataclass(frozen=True)
class SnapshotLine:
    """One snapshot of `backup list`."""

    snapshot: str = ""
    finished: str = ""
    runs: int | None = None
    deleted_runs: int | None = None
    models: int | None = None
    artifact_bytes: int | None = None
    stored_bytes: int | None = None  # written for it; the rest was stored before
    verified: str = ""  # when all of it was read
    sampled: CheckSample | None = None
    damaged: str = ""  # what is wrong with it
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class SnapshotReport(Report):
    """Fields of the commands that write or read a snapshot."""

    runs: int | None = None
    deleted_runs: int | None = None
    models: int | None = None
    rows: int | None = None
    artifacts: int | None = None
    artifact_bytes: int | None = None
    damaged: tuple[DamagedObject, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BackupReport(SnapshotReport):
    action: str = ""
    repository: str = ""  # the id of the repository, given when its first snapshot was made
    snapshot_count: int | None = None

    missing_runs: int | None = None  # of the previous snapshot's, where they are many
    previous_runs: int | None = None
    missing_artifacts: int | None = None
    previous_artifacts: int | None = None
    stored_bytes: int | None = None
    in_flight: InFlight | None = None
    external: tuple[str, ...] = ()  # artifact locations outside the store, which are not in the snapshot
    unreadable: tuple[str, ...] = ()  # artifacts in the store that are not in the snapshot, each with the reason
    unsafe_keys: tuple[str, ...] = ()

    checked_objects: int | None = None
    of_objects: int | None = None
    checked_bytes: int | None = None
    not_recorded: str = ""  # why the result of a check could not be written to the repository

    snapshots: tuple[SnapshotLine, ...] = ()
    unfinished: tuple[str, ...] = ()
    manifest: Mapping[str, Any] | None = None

    kept: tuple[str, ...] = ()
    kept_because: tuple[str, ...] = ()  # the reason for each
    removed: tuple[str, ...] = ()
    would_remove: tuple[str, ...] = ()
    freed_bytes: int | None = None
    guard: str = ""  # why no object was removed
    incomplete: tuple[IncompleteSnapshot, ...] = ()  # snapshots that a prune found to lack objects
    prune_error: str = ""  # why a backup that succeeded deleted no older snapshots, although it should
    prune_hint: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether a new snapshot has every artifact."""
        return not self.external and not self.unreadable


# restores ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialects:
    source: str = ""
    target: str = ""


@dataclass(frozen=True)
class SchemaChange:
    revision: str = ""
    new_revision: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why a restore would be refused now, and the exit code that it would end with."""

    name: str = ""  # of the check
    exit_code: int | None = None
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class UnfitValue:
    """A value of a snapshot that the target database cannot keep."""

    table: str = ""
    column: str = ""
    row: Mapping[str, Any] | None = None  # its key
    what: str = ""
    free_text: bool = False  # it may be shortened


@dataclass(frozen=True)
class SavedCopy:
    """Data that a restore moved away. more: the files were not counted to the end."""

    name: str = ""
    snapshot: str = ""
    time: str = ""
    database: bool = False
    files: int | None = None
    bytes: int | None = None
    more: bool = False


@dataclass(frozen=True, kw_only=True)
class RestoreReport(SnapshotReport):
    action: str = ""
    dialect: Dialects | None = None
    other_keys: tuple[str, ...] = ()  # a sentence for each key of the snapshot that is not the present one
    checked_objects: int | None = None
    of_objects: int | None = None
    estimated_seconds: float | None = None
    would_refuse: tuple[Refusal, ...] = ()
    refused_values: tuple[UnfitValue, ...] = ()
    refused_total: int | None = None
    shortened_values: tuple[UnfitValue, ...] = ()
    shortened_total: int | None = None
    artifacts_identical: bool = False
    database_identical: bool = False
    upgraded: SchemaChange | None = None
    saved_copy: str = ""  # the name under which the replaced data is saved
    would_restore: str = ""  # the saved copy that an undo would bring back, by name
    restored_copy: str = ""
    saved_copies: tuple[SavedCopy, ...] = ()
    would_delete: SavedCopy | None = None
    deleted: SavedCopy | None = None


@dataclass(frozen=True)
class DrillCheck:
    name: str = ""
    passed: bool = False
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class DrillReport(SnapshotReport):
    other_keys: tuple[str, ...] = ()
    recovery_seconds: float | None = None
    checks: tuple[DrillCheck, ...] = ()
    models_read: int | None = None


REPORTS: Mapping[str, type[Report]] = {
    "GarbageCollection": GcReport,
    "DatabaseUpgrade": UpgradeReport,
    "Check": CheckReport,
    "Backup": BackupReport,
    "Restore": RestoreReport,
    "Drill": DrillReport,
}
