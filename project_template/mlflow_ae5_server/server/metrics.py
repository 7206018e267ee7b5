"""`/metrics` in Prometheus form, for all workers together.

AE5's proxy asks for a token before any path reaches the server, this one too.

Each worker counts in files of its own, and whichever gets the scrape adds them up (prometheus_client's multiprocess
mode). Files are named after the worker's slot, not its process, so that a worker that replaces a dead one counts on:
no counter falls, and no file is left over. What is not counted but looked up is in observed.py.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from mlflow_ae5_server.common.errors import hint_for
from mlflow_ae5_server.server.host_guard import Application, Message, Receive, Scope, Send, answer

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

PATH = "/metrics"
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for the files
# Allocated before the workers write, because a write to a mapped file that the disk has no room for ends the process.
_SIZES = {"counter": 512 * 1024, "histogram": 2 * 1024 * 1024, "gauge_livesum": 64 * 1024}
_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_QUERY_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_UNMATCHED = "unmatched"  # label of a path without a route: no client can make labels
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Routes of MLflow 3.17.2 that move files. Others with `artifact` in their paths list, delete, or sign URLs;
# `get-trace-artifact` mostly sends what is in the database.
_FILES = re.compile(
    r"/(ajax-)?api/2\.0/mlflow-artifacts/artifacts/.+"
    r"|(/model-versions)?/get-artifact"
    r"|/ajax-api/2\.0/mlflow/(upload-artifact|logged-models/[^/]+/artifacts/files)"
)
_DIRECTIONS = {"GET": "download", "PUT": "upload", "POST": "upload"}
_route: ContextVar[list[str]] = ContextVar("route")  # of the request, once Flask has found it


class Unavailable(Exception):
    """The server runs without metrics, for this reason."""


class Metrics:
    """The counters of this server. Created before the fork, in a folder from `folder`."""

    def __init__(self, folder: Path, workers: int) -> None:
        try:
            import prometheus_client
            from prometheus_client import multiprocess, values
        except ImportError:
            raise Unavailable("the package prometheus_client is not installed") from None
        _allocate(folder, workers)
        self._slot = 0  # of this process: 0 is the parent
        os.environ[_FOLDER_VARIABLE] = str(folder)
        values.ValueClass = values.MultiProcessValue(lambda: self._slot)  # type: ignore[no-untyped-call]
        self._folder = folder
        registry = self._registry = prometheus_client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
        own = prometheus_client.CollectorRegistry()  # never collected: the files are
        self._requests = prometheus_client.Counter(
            "mlflow_ae5_http_requests_total", "HTTP requests answered.", ["route", "method", "code"], registry=own
        )
        self._seconds = prometheus_client.Histogram(
            "mlflow_ae5_http_request_duration_seconds",
            "Time from the request to the end of its answer.",
            ["route", "method"],
            buckets=_REQUEST_BUCKETS,
            registry=own,
        )
        self._in_flight = prometheus_client.Gauge(
            "mlflow_ae5_http_requests_in_flight", "HTTP requests being answered.", multiprocess_mode="livesum",
            registry=own,
        )  # fmt: skip
        self._refused = prometheus_client.Counter(
            "mlflow_ae5_http_requests_refused_total",
            "HTTP requests refused before MLflow got them: overload (503), wrong host or origin (403).",
            ["reason"],
            registry=own,
        )
        self._bytes = prometheus_client.Counter(
            "mlflow_ae5_artifact_bytes_total", "Bytes of artifacts moved by successful requests.", ["direction"],
            registry=own,
        )  # fmt: skip
        self._connections = prometheus_client.Gauge(
            "mlflow_ae5_database_connections_in_use", "Database connections that requests hold.",
            multiprocess_mode="livesum", registry=own,
        )  # fmt: skip
        self._query = prometheus_client.Histogram(
            "mlflow_ae5_database_query_duration_seconds", "Time of a database statement.", buckets=_QUERY_BUCKETS,
            registry=own,
        )  # fmt: skip
        self._restarts = prometheus_client.Counter(
            "mlflow_ae5_worker_restarts_total", "Worker processes that died and were replaced.", registry=own
        )
        for reason in ("overload", "host", "origin"):
            self._refused.labels(reason)
        self._upload, self._download = self._bytes.labels("upload"), self._bytes.labels("download")
        self._statements: deque[float] = deque(maxlen=100_000)  # seconds of each, since the last request ended
        self._of: dict[tuple[str, str, str], tuple[Any, Any]] = {}

    def watch(self, collector: Collector) -> None:
        """Add what is looked up at each scrape."""
        self._registry.register(collector)

    def _watch_database(self) -> None:
        """Measure the statements and connections of all engines.

        Around the driver's call: SQLAlchemy's events before and after it cost three times as much.
        """
        from sqlalchemy import event
        from sqlalchemy.engine import Engine
        from sqlalchemy.pool import Pool

        note, clock = self._statements.append, time.perf_counter

        def measured(name: str) -> Callable[[Any, Any, Any, Any], bool]:
            def run(cursor: Any, statement: Any, values: Any, context: Any) -> bool:
                began = clock()
                try:
                    getattr(context.dialect, name)(cursor, statement, values, context)
                finally:
                    note(clock() - began)
                return True  # done

            return run

        for name in ("do_execute", "do_executemany"):
            event.listen(Engine, name, measured(name))
        event.listen(Pool, "checkout", lambda *_: self._connections.inc())
        event.listen(Pool, "checkin", lambda *_: self._connections.dec())

    def _add_statements(self) -> None:
        """Bring the histogram up to date, once per request: `observe` for each statement costs six times as much."""
        if not self._statements:
            return
        counts, total = [0] * (len(_QUERY_BUCKETS) + 1), 0.0
        with contextlib.suppress(IndexError):  # other threads take from it, too
            while True:
                seconds = self._statements.popleft()
                counts[bisect.bisect_left(_QUERY_BUCKETS, seconds)] += 1
                total += seconds
        self._query._sum.inc(total)
        for bucket, count in zip(self._query._buckets, counts, strict=True):
            if count:
                bucket.inc(count)

    def begin(self, slot: int) -> None:
        """In a worker, after the fork."""
        self._slot = slot

    def died(self, slot: int) -> None:
        """Reset the gauges of a dead worker, in the parent."""
        with contextlib.suppress(OSError):
            _file(self._folder, "gauge_livesum", slot).write_bytes(bytes(_SIZES["gauge_livesum"]))
        self._restarts.inc()

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def wrap(self, application: Application, prefix: str = "") -> Application:
        """`application` with its requests counted, and `/metrics`."""
        _watch_flask()
        self._watch_database()

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
            elif scope["path"] == prefix + PATH:
                await _answer(send, 200, await anyio.to_thread.run_sync(self._text))
            else:
                await self._count(application, scope, receive, send, prefix)

        return counted

    async def _count(self, application: Application, scope: Scope, receive: Receive, send: Send, prefix: str) -> None:
        route = [""]
        _route.set(route)
        code, began, direction, uploaded = "none", time.perf_counter(), _direction(scope, prefix), 0

        async def sending(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            elif direction == "download" and code[0] == "2" and message["type"] == "http.response.body":
                self._download.inc(len(message.get("body", b"")))
            await send(message)

        async def receiving() -> Message:
            nonlocal uploaded
            message = await receive()
            uploaded += len(message.get("body", b""))
            return message

        self._in_flight.inc()
        try:
            await application(scope, receiving if direction == "upload" else receive, sending)
        except Exception:
            code = "500" if code == "none" else code
            raise
        finally:
            took = time.perf_counter() - began
            self._in_flight.dec()
            if code[0] == "2":
                self._upload.inc(uploaded)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            name = route[0] or getattr(scope.get("route"), "path_format", "") or _UNMATCHED
            requests, seconds = self._instruments(name.removeprefix(prefix), method, code)
            self._add_statements()
            requests.inc()
            seconds.observe(took)

    def _instruments(self, route: str, method: str, code: str) -> tuple[Any, Any]:
        found = self._of.get((route, method, code))
        if found is None:
            found = self._requests.labels(route, method, code), self._seconds.labels(route, method)
            self._of[route, method, code] = found
        return found

    def _text(self) -> bytes:
        from prometheus_client import generate_latest

        self._add_statements()
        return generate_latest(self._registry)


class NoMetrics:
    """Counts nothing.

    reason: why, where metrics are configured: `/metrics` is 503 then, so the scraper reports it down.
    """

    def __init__(self, reason: str = "") -> None:
        self._reason = reason

    def begin(self, slot: int) -> None:
        pass

    def died(self, slot: int) -> None:
        pass

    def refused(self, reason: str) -> None:
        pass

    def wrap(self, application: Application, prefix: str = "") -> Application:
        if not self._reason:
            return application

        async def serving(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == prefix + PATH:
                await _answer(send, 503, f"# no metrics: {self._reason}\n".encode())
            else:
                await application(scope, receive, send)

        return serving


@contextlib.contextmanager
def folder(port: int) -> Iterator[Path]:
    """A folder (0700) for this start. Raises Unavailable.

    The server holds the port, so what an earlier start left in its folder is of a server that has ended.
    """
    path = Path(tempfile.gettempdir()) / f"mlflow-ae5-metrics-{port}"
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.mkdir(mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise Unavailable(f"the folder {path} cannot be written: {error.strerror} ({hint_for(error)})") from None
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _allocate(folder: Path, workers: int) -> None:
    for slot in range(workers + 1):
        for kind, size in _SIZES.items():
            file = _file(folder, kind, slot)
            try:
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, size)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise Unavailable(f"{file} cannot be written: {error.strerror} ({hint_for(error)})") from None


def _direction(scope: Scope, prefix: str) -> str:
    """Of the artifact that the request moves; empty where it moves none."""
    return _DIRECTIONS.get(scope["method"], "") if _FILES.fullmatch(scope["path"].removeprefix(prefix)) else ""


def _file(folder: Path, kind: str, slot: int) -> Path:
    return folder / f"{kind}_{slot}.db"


def _watch_flask() -> None:
    """Have Flask note the route of each request: what it serves is one route to everything outside."""
    from flask import request, request_started
    from mlflow.server import app

    def note(_sender: Any, **_more: Any) -> None:
        if (rule := request.url_rule) is not None and (holder := _route.get(None)) is not None:
            holder[0] = rule.rule

    request_started.connect(note, app, weak=False)


async def _answer(send: Send, status: int, body: bytes) -> None:
    form = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
    await answer(send, status, body, form, (b"cache-control", b"no-store"))
