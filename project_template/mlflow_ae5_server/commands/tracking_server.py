"""TrackingServer: checks, then MLflow's application in forked workers."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_ae5_server.common import folders
from mlflow_ae5_server.common.errors import Configuration, Usage
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.database import locks
from mlflow_ae5_server.database.connection import Database, Databases, check_uri, is_absent, wait_until_ready
from mlflow_ae5_server.server import (
    admission,
    application,
    capacity,
    host_guard,
    host_policy,
    job_runner,
    metrics,
    variables,
    worker_count,
)
from mlflow_ae5_server.server.prefork import Restarts, Supervisor

_GRACE = 20.0  # seconds for open requests after SIGTERM; Kubernetes kills after 30
_PRIVATE_NETWORKS = "127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"


@dataclass(frozen=True)
class HttpOptions:
    """What AE5 passes as `--anaconda-project-*`; hosts may have a port."""

    address: str = "0.0.0.0"  # noqa: S104 - AE5 reaches the container on all its addresses
    port: int = 8086
    hosts: list[str] = field(default_factory=list)
    iframe_hosts: list[str] = field(default_factory=list)
    use_xheaders: bool = False
    url_prefix: str = ""


def run(options: HttpOptions, settings: Settings) -> int:
    """Serve until a signal ends it. Returns the exit code."""
    databases = _databases(settings)
    store = databases.store
    variables.require_supported(os.environ)
    policy = host_policy.derive(
        options.hosts,
        options.iframe_hosts,
        (settings.value("MLFLOW_SERVER_ALLOWED_HOSTS") or "").split(","),
        (settings.value("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS") or "").split(","),
    )
    count, reason = worker_count.choose(settings.value("MLFLOW_WORKERS") or "auto", worker_count.read_limits())
    jobs = settings.flag("MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
    wait = settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT")
    artifact_root = settings.value("MLFLOW_DEFAULT_ARTIFACT_ROOT") or "mlflow-artifacts:/"
    destination = settings.value("MLFLOW_ARTIFACTS_DESTINATION") or "mlartifacts"
    prefix = _static_prefix(options.url_prefix)

    _prepare_folders(store, destination, artifact_root)
    with bind(options) as listener, contextlib.ExitStack() as marks:
        if not is_absent(store):  # connecting would create it, and the server may refuse to start
            wait_until_ready(store, wait, say=say)
        if databases.replica is not None:
            wait_until_ready(databases.replica, wait, say=say)
            variables.require_standby_of(store, databases.replica)
        marks.enter_context(locks.serving(store))
        sizes = _sizes(count, databases)
        sizes.apply(os.environ)
        measured = _metrics(settings, databases, sizes, listener, marks)  # before MLflow, which has counters, too
        framed = application.set_environment(databases, artifact_root, destination, prefix, policy, jobs)
        app = application.load(databases, artifact_root, destination, wait)
        job_environment = job_runner.prepare(store.uri, artifact_root, options.port) if jobs else None
        application.drop_connections()
        _announce(databases, f"{options.address}:{listener.getsockname()[1]}", sizes, reason, policy)
        bounded = admission.bound(app, admission.Bounds(sizes.working), prefix, refused=measured.refused)
        guarded = host_guard.wrap(
            measured.wrap(bounded, prefix), policy, prefix, frames=framed, refused=measured.refused
        )
        work = _worker(guarded, listener, options, measured.begin)
        with job_runner.running(job_environment) as runner:
            supervisor = Supervisor(
                work,
                sizes.workers,
                grace=_GRACE,
                restarts=Restarts(limit=5, window=60.0),
                say=say,
                died=measured.died,
                job_runner=runner,
            )
            return supervisor.run()


def _databases(settings: Settings) -> Databases:
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    registry, replica = settings.value(variables.REGISTRY), settings.value(variables.REPLICA)
    databases = Databases(
        store,
        registry=check_uri(registry, variables.REGISTRY) if registry else store,
        replica=check_uri(replica, variables.REPLICA) if replica else None,
    )
    variables.require_replica(databases)
    return databases


def _announce(
    databases: Databases, address: str, sizes: capacity.Capacity, reason: str, policy: host_policy.HostPolicy
) -> None:
    """reason: why there are so many workers."""
    replica = databases.replica
    say(f"database: {databases.store.shown}" + (f", read replica: {replica.shown}" if replica is not None else ""))
    say(f"serving on {address} with {counted(sizes.workers, 'workers')} ({reason})")
    say(
        f"requests: {sizes.working} at a time per worker, on at most {counted(sizes.connections, 'connections')} "
        f"({sizes.reason}); others wait, and get 503 after a while"
    )
    say(f"hosts: {policy.summary}; frames: {policy.content_security_policy}")


def _metrics(
    settings: Settings,
    databases: Databases,
    sizes: capacity.Capacity,
    listener: socket.socket,
    stack: contextlib.ExitStack,
) -> metrics.Metrics | metrics.NoMetrics:
    """A server without metrics is better than none, so their folder is no reason not to start."""
    if not settings.flag("MLFLOW_TRACKING_METRICS"):
        return metrics.NoMetrics()
    try:
        folder = stack.enter_context(metrics.folder(listener.getsockname()[1]))
        measured = metrics.Metrics(folder, sizes.workers)
    except metrics.Unavailable as error:
        say(f"warning: {metrics.PATH} has no metrics: {error}")
        return metrics.NoMetrics(str(error))
    from mlflow_ae5_server.server.observed import Observed

    connections = sizes.workers * sizes.connections * len(databases.distinct)
    measured.watch(Observed(settings, databases.store, sizes.workers, connections))
    say(f"metrics: {metrics.PATH}, behind the same token as everything else")
    return measured


def _sizes(workers: int, databases: Databases) -> capacity.Capacity:
    each = databases.distinct
    limits = [limit for database in each if (limit := capacity.read_limit(database)) is not None]
    pool = capacity.configured_pool(os.environ)
    return capacity.choose(workers, databases.store.dialect, min(limits, default=None), len(each), pool)


def _static_prefix(url_prefix: str) -> str:
    prefix = url_prefix.strip().rstrip("/")
    if prefix and (not prefix.startswith("/") or "{" in prefix or "}" in prefix):
        raise Usage(f"--anaconda-project-url-prefix {url_prefix!r} is not a path", "start it with /")
    return prefix


def _prepare_folders(store: Database, destination: str, artifact_root: str) -> None:
    for folder, setting in (
        (store.file.parent if store.file else None, "MLFLOW_BACKEND_STORE_URI"),
        (folders.local_folder(destination), "MLFLOW_ARTIFACTS_DESTINATION"),
        (folders.local_folder(artifact_root), "MLFLOW_DEFAULT_ARTIFACT_ROOT"),
    ):
        if folder is None:
            continue
        folders.make_writable(folder, setting)
        if warning := folders.persistence_warning(folder, os.environ):
            say(f"warning: {setting}: {warning}")


def bind(options: HttpOptions) -> socket.socket:
    """Take the port, so that one in use is reported before the slow part.

    Raises Configuration. asyncio sends at once (TCP_NODELAY) only where the socket names its protocol; otherwise
    each answer but the first of a connection waits some 40 ms for the client's acknowledgement.
    """
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.address, options.port))
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise Configuration(
                f"port {options.port} on {options.address} is in use",
                "stop the program that uses it, or choose another port",
            ) from None
        raise Configuration(f"cannot listen on {options.address}:{options.port}: {error}") from None
    return listener


def _worker(
    app: host_guard.Application, listener: socket.socket, options: HttpOptions, begin: Callable[[int], None]
) -> Callable[[int], int]:
    """The body of a worker process: uvicorn, configured as MLflow configures it."""
    import mlflow.server
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=str(Path(mlflow.server.__file__).with_name("uvicorn_log_config.yaml")),
        proxy_headers=options.use_xheaders,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", _PRIVATE_NETWORKS),
        server_header=False,
        timeout_graceful_shutdown=int(_GRACE) - 5,
    )

    def work(slot: int) -> int:
        begin(slot)
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        return 0 if server.started else 3

    return work
