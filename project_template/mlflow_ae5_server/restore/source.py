"""The snapshot that a restore or a drill brings back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_server.common import keys, progress
from mlflow_ae5_server.common.errors import ProjectError, SnapshotDamaged
from mlflow_ae5_server.common.report import Report, say
from mlflow_ae5_server.database import character_sets, dump, load, portability, schema
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import Repository, open_repository
from mlflow_ae5_server.restore import files
from mlflow_ae5_server.restore.files import RestoreCounts
from mlflow_ae5_server.restore.target import ArtifactTarget

_REPORTED = 500  # values in the report; the log has all


@dataclass(frozen=True)
class RestoreSource:
    repository: Repository
    snapshot: Manifest
    part: DatabasePart
    shorten: bool = False  # free text that another kind of database cannot hold

    @property
    def is_outdated(self) -> bool:
        """Whether its schema is older than that of the installed MLflow."""
        return self.part.revision != schema.latest()

    def write_artifacts(self, target: ArtifactTarget, *, again: bool) -> RestoreCounts:
        """Write every file to `target`. Raises SnapshotDamaged where they are not those that the manifest counts."""
        size = self.snapshot.artifacts.bytes
        with progress.phase("write-artifacts", "bytes", size) as phase:
            counts = files.restore(
                lambda: self.repository.files(self.snapshot),
                self.repository.reader(),
                target,
                again=again,
                on_bytes=phase.advance,
            )
            phase.was(counts.bytes)
        return counts

    def matching_artifacts(self, target: ArtifactTarget) -> RestoreCounts | None:
        """Count the files where all are in `target`, unchanged; None where one is not."""
        return files.matching(self.repository.files(self.snapshot), target)

    def refuse_names(self, target: ArtifactTarget) -> None:
        """Raise Configuration for a name that `target` cannot hold."""
        files.refuse_names(self.repository.files(self.snapshot), target)

    def load_database(self, store: Database) -> None:
        """Load the empty `store`. Raises SnapshotDamaged where the rows then read from it are not the snapshot's."""
        expected = load.load(self.part, self.repository.reader(), store, shorten=self.shorten)
        with progress.phase("compare-database"):
            different = differences(expected, store)
        if different:
            raise SnapshotDamaged(
                f"{', '.join(different[:5])} in {store.shown} differs from the snapshot {self.snapshot.id}",
                "use another snapshot, and verify this one",
            )

    def is_loaded(self, store: Database) -> bool:
        """Whether `store` has the rows of the snapshot, and no others."""
        try:
            expected = load.expected(self.part, self.repository.reader(), store, shorten=self.shorten)
            return not differences(expected, store)
        except ProjectError:  # an interrupted migration leaves tables of no revision
            return False

    def describe(self, store: Database) -> dict[str, Any]:
        """The fields about the snapshot that every report has."""
        return {
            "snapshot": self.snapshot.id,
            "dialect": {"source": self.part.dialect, "target": store.dialect},
            "runs": self.snapshot.runs,
            "deleted_runs": self.snapshot.deleted_runs,
            "models": self.snapshot.models,
            "rows": self.part.rows,
            "tables": len(self.part.tables),
            "artifacts": self.snapshot.artifacts.files,
            "artifact_bytes": self.snapshot.artifacts.bytes,
        }

    def refuse_values(self, store: Database, report: Report) -> int:
        """Log and report all values that `store` cannot hold; return how many a restore shortens.

        Raises Configuration where there are others.
        """
        character_sets.require_database(store)  # else it cannot be asked which texts it takes for the same
        values = load.refused(self.part, self.repository.reader(), store)
        shortened = [value for value in values if self.shorten and value.free]
        refused = [value for value in values if not (self.shorten and value.free)]
        for value in shortened:
            say(f"shortened: {value}")
        for value in refused:
            say(f"refused: {value}{' (free text: --shorten-text)' if value.free else ''}")
        report.add(
            refused_values=[value.to_json() for value in refused[:_REPORTED]],
            refused_total=len(refused),
            shortened_values=[value.to_json() for value in shortened[:_REPORTED]],
            shortened_total=len(shortened),
        )
        if refused:
            raise portability.refusal(refused, store.shown)
        return len(shortened)

    def report_keys(self, report: Report) -> None:
        """Report the keys of the snapshot, with a warning for each that differs from the present one."""
        compared = keys.compare_all(self.snapshot.keys, os.environ)
        warnings = keys.differences(compared)
        for warning in warnings:
            say(f"warning: {warning}")
        report.add(keys=compared, other_keys=warnings)


def find_source(backups: str, which: str, *, shorten: bool = False) -> RestoreSource:
    """Return the snapshot `which` ("latest" or an id). Raises Configuration, RepositoryFailed, SnapshotDamaged."""
    repository = open_repository(backups)
    snapshot = repository.snapshot(which)
    return RestoreSource(repository, snapshot, DatabasePart.from_json(snapshot.database), shorten)


def differences(expected: dict[str, tuple[int, str]], store: Database) -> list[str]:
    """The tables of `store` that differ in rows or digest."""
    observed = dump.digests(store)
    return sorted(name for name in expected.keys() | observed.keys() if expected.get(name) != observed.get(name))
