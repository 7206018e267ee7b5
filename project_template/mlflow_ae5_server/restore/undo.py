"""The undo of a restore with --replace: what it kept aside comes back, and what is there now is kept in its stead.

It can be killed anywhere and run again, as a restore can: the ledger says what comes next, and doing that twice does
no harm. It also undoes a restore that was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_server.common.errors import AbsentError, ConfigurationError, DamagedError, NotEmptyError
from mlflow_ae5_server.database import dialects
from mlflow_ae5_server.database.connection import Database
from mlflow_ae5_server.restore import preflight
from mlflow_ae5_server.restore.journal import (
    SAVING,
    RestoreInProgress,
    RestoreJournalFile,
    SavedCopy,
    new_name,
    now,
    who,
)
from mlflow_ae5_server.restore.preflight import TargetState
from mlflow_ae5_server.restore.saved_copies import SavedCopies
from mlflow_ae5_server.restore.steps import say


@dataclass
class UndoRestore:
    """Brings back what the last --replace kept aside; what is there now is kept in its stead. Repeatable, as above."""

    store: Database
    saved_copies: SavedCopies
    journal_file: RestoreJournalFile
    name: str | None = None  # of what to bring back; None: what the last --replace kept

    def run(self) -> tuple[str, str | None]:
        """The names of what was brought back and of what was put aside for it. Raises ConfigurationError."""
        running, before = self.journal_file.running, None
        if running is None or not running.is_undo:
            dialects.settle(self.store)  # refused before anything is written down
            before = self.journal_file.restore_journal
            running = self._begin(running)
        else:
            say(f"going on with the undo that {running.who} began {running.started}, at: {running.phase}")
        aside, kept = running.aside, running.kept
        if kept is None:
            raise AssertionError("an undo has something to bring back")
        entry = self.journal_file.kept(kept)
        elsewhere = entry is not None and self._is_elsewhere(entry)
        if self._phase() == "undo-save-database":
            if aside is not None and not elsewhere and preflight.look(self.store, self.saved_copies).has_database:
                self.journal_file.or_unsay(before, lambda: dialects.save_copy(self.store, aside))
            self.journal_file.turn("undo-save-artifacts")
        if self._phase() == "undo-save-artifacts":
            if aside is not None and not running.in_place:
                self.saved_copies.aside(aside)
            self.journal_file.turn("undo-artifacts")
        if self._phase() == "undo-artifacts":
            self.saved_copies.back(kept)
            self.journal_file.turn("undo-database")
        if kept in dialects.kept(self.store):
            if preflight.look(self.store, self.saved_copies).has_database:  # made since this undo was interrupted
                failed = new_name("failed")
                dialects.save_copy(self.store, failed)
                self.journal_file.keep(SavedCopy(failed, running.snapshot, now(), database=True, artifacts=False))
            dialects.bring_back(self.store, kept)
        dialects.complete(self.store)
        self.journal_file.end(forget=kept)
        return kept, aside

    def _phase(self) -> str:
        return self.journal_file.running.phase if self.journal_file.running is not None else ""

    def check(self) -> SavedCopy:
        """What would be brought back, after a look at everything that the undo itself asks for. Changes nothing.

        Raises what `run` raises before it begins, but for a server that is at work.
        """
        kept, running = self.require(), self.journal_file.running
        if running is not None and running.is_undo:
            return kept
        found = preflight.look(self.store, self.saved_copies)
        preflight.refuse_foreign(found, self.store)
        if running is None or running.phase not in SAVING:
            self._refuse_loss(kept, found)
            self._require(kept)
        else:
            self._require_early(running, kept, found)
        return kept

    def require(self) -> SavedCopy:
        """What is to be brought back. Raises AbsentError where there is nothing, or it is to be named."""
        running = self.journal_file.running
        if running is not None:
            kept = self.journal_file.kept(running.kept)
            if self.name is not None and (kept is None or kept.name != self.name):
                raise ConfigurationError(
                    f"{self.name} cannot be brought back now: a restore or an undo has not ended, which has kept "
                    f"{running.kept or 'nothing'} aside",
                    "finish that first",
                )
        elif self.name is not None:
            kept = self.journal_file.kept(self.name)
            if kept is not None and not kept.name.startswith(("kept_", "undone_")):
                raise ConfigurationError(
                    f"{self.name} is what a restore that was cut off had left: it is not whole",
                    "only what was kept by a restore or an undo can be brought back",
                )
        elif (undone := self.journal_file.last_undone()) is not None:
            others = [entry.name for entry in self.journal_file.restore_journal.kept if entry is not undone]
            further = f"; to go back further, name one of {', '.join(others)}" if others else ""
            raise AbsentError(
                f"the last restore is undone already, and what was there before that is kept as {undone.name}",
                f"to take the undo back, use --undo --saved {undone.name}{further}",
            )
        else:
            kept = self.journal_file.last_kept()
        if kept is None:
            names = ", ".join(entry.name for entry in self.journal_file.restore_journal.kept)
            raise AbsentError(
                f"{f'nothing is kept as {self.name}' if self.name else 'nothing is kept aside'} beside "
                f"{self.saved_copies.shown}: there is nothing to bring back",
                f"there are: {names}" if names else "only what `restore --replace` has kept aside can be brought back",
            )
        return kept

    def _is_elsewhere(self, kept: SavedCopy) -> bool:
        """Whether that restore was into another database: this one has no part in it."""
        return not kept.database and kept.store not in {"", self.store.shown}

    def _refuse_loss(self, kept: SavedCopy, found: TargetState) -> None:
        """Raises NotEmptyError where a database would go, and none come back."""
        if found.has_database and not kept.database and not self._is_elsewhere(kept):
            raise NotEmptyError(
                f"before that restore {self.store.shown} was empty: with what was kept as {kept.name} no database "
                f"comes back, and the server would be left without these {found.state.rows} rows",
                "set server.backend_store_uri (MLFLOW_BACKEND_STORE_URI) to the database of before, and undo again: it "
                "is left as it is, and its artifacts come back",
            )

    def _begin(self, unfinished: RestoreInProgress | None) -> RestoreInProgress:
        kept = self.require()
        found = preflight.look(self.store, self.saved_copies)
        preflight.refuse_foreign(found, self.store)
        if unfinished is None or unfinished.phase not in SAVING:
            self._refuse_loss(kept, found)
            self._require(kept)
        # Of a restore that was cut off while it put things aside, some may be here still: they are of what is kept.
        if unfinished is not None and unfinished.phase in SAVING:
            return self._begin_early(unfinished, kept, found)
        database = found.has_database and not self._is_elsewhere(kept)
        contents = found.contents is not None and not kept.in_place
        aside, entry = (new_name("undone") if database or contents else None), None
        if aside is not None:
            entry = SavedCopy(aside, kept.snapshot, now(), database, contents, kept.in_place, self.store.shown)
        running = RestoreInProgress("undo-save-database", kept.snapshot, now(), who(), aside, kept.name, kept.in_place)
        self.journal_file.begin(running, entry)
        return running

    def _begin_early(self, unfinished: RestoreInProgress, kept: SavedCopy, found: TargetState) -> RestoreInProgress:
        """Nothing was restored yet: what was moved goes back to what was not."""
        self._require_early(unfinished, kept, found)
        running = RestoreInProgress("undo-artifacts", kept.snapshot, now(), who(), None, kept.name)
        self.journal_file.begin(running)
        return running

    def _require_early(self, unfinished: RestoreInProgress, kept: SavedCopy, found: TargetState) -> None:
        if unfinished.aside != unfinished.kept:
            raise ConfigurationError(
                "a restore was interrupted while it put an unfinished one aside", "run that restore again first"
            )
        if found.has_database and kept.name in dialects.kept(self.store):
            raise NotEmptyError(
                f"{self.store.shown} has come to hold {found.state.rows} rows since the restore was interrupted",
                "run that restore again with --replace first",
            )

    def _require(self, kept: SavedCopy) -> None:
        missing = []
        if kept.database and kept.name not in dialects.kept(self.store):
            missing.append(f"tables of {self.store.shown}")
        if kept.artifacts and not self.saved_copies.kept(kept.name):
            missing.append(f"artifacts of {self.saved_copies.shown}")
        if missing:
            raise DamagedError(
                f"the ledger says that {kept.name} keeps the {' and the '.join(missing)}, and it does not",
                "has somebody removed it, or was it kept with another MLFLOW_BACKEND_STORE_URI?",
            )
