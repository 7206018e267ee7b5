"""Undo a restore in ordered steps: bring a saved copy back, and save the present data in another one.

It can be killed anywhere and run again, as a restore can: the restore journal names the next step, and repeating a
step does no harm. It also undoes an interrupted restore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from mlflow_ae5_server.common import progress
from mlflow_ae5_server.common.errors import Configuration, NotFound, SnapshotDamaged, TargetNotEmpty
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.database import saved_copy
from mlflow_ae5_server.restore.journal import (
    UNDO_STEPS,
    RestoreInProgress,
    RestoreJournalFile,
    SavedCopy,
    new_name,
    now,
    this_process,
)
from mlflow_ae5_server.restore.preflight import RestoreTarget, TargetState


@dataclass
class UndoRestore:
    """One undo. The caller of `run` holds the maintenance lock."""

    target: RestoreTarget
    journal: RestoreJournalFile
    name: str | None = None  # of the saved copy to bring back; None: that of the last --replace

    def run(self) -> tuple[str, str | None]:
        """Return the names of the copy brought back and of the one with the data it replaced."""
        running = self.journal.running
        if running is None or not running.is_undo:
            saved_copy.settle(self.target.store)  # refused before anything is written down
            begin(self)
        else:
            say(f"resuming the undo {running.start}: {running.step}")
        running = self.journal.require_running()
        copy = self.journal.find(running.original)
        with progress.phase("save-data"):
            database = copy is None or not self.is_other_database(copy)
            self.target.save_data(self.journal, UNDO_STEPS, database=database)
        with progress.phase("bring-back"):
            bring_back_artifacts(self)
            bring_back_database(self)
            finish(self)
        return str(running.original), running.save_as

    def check(self) -> SavedCopy:
        """Return the saved copy that `run` would bring back. Changes nothing.

        Raises what `run` raises before it begins, except for a running server.
        """
        copy, running = self.choose(), self.journal.running
        if running is None or not running.is_undo:
            self.require_possible(copy, self.target.observe())
        return copy

    def choose(self) -> SavedCopy:
        """Return the saved copy to bring back. Raises NotFound where there is none, or one has to be named."""
        running = self.journal.running
        if running is not None:
            copy = self.journal.find(running.original)
            if self.name is not None and (copy is None or copy.name != self.name):
                raise Configuration(
                    f"{self.name} cannot be brought back now: a restore or undo is in progress with the saved copy "
                    f"{running.original or 'none'}",
                    "finish it first",
                )
        elif self.name is not None:
            copy = self.journal.find(self.name)
            if copy is not None and copy.name.startswith("failed_"):
                raise Configuration(
                    f"{self.name} is incomplete: it is the data of an interrupted restore",
                    "only the saved copy of a restore or an undo can be brought back",
                )
        else:
            copy = self.journal.last_saved()
            if copy is not None and copy.name.startswith("undone_"):
                self._refuse_second_undo(copy)
        if copy is None:
            names = ", ".join(other.name for other in self.journal.saved)
            raise NotFound(
                f"no saved copy{f' {self.name}' if self.name else ''} next to {self.target.saved_copies.shown}: "
                "nothing to bring back",
                f"there are: {names}" if names else "only data that `restore --replace` saved can be brought back",
            )
        return copy

    def _refuse_second_undo(self, undone: SavedCopy) -> NoReturn:
        others = [copy.name for copy in self.journal.saved if copy is not undone]
        earlier = f"; for an earlier state, use one of {', '.join(others)}" if others else ""
        raise NotFound(
            f"the last restore has already been undone; the data before that undo is saved as {undone.name}",
            f"to revert the undo, use --undo --saved {undone.name}{earlier}",
        )

    def require_possible(self, copy: SavedCopy, observed: TargetState) -> None:
        """Raise where `copy` cannot be brought back, or only at a loss."""
        observed.refuse_foreign()
        running = self.journal.running
        if running is None or not running.is_saving:
            self._refuse_loss(copy, observed)
            self._require_complete(copy)
        elif running.save_as != running.original:
            raise Configuration(
                "a restore was interrupted while it saved the data of an interrupted one",
                "run that restore again first",
            )
        elif observed.has_database and copy.name in saved_copy.saved_names(self.target.store):
            raise TargetNotEmpty(
                f"since the restore was interrupted, {counted(observed.database.rows, 'rows')} were written to "
                f"{self.target.store.shown}",
                "run that restore again with --replace first",
            )

    def is_other_database(self, copy: SavedCopy) -> bool:
        """Whether that restore was into another database, so that the undo leaves this one alone."""
        return not copy.database and copy.store not in {"", self.target.store.shown}

    def _refuse_loss(self, copy: SavedCopy, observed: TargetState) -> None:
        if observed.has_database and not copy.database and not self.is_other_database(copy):
            raise TargetNotEmpty(
                f"before that restore {self.target.store.shown} was empty: {copy.name} has no database, and the "
                f"server would lose {counted(observed.database.rows, 'rows')}",
                "set server.backend_store_uri (MLFLOW_BACKEND_STORE_URI) to the previous database, and undo again: "
                "that database is not changed, and its artifacts are brought back",
            )

    def _require_complete(self, copy: SavedCopy) -> None:
        missing = []
        if copy.database and copy.name not in saved_copy.saved_names(self.target.store):
            missing.append(f"tables of {self.target.store.shown}")
        if copy.artifacts and not self.target.saved_copies.exists(copy.name):
            missing.append(f"artifacts of {self.target.saved_copies.shown}")
        if missing:
            raise SnapshotDamaged(
                f"the {' and the '.join(missing)} of {copy.name}, which the restore journal lists, cannot be found",
                "check whether they were deleted, and whether MLFLOW_BACKEND_STORE_URI is the same as for that restore",
            )


def begin(undo: UndoRestore) -> None:
    """Write the undo into the journal."""
    copy, interrupted = undo.choose(), undo.journal.running
    observed = undo.target.observe()
    undo.require_possible(copy, observed)
    if interrupted is not None and interrupted.is_saving:
        # Nothing was restored yet. The part of the data that is still here is of the same saved copy, and stays.
        running = RestoreInProgress("bring-back-artifacts", copy.snapshot, now(), this_process(), None, copy.name)
        undo.journal.begin(running)
        return
    database = observed.has_database and not undo.is_other_database(copy)
    artifacts = observed.contents is not None and not copy.artifacts_stay
    save_as, present = None, None
    if database or artifacts:
        save_as = new_name("undone")
        present = SavedCopy(
            save_as, copy.snapshot, now(), database, artifacts, copy.artifacts_stay, undo.target.store.shown
        )
    running = RestoreInProgress(
        "undo-save-database", copy.snapshot, now(), this_process(), save_as, copy.name, copy.artifacts_stay
    )
    undo.journal.begin(running, present)


def bring_back_artifacts(undo: UndoRestore) -> None:
    running = undo.journal.require_running()
    if running.step != "bring-back-artifacts":
        return
    undo.target.saved_copies.bring_back(str(running.original))
    undo.journal.enter("bring-back-database")


def bring_back_database(undo: UndoRestore) -> None:
    """Bring the database back, in one step, after all of its files."""
    running = undo.journal.require_running()
    if running.original in saved_copy.saved_names(undo.target.store):
        if undo.target.observe().has_database:  # made since this undo was interrupted
            undo.target.save_unexpected_database(undo.journal, running.snapshot)
        saved_copy.bring_back(undo.target.store, running.original)


def finish(undo: UndoRestore) -> None:
    """Complete moved tables, and close the journal."""
    saved_copy.complete(undo.target.store)
    undo.journal.end(drop=undo.journal.require_running().original)
