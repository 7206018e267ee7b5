"""Remove what the plan contains, page by page: journal, rows, artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select

from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.cascade import Cascade
from mlflow_ae5_server.gc.destinations import Destinations
from mlflow_ae5_server.gc.journal import Entry, GcJournal, JournalPage
from mlflow_ae5_server.gc.locations import BadLocationError, artifact_folder, parse
from mlflow_ae5_server.gc.plan import ARTIFACT_TAGS, GcItem, GcPlan
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.row_removal import KEY, RemovalCounts, RowRemoval
from mlflow_ae5_server.gc.stores import StoreError, submit
from mlflow_ae5_server.gc.tables import TRACE_TAGS, TRACES
from mlflow_ae5_server.gc.transactions import DeletingConnection

_PAGE = 800  # owners in one page of the journal


@dataclass(frozen=True)
class ArtifactRemoval:
    """Artifacts that are being removed."""

    page: JournalPage | None
    entries: list[Entry]
    sizes: dict[str, int]
    results: list[tuple[int, Future[list[str]]]]  # number of entries, and for each of them its problem or ""


class Removal:
    """Removes the items of a plan.

    threads: folders that are removed at a time. step: called between any two steps, with the name of the one that is
    done; tests end the process there.
    """

    def __init__(
        self,
        writer: DeletingConnection,
        cascade: Cascade,
        registry: Registry,
        destinations: Destinations,
        journal: GcJournal | None,
        limit: int,
        *,
        threads: int = 4,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._reader, self._registry = writer.reader, registry
        self._destinations, self._journal, self._step = destinations, journal, step
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="remove")
        self._artifacts: ArtifactRemoval | None = None
        self.counts = RemovalCounts()
        self._rows = RowRemoval(writer, cascade, registry, self.counts, limit, step)

    def close(self) -> None:
        """Count what is being removed; what was not started is left to the next run."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._wait_for_artifacts()

    def resume(self) -> None:
        """Remove the artifacts of rows that an interrupted run deleted."""
        for page in self._journal.pages() if self._journal else ():
            existing: set[str] = set()
            with self._reader.connect() as connection:
                for kind in {kind for kind, _, _ in page.entries} & KEY.keys():
                    ids = [owner for k, owner, _ in page.entries if k == kind]
                    existing.update(connection.execute(select(KEY[kind]).where(KEY[kind].in_(ids))).scalars())
                self._registry.refresh(connection)
            gone = [e for e in page.entries if e[1] not in existing and not self._registry.protects(e[1])]
            self._start_artifacts(page, gone, self._sizes(gone))
            left = self._wait_for_artifacts()
            self.counts.resumed += len(gone) - len(left)

    def remove(self, plan: GcPlan) -> None:
        """Remove everything in `plan`; what cannot be removed is counted as failed."""
        if plan.runs:
            self._rows.weigh([item.id for item in plan.runs])
        for kind, items in (("run", plan.runs), ("logged model", plan.logged_models)):
            for start in range(0, len(items), _PAGE):
                self._remove_page(kind, items[start : start + _PAGE])
        self._wait_for_artifacts()
        for experiment in plan.experiments:
            self._remove_experiment(experiment)

    def _remove_page(self, kind: str, items: list[GcItem]) -> None:
        """Remove at most a page of runs, models or traces: journal, rows, artifacts.

        The artifacts go while the rows of the next page do; `_wait_for_artifacts` waits for them.
        """
        with_artifacts: list[Entry] = [(kind, item.id, item.uri or "") for item in items if item.size is not None]
        sizes = {item.id: item.size.bytes for item in items if item.size is not None}
        if self._journal is None:
            # No journal: artifacts first, so that a crash leaves a deleted row, which the next run removes.
            self._start_artifacts(None, with_artifacts, sizes)
            failed = {entry[1] for entry in self._wait_for_artifacts()}
            self._rows.remove(kind, [item.id for item in items if item.id not in failed])
            return
        page = self._journal.write(with_artifacts) if with_artifacts else None
        self._step("page written")
        removed = self._rows.remove(kind, [item.id for item in items])
        self._start_artifacts(page, [entry for entry in with_artifacts if entry[1] in removed], sizes)

    # artifacts -------------------------------------------------------------------------------------------------------

    def _start_artifacts(self, page: JournalPage | None, entries: list[Entry], sizes: dict[str, int]) -> None:
        """Start to remove these artifacts, after those of the page before."""
        self._wait_for_artifacts()
        results = submit(self._threads, self._remove_artifacts, entries)
        self._artifacts = ArtifactRemoval(page, entries, sizes, results)

    def _remove_artifacts(self, entry: Entry) -> str:
        _kind, owner, uri = entry
        try:
            self._destinations.remove(artifact_folder(uri, owner))
            self._step("folder removed")
        except (BadLocationError, StoreError) as error:
            return scrub(str(error))
        return ""

    def _wait_for_artifacts(self) -> list[Entry]:
        """Wait for the artifacts, close their page, and return the entries left."""
        running, self._artifacts = self._artifacts, None
        if running is None:
            return []
        problems: list[str | None] = []  # None: not started
        for number, result in running.results:
            problems += [None] * number if result.cancelled() else result.result()
        left = []
        for entry, problem in zip(running.entries, problems, strict=True):
            if problem == "":
                self.counts.bytes += running.sizes.get(entry[1], 0)
                continue
            left.append(entry)
            if problem:
                self.counts.fail("artifacts", entry[1], problem)
        self._step("artifacts removed")
        if running.page is not None and self._journal is not None:
            self._journal.close(running.page, left)
            self._step("page closed")
        return left

    def _sizes(self, entries: list[Entry]) -> dict[str, int]:
        sizes = {}
        for _kind, owner, uri in entries:
            try:
                size = self._destinations.size(artifact_folder(uri, owner))
            except (BadLocationError, StoreError):
                continue  # its removal will report that
            sizes[owner] = size.bytes if size else 0
        return sizes

    # experiments -----------------------------------------------------------------------------------------------------

    def _remove_experiment(self, item: GcItem) -> None:
        for traces in self._traces(item.experiment):
            before = self.counts.removed["trace"]
            self._remove_page("trace", traces)
            if self.counts.removed["trace"] == before:
                self.counts.fail("experiment", item.id, "its traces cannot be removed")
                return
        self._wait_for_artifacts()
        if not self._rows.remove_experiment(item.experiment):
            return
        try:
            self._destinations.remove_empty(parse(item.uri))
        except (BadLocationError, StoreError):
            return  # empty folders do no harm

    def _traces(self, experiment: int) -> Iterator[list[GcItem]]:
        """All traces of an experiment, a page at a time, as long as pages get removed."""
        while True:
            with self._reader.connect() as connection:
                query = select(TRACES.c.request_id).where(TRACES.c.experiment_id == experiment).limit(_PAGE)
                items = {i: GcItem("trace", i, experiment, None) for i in connection.execute(query).scalars()}
                tags = select(TRACE_TAGS.c.request_id, TRACE_TAGS.c.value).where(
                    TRACE_TAGS.c.request_id.in_(list(items)), TRACE_TAGS.c.key.in_(ARTIFACT_TAGS)
                )
                locations = connection.execute(tags).all() if items else []
            if not items:
                return
            for owner, uri in locations:
                self._locate(items[owner], uri)
            yield list(items.values())

    def _locate(self, trace: GcItem, uri: str) -> None:
        """Set location and size of a trace's artifacts, if they are its own."""
        try:
            size = self._destinations.size(artifact_folder(uri, trace.id))
        except (BadLocationError, StoreError) as error:
            self.counts.fail("artifacts", trace.id, scrub(str(error)))
            return
        if size is not None:
            trace.uri, trace.size = uri, size
