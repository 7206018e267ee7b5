"""What `/metrics` looks up at each scrape: the database, the volumes, and how the last jobs ended."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlflow_ae5_server import __version__
from mlflow_ae5_server.common import folders, outcomes
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database.connection import Database, connect_engine, is_absent
from mlflow_ae5_server.database.schema import VERSION_TABLE, mlflow_version

_DATABASE_LIMIT = 3.0  # seconds: a scrape ends, whatever the database does
_OF_JOBS = {
    "finished": ("mlflow_ae5_job_last_run_timestamp_seconds", "When the last run of this kind of job ended."),
    "succeeded": ("mlflow_ae5_job_last_success_timestamp_seconds", "When the last successful run ended."),
    "seconds": ("mlflow_ae5_job_last_duration_seconds", "How long the last run took."),
    "exit_code": ("mlflow_ae5_job_last_exit_code", "Exit code of the last run, 0 for success."),
    "bytes": ("mlflow_ae5_job_last_size_bytes", "Bytes that the last successful run copied, read or deleted."),
}


@dataclass(frozen=True)
class Answered:
    """The database's answer: seconds it took, and its schema revision."""

    seconds: float
    revision: str | None


class Observed(Collector):
    """connections: that all workers may use together. ask: a query of the database; it may raise or hang."""

    def __init__(
        self, settings: Settings, store: Database, workers: int, connections: int,
        ask: Callable[[Database], Answered] | None = None, limit: float = _DATABASE_LIMIT,
    ) -> None:  # fmt: skip
        self._settings, self._store = settings, store
        self._workers, self._connections = workers, connections
        self._ask, self._limit = ask or revision_of, limit
        self._asking: threading.Thread | None = None

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "mlflow_ae5_build_info", "Version of the server and of MLflow.",
            {"version": __version__, "mlflow_version": mlflow_version()}, 1,
        )  # fmt: skip
        yield _gauge("mlflow_ae5_workers", "Worker processes that are configured.", {}, self._workers)
        yield _gauge(
            "mlflow_ae5_database_connections_max", "Connections that the workers may use.", {}, self._connections
        )
        yield from self._database()
        yield from self._volumes()
        yield from self._jobs()

    def _database(self) -> Iterator[Metric]:
        answer = self._answer()
        yield _gauge("mlflow_ae5_database_up", "Whether the database answers within 3 s.", {}, answer is not None)
        if answer is None:
            return
        yield _gauge("mlflow_ae5_database_answer_seconds", "Time to connect and read a row.", {}, answer.seconds)
        if answer.revision is not None:
            labels = {"revision": answer.revision}
            yield _gauge("mlflow_ae5_database_schema_info", "Revision of the database's schema.", labels, 1)

    def _answer(self) -> Answered | None:
        """None where it fails or takes too long. While an earlier query hangs, no other is started."""
        if self._asking is not None and self._asking.is_alive():
            return None
        answers: list[Answered] = []

        def ask() -> None:
            with contextlib.suppress(Exception):  # drivers have exceptions of their own; the server's log has them
                answers.append(self._ask(self._store))

        self._asking = threading.Thread(target=ask, daemon=True)
        self._asking.start()
        self._asking.join(self._limit)
        return answers[0] if answers else None

    def _volumes(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("mlflow_ae5_volume_free_bytes", "Free bytes of a volume.", labels=["volume"])
        size = GaugeMetricFamily("mlflow_ae5_volume_size_bytes", "Size of a volume in bytes.", labels=["volume"])
        for volume, path in outcomes.local_folders(self._settings):
            try:
                usage = shutil.disk_usage(folders.nearest_existing(path))
            except OSError:
                continue
            free.add_metric([volume], usage.free)
            size.add_metric([volume], usage.total)
        yield from (free, size)

    def _jobs(self) -> Iterator[Metric]:
        found = outcomes.read(self._settings)
        for field, (name, text) in _OF_JOBS.items():
            family = GaugeMetricFamily(name, text, labels=["kind"])
            for kind, numbers in found.items():
                if field in numbers:
                    family.add_metric([kind], numbers[field])
            yield family


def revision_of(store: Database) -> Answered:
    from sqlalchemy import text

    if is_absent(store):  # connecting would create it
        raise FileNotFoundError(store.shown)
    began = time.perf_counter()
    with connect_engine(store).connect() as connection:
        revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return Answered(time.perf_counter() - began, revision)


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), float(value))
    return family
