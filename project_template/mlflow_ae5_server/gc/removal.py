"""Removes what the plan says: rows in short transactions, then the artifacts, and remembers what it has begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.database.connection import reason_of
from mlflow_ae5_server.gc.cascade import Cascade
from mlflow_ae5_server.gc.destinations import Destinations
from mlflow_ae5_server.gc.journal import Entry, GcJournal, JournalPage
from mlflow_ae5_server.gc.locations import BadLocationError, own_folder, parse
from mlflow_ae5_server.gc.plan import ARTIFACT_TAGS, GcItem, GcPlan, SkippedItem
from mlflow_ae5_server.gc.recheck import KEY, not_empty, require_alive, still
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.stores import TroubleError, begin
from mlflow_ae5_server.gc.tables import RUNS, TRACE_TAGS, TRACES
from mlflow_ae5_server.gc.transactions import DeletingConnection

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

BEING_REMOVED = "being removed by garbage collection"
_PAGE = 400  # owners in one page of the journal
_OWNERS = {"run": "runs", "logged model": "logged_models", "trace": "trace_info", "experiment": "experiments"}


@dataclass
class RemovalCounts:
    """What was really done."""

    removed: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    bytes: int = 0
    finished: int = 0  # folders that an earlier run had left
    skipped: list[SkippedItem] = field(default_factory=list)


@dataclass(frozen=True)
class ArtifactRemoval:
    """Artifacts that are being removed. `results` are the problems of so many entries each, "" where there is none."""

    page: JournalPage | None
    entries: list[Entry]
    sizes: dict[str, int]
    results: list[tuple[int, Future[list[str]]]]


class Removal:
    """`hands` folders are removed at a time.

    `step` is called between any two steps, with the name of what was done; tests end the process there.
    """

    def __init__(
        self,
        writer: DeletingConnection,
        cascade: Cascade,
        registry: Registry,
        destinations: Destinations,
        journal: GcJournal | None,
        *,
        hands: int = 4,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._writer, self._cascade, self._registry = writer, cascade, registry
        self._destinations, self._journal, self._step = destinations, journal, step
        self._hands = ThreadPoolExecutor(hands, thread_name_prefix="remove")
        self._limit = 0
        self._clearing: ArtifactRemoval | None = None
        self.tally = RemovalCounts()

    def close(self) -> None:
        """What is being removed is counted; what was not begun is left to the next run."""
        self._hands.shutdown(wait=True, cancel_futures=True)
        self._settle()

    def finish_earlier(self) -> None:
        """Remove the artifacts of rows that an interrupted run removed. Rows that are still there keep theirs."""
        for page in self._journal.pages() if self._journal else ():
            here: set[str] = set()
            with self._writer.reader.connect() as connection:
                for kind in {kind for kind, _, _ in page.entries} & KEY.keys():
                    ids = [owner for k, owner, _ in page.entries if k == kind]
                    here.update(connection.execute(select(KEY[kind]).where(KEY[kind].in_(ids))).scalars())
                self._registry.refresh(connection)
            gone = [e for e in page.entries if e[1] not in here and not self._registry.protects(e[1])]
            self._clear(page, gone, self._sizes(gone))
            left = self._settle()
            self.tally.finished += len(gone) - len(left)

    def carry_out(self, plan: GcPlan) -> None:
        """Everything in `plan`; what cannot be removed is skipped and told."""
        self._limit = plan.limit
        for kind, items in (("run", plan.runs), ("logged model", plan.logged_models)):
            pages = [items[start : start + _PAGE] for start in range(0, len(items), _PAGE)]
            # All of them now: while artifacts go, each small query waits its turn in this process.
            weights = [self._weights(kind, [item.id for item in page]) for page in pages]
            for page, weight in zip(pages, weights, strict=True):
                self._batch(kind, page, weight)
        self._settle()
        for experiment in plan.experiments:
            self._experiment(experiment, plan)

    # batches ---------------------------------------------------------------------------------------------------------

    def _weights(self, kind: str, ids: list[str]) -> dict[str, int]:
        """About how many rows go with each."""
        if kind != "run":
            return dict.fromkeys(ids, 50)
        with self._writer.reader.connect() as connection:
            return self._cascade.weights(connection, ids)

    def _batch(self, kind: str, items: list[GcItem], weights: dict[str, int]) -> None:
        """At most a page of runs, models or traces: written down, rows removed, artifacts removed.

        The artifacts go while the rows of the next page do; `_settle` waits for them.
        """
        with_artifacts: list[Entry] = [(kind, item.id, item.uri or "") for item in items if item.size is not None]
        sizes = {item.id: item.size.bytes for item in items if item.size is not None}
        if self._journal is None:
            # Nowhere to write it down: artifacts first, so that a crash leaves a deleted row and nothing lost to it.
            self._clear(None, with_artifacts, sizes)
            failed = {entry[1] for entry in self._settle()}
            self._rows(kind, [item.id for item in items if item.id not in failed], weights)
            return
        page = self._journal.write(with_artifacts) if with_artifacts else None
        self._step("written down")
        removed = self._rows(kind, [item.id for item in items], weights)
        self._clear(page, [entry for entry in with_artifacts if entry[1] in removed], sizes)

    def _rows(self, kind: str, ids: list[str], weights: dict[str, int]) -> set[str]:
        """Remove these owners with all that belongs to them. Returns the ids of those that are gone."""
        with self._writer.reader.connect() as connection:
            self._cascade.look(connection)
        removed: set[str] = set()
        waiting = list(ids)
        while waiting:
            group: list[str] = []
            weight = 0
            while waiting and (not group or weight + weights[waiting[-1]] <= self._writer.budget):
                group.append(waiting.pop())
                weight += weights[group[-1]]
            if kind == "run" and weight > 2 * self._writer.budget:
                self._nibble(group[0])
            removed |= self._group(kind, group)
        return removed

    def _group(self, kind: str, ids: list[str]) -> set[str]:
        """One transaction; where it fails, halves of it, so that one bad row does not hold up the others."""
        try:
            with self._writer.transaction() as connection:
                due = self._due(connection, kind, ids)
                rows = self._cascade.delete(connection, _OWNERS[kind], due) if due else 0
                self._step("rows about to go")
        except SQLAlchemyError as error:
            require_alive(error)
            if len(ids) > 1:
                middle = len(ids) // 2
                return self._group(kind, ids[:middle]) | self._group(kind, ids[middle:])
            self._skip(kind, ids[0], reason_of(error))
            return set()
        self.tally.rows += rows
        self.tally.removed[kind] += len(due)
        self._step("rows gone")
        return set(due)

    def _due(self, connection: Connection, kind: str, ids: list[str]) -> list[str]:
        """Those that are still to go, their rows locked: users may have restored or registered one meanwhile."""
        query = select(KEY[kind]).where(still(kind, ids, self._limit)).with_for_update()
        found = [str(owner) for owner in connection.execute(query).scalars()]
        self._registry.refresh(connection)
        return [owner for owner in found if not self._registry.protects(owner)]

    def _nibble(self, run: str) -> None:
        """Take the bulk of a large run away in several transactions. Its name says so to whoever restores it."""
        for name, key in self._cascade.parts_of_runs():
            while True:
                with self._writer.transaction() as connection:
                    if not self._due(connection, "run", [run]):
                        return
                    connection.execute(update(RUNS).where(RUNS.c.run_uuid == run).values(name=BEING_REMOVED))
                    limit = self._writer.budget
                    rows = self._cascade.nibble(connection, name, key, run, limit)
                self.tally.rows += rows
                self._step("some rows gone")
                if rows < limit:
                    break

    # artifacts -------------------------------------------------------------------------------------------------------

    def _clear(self, page: JournalPage | None, entries: list[Entry], sizes: dict[str, int]) -> None:
        """Begin to remove the artifacts of these, once those of the page before are gone."""
        self._settle()
        self._clearing = ArtifactRemoval(page, entries, sizes, begin(self._hands, self._remove, entries))

    def _settle(self) -> list[Entry]:
        """Wait for the artifacts that are being removed, then close their page. Returns those that are left."""
        clearing, self._clearing = self._clearing, None
        if clearing is None:
            return []
        problems: list[str | None] = []  # None: not begun
        for number, result in clearing.results:
            problems += [None] * number if result.cancelled() else result.result()
        left = []
        for entry, problem in zip(clearing.entries, problems, strict=True):
            if problem == "":
                self.tally.bytes += clearing.sizes.get(entry[1], 0)
                continue
            left.append(entry)
            if problem:
                self._skip("artifacts", entry[1], problem)
        self._step("artifacts gone")
        if clearing.page is not None and self._journal is not None:
            self._journal.close(clearing.page, left)
            self._step("page closed")
        return left

    def _remove(self, entry: Entry) -> str:
        _kind, owner, uri = entry
        try:
            location = own_folder(uri, owner)
            self._destinations.of(location).remove(location.path)
            self._step("some artifacts gone")
        except (BadLocationError, TroubleError) as error:
            return scrub(str(error))
        return ""

    def _sizes(self, entries: list[Entry]) -> dict[str, int]:
        sizes = {}
        for _kind, owner, uri in entries:
            try:
                location = own_folder(uri, owner)
                size = self._destinations.of(location).look(location.path)
            except (BadLocationError, TroubleError):
                continue  # removing it will tell
            sizes[owner] = size.bytes if size else 0
        return sizes

    # experiments -----------------------------------------------------------------------------------------------------

    def _experiment(self, item: GcItem, plan: GcPlan) -> None:
        for traces in self._traces(item.experiment):
            before = self.tally.removed["trace"]
            self._batch("trace", traces, self._weights("trace", [item.id for item in traces]))
            if self.tally.removed["trace"] == before:
                self._skip("experiment", item.id, "its traces cannot be removed")
                return
        self._settle()
        try:
            with self._writer.transaction() as connection:
                self._registry.refresh(connection)
                if why := not_empty(connection, item.experiment, plan.limit):
                    self._step("experiment stays")
                    self.tally.skipped.append(SkippedItem("experiment", item.id, why, False))
                    return
                self._cascade.look(connection)
                rows = self._cascade.delete(connection, "experiments", [item.experiment])
                self._step("rows about to go")
        except SQLAlchemyError as error:
            require_alive(error)
            self._skip("experiment", item.id, reason_of(error))
            return
        self.tally.rows += rows
        self.tally.removed["experiment"] += 1
        self._step("rows gone")
        self._tidy(item)

    def _traces(self, experiment: int) -> Iterator[list[GcItem]]:
        """All traces of an experiment, a page at a time, as long as pages get removed."""
        while True:
            with self._writer.reader.connect() as connection:
                query = select(TRACES.c.request_id).where(TRACES.c.experiment_id == experiment).limit(_PAGE)
                items = {i: GcItem("trace", i, experiment, None) for i in connection.execute(query).scalars()}
                tags = select(TRACE_TAGS.c.request_id, TRACE_TAGS.c.value).where(
                    TRACE_TAGS.c.request_id.in_(list(items)), TRACE_TAGS.c.key.in_(ARTIFACT_TAGS)
                )
                found = connection.execute(tags).all() if items else []
            if not items:
                return
            for owner, uri in found:
                self._locate(items[owner], uri)
            yield list(items.values())

    def _locate(self, item: GcItem, uri: str) -> None:
        """Traces rarely have artifacts. What cannot be looked at, or is not the trace's own, is left where it is."""
        try:
            location = own_folder(uri, item.id)
            size = self._destinations.of(location).look(location.path)
        except (BadLocationError, TroubleError) as error:
            self._skip("artifacts", item.id, scrub(str(error)))
            return
        if size is not None:
            item.uri, item.size = uri, size

    def _tidy(self, item: GcItem) -> None:
        try:
            location = parse(item.uri)
            self._destinations.of(location).tidy(location.path)
        except (BadLocationError, TroubleError):
            return  # empty folders hurt nobody

    def _skip(self, kind: str, owner: str, why: str) -> None:
        self.tally.skipped.append(SkippedItem(kind, owner, why, True))
