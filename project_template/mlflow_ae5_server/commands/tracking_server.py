"""TrackingServer: checks first, MLflow's own application afterwards, in workers forked from one loaded process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_ae5_server.common import folders, keys
from mlflow_ae5_server.common.errors import ConfigurationError, ProjectError, UnfinishedError, UsageError
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.database import character_sets, locks
from mlflow_ae5_server.database.connection import Database, check_uri, connect_engine, is_absent, wait_until_ready
from mlflow_ae5_server.database.schema import require_current, schema_of
from mlflow_ae5_server.server import admission, artifact_guard, asgi, capacity, hosts, workers
from mlflow_ae5_server.server.prefork import Restarts, Supervisor

_GRACE = 20.0  # seconds for open requests after SIGTERM; Kubernetes kills after 30
_PRIVATE_NETWORKS = "127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"


@dataclass(frozen=True)
class HttpOptions:
    """What AE5 passes as `--anaconda-project-*`. Hosts are `host` or `host:port`, and may repeat."""

    address: str = "0.0.0.0"  # noqa: S104 - AE5 reaches the container on all its addresses
    port: int = 8086
    hosts: list[str] = field(default_factory=list)
    iframe_hosts: list[str] = field(default_factory=list)
    use_xheaders: bool = False
    url_prefix: str = ""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(options: HttpOptions, settings: Settings) -> int:
    """Serve until told to stop; returns the exit code."""
    store = check_uri(settings.value("MLFLOW_BACKEND_STORE_URI"))
    registry = settings.value("MLFLOW_REGISTRY_STORE_URI")
    registry_store = check_uri(registry, "MLFLOW_REGISTRY_STORE_URI") if registry else store
    policy = hosts.derive(
        options.hosts,
        options.iframe_hosts,
        (settings.value("MLFLOW_SERVER_ALLOWED_HOSTS") or "").split(","),
        (settings.value("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS") or "").split(","),
    )
    count, reason = workers.choose(settings.value("MLFLOW_WORKERS") or "auto", workers.read_limits())
    jobs = settings.flag("MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
    wait = settings.seconds("MLFLOW_TRACKING_DATABASE_WAIT")
    artifact_root = settings.value("MLFLOW_DEFAULT_ARTIFACT_ROOT") or "mlflow-artifacts:/"
    destination = settings.value("MLFLOW_ARTIFACTS_DESTINATION") or "mlartifacts"
    prefix = _static_prefix(options.url_prefix)

    _prepare_folders(store, destination, artifact_root)
    with bind(options) as listener, contextlib.ExitStack() as marks:
        if not is_absent(store):  # a server that then refuses to start must not have made it
            wait_until_ready(store, wait, say=say)
        marks.enter_context(locks.serving(store))
        sizes = _sizes(count, store, registry_store)
        sizes.apply(os.environ)
        framed = _set_environment(store.uri, registry_store.uri, artifact_root, destination, prefix, policy, jobs)
        application = _load(store, registry_store.uri, artifact_root, destination, wait)
        job_environment = _prepare_jobs(store.uri, artifact_root, options) if jobs else None
        _drop_connections()
        say(f"database: {store.shown}")
        say(f"serving on {options.address}:{listener.getsockname()[1]} with {sizes.workers} workers ({reason})")
        say(
            f"requests: {sizes.working} per worker use the database at once, on at most {sizes.connections} "
            f"connections ({sizes.reason}); more wait, and are then told to come back (503)"
        )
        say(f"hosts: {policy.summary}; frames: {policy.content_security_policy}")
        bounded = admission.bound(application, admission.Bounds(sizes.working), prefix)
        guarded = asgi.wrap(bounded, policy, prefix, frames=framed)
        work = _worker(guarded, listener, options)
        supervisor = Supervisor(work, sizes.workers, grace=_GRACE, restarts=Restarts(limit=5, window=60.0), say=say)
        with _job_runner(job_environment):
            return supervisor.run()


def _sizes(workers: int, store: Database, registry: Database) -> capacity.Capacity:
    databases = {found.uri: found for found in (store, registry)}.values()
    limits = [limit for found in databases if (limit := capacity.read_limit(found)) is not None]
    pool = capacity.configured_pool(os.environ)
    return capacity.choose(workers, store.dialect, min(limits, default=None), len(databases), pool)


def _static_prefix(url_prefix: str) -> str:
    prefix = url_prefix.strip().rstrip("/")
    if prefix and (not prefix.startswith("/") or "{" in prefix or "}" in prefix):
        raise UsageError(f"--anaconda-project-url-prefix {url_prefix!r} is not a path", "begin it with /")
    return prefix


def _prepare_folders(store: Database, destination: str, artifact_root: str) -> None:
    desired = [
        (store.file.parent if store.file else None, "MLFLOW_BACKEND_STORE_URI"),
        (folders.local_folder(destination), "MLFLOW_ARTIFACTS_DESTINATION"),
        (folders.local_folder(artifact_root), "MLFLOW_DEFAULT_ARTIFACT_ROOT"),
    ]
    for folder, setting in desired:
        if folder is None:
            continue
        folders.make_writable(folder, setting)
        if warning := folders.persistence_warning(folder, os.environ):
            say(f"warning: {setting}: {warning}")


def bind(options: HttpOptions) -> socket.socket:
    """Take the port, so that a port in use is reported before the slow part; nobody is answered until it listens.

    Raises ConfigurationError. asyncio sends at once (TCP_NODELAY) only where the socket names its protocol; otherwise
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
            raise ConfigurationError(
                f"port {options.port} on {options.address} is in use", "stop what listens there, or give another port"
            ) from None
        raise ConfigurationError(f"cannot listen on {options.address}:{options.port}: {error}") from None
    return listener


def _set_environment(
    store: str,
    registry: str,
    artifact_root: str,
    destination: str,
    prefix: str,
    policy: hosts.HostPolicy,
    jobs: bool,
) -> bool:
    """Tell MLflow what its command line would tell its workers (mlflow.server._run_server, 3.17.2).

    MLflow reads some of it while it is imported, so this comes before. Returns whether frames are our business.
    """
    environ = os.environ
    # The server is not a client of itself; with these it would address, and log in to, its own public endpoint.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_WORKSPACE"):
        environ.pop(name, None)
    environ["_MLFLOW_SERVER_FILE_STORE"] = store
    environ["_MLFLOW_SERVER_REGISTRY_STORE"] = registry
    environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifact_root
    environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = destination
    environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    environ["_MLFLOW_SERVER_BOOT_ID"] = uuid.uuid4().hex
    environ["_MLFLOW_IN_JOB_EXECUTOR"] = "false"
    environ["_MLFLOW_SGI_NAME"] = "uvicorn"
    environ.setdefault("MLFLOW_SERVER_SECRETS_CACHE_TTL", "60")
    environ.setdefault("MLFLOW_SERVER_SECRETS_CACHE_MAX_SIZE", "1000")
    environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "true" if jobs else "false"
    environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"  # asgi.py asks the policy before MLflow is asked
    if policy.cors_origins:
        environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(policy.cors_origins)
    if prefix:
        environ["_MLFLOW_STATIC_PREFIX"] = prefix
    # One thread at the time of the fork: no linear algebra here, so no threads of any BLAS, and none of pyarrow's
    # allocator. And few malloc arenas for the many threads of a worker.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environ.setdefault(name, "1")
    environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX (glibc)
    if "MLFLOW_SERVER_X_FRAME_OPTIONS" in environ:
        return False
    if policy.frame_ancestors:
        environ["MLFLOW_SERVER_X_FRAME_OPTIONS"] = "NONE"
    return True


def _load(store: Database, registry_uri: str, artifact_root: str, destination: str, wait: float) -> asgi.Application:
    """Import MLflow's application and open its stores once; a fresh database is initialised, an old one refused."""
    import warnings

    keys.require_usable(os.environ)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own, at import; nothing a reader could act on
        from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores
    from mlflow.tracing.trace_rollup_service import validate_sql_trace_rollup_startup

    _share_pools()
    artifact_guard.keep_from_clients(destination, artifact_root)
    schema = schema_of(store)
    if registry_uri != store.uri:
        registry = check_uri(registry_uri, "MLFLOW_REGISTRY_STORE_URI")
        if schema_of(registry).state == "empty":
            character_sets.require_database(registry)
    if schema.state == "empty":
        with locks.maintenance(store, max(wait, 60.0)):
            if schema_of(store).state == "empty":
                refuse_unfinished(destination)
                character_sets.require_database(store)
                say(f"initialising the empty database {store.shown}")
            initialize_backend_stores(store.uri, registry_uri, artifact_root)
    else:
        require_current(schema, store)
        _warn_of_characters(store)
        initialize_backend_stores(store.uri, registry_uri, artifact_root)
    validate_sql_trace_rollup_startup(store.uri)
    for uri in dict.fromkeys([store.uri, registry_uri]):
        _look_at_keys(check_uri(uri))
    application: asgi.Application = app
    return application


def _look_at_keys(store: Database) -> None:
    """Encrypt anew what anybody could read, and say what the keys at hand do not read."""
    from sqlalchemy.exc import SQLAlchemyError

    engine = connect_engine(store)
    try:
        if number := keys.adopt(engine, os.environ):
            say(
                f"encrypted again, with {keys.PASSPHRASE}: {counted(number, keys.PROTECTS[keys.PASSPHRASE])} that a "
                "constant published by MLflow had encrypted. Older backups keep them as they were: replace them at "
                "their provider"
            )
        for warning in keys.warnings(keys.examine(engine, os.environ), os.environ):
            say(f"warning: {warning}")
    except SQLAlchemyError as error:
        say(f"warning: what is encrypted was not looked at: {type(error).__name__}")


def _warn_of_characters(store: Database) -> None:
    """A server whose data is there already is better than none."""
    try:
        character_sets.require_database(store)
        character_sets.require_tables(store)
    except ConfigurationError as error:
        say(f"warning: {error}")


def refuse_unfinished(destination: str) -> None:
    """UnfinishedError where a restore was cut off: its database is empty until the end, and a new one would be in its
    way."""
    from mlflow_ae5_server.restore import journal

    try:
        journal.refuse_interrupted(destination)
    except UnfinishedError:
        raise
    except ProjectError as error:  # a kind of store that restores do not know, or one that does not answer now
        say(f"note: whether a restore is under way cannot be told: {error.message}")
        return


def _share_pools() -> None:
    """One pool per database for all of MLflow's stores: each would make its own, and nobody could say how many
    connections a worker has."""
    from mlflow.store.jobs.sqlalchemy_store import SqlAlchemyJobStore
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    for store in (RegistryStore, SqlAlchemyJobStore):
        store._engine_map = TrackingStore._engine_map
        store._engine_map_lock = TrackingStore._engine_map_lock


def _drop_connections() -> None:
    """Close every pooled connection: a connection shared by two processes after the fork would mix their answers."""
    from sqlalchemy.engine import Engine

    gc.collect()
    for candidate in gc.get_objects():
        if isinstance(candidate, Engine):
            candidate.dispose()


def _worker(application: asgi.Application, listener: socket.socket, options: HttpOptions) -> Callable[[], int]:
    """The body of a worker process: uvicorn, configured as MLflow configures it."""
    import mlflow.server
    import uvicorn

    config = uvicorn.Config(
        application,
        log_config=str(Path(mlflow.server.__file__).with_name("uvicorn_log_config.yaml")),
        proxy_headers=options.use_xheaders,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", _PRIVATE_NETWORKS),
        server_header=False,
        timeout_graceful_shutdown=int(_GRACE) - 5,
    )

    def work() -> int:
        server = uvicorn.Server(config)
        server.run(sockets=[listener])
        return 0 if server.started else 3

    return work


def _prepare_jobs(store: str, artifact_root: str, options: HttpOptions) -> dict[str, str]:
    """As `mlflow server` prepares its job processes (mlflow.server._run_server, 3.17.2); raises if they cannot run."""
    from mlflow.server.constants import HUEY_STORAGE_PATH_ENV_VAR
    from mlflow.server.jobs.executor_registry import validate_executor_config
    from mlflow.server.jobs.utils import _check_requirements, get_job_execution_engine

    _check_requirements(store)
    validate_executor_config()
    get_job_execution_engine()
    memory = Path("/dev/shm")  # noqa: S108 - a queue in memory, in a folder of our own
    os.environ[HUEY_STORAGE_PATH_ENV_VAR] = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    server = f"http://127.0.0.1:{options.port}"
    environment = {
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_TRACKING_URI": server,
    }
    if "MLFLOW_GATEWAY_URI" not in os.environ:
        environment["MLFLOW_GATEWAY_URI"] = server
    return environment


@contextlib.contextmanager
def _job_runner(environment: dict[str, str] | None) -> Iterator[None]:
    """MLflow's job runner beside the server, if asked for. It ends by itself when this process is gone.

    The runner and its children write to the file descriptors they inherit, past our filter; so they inherit a pipe
    into a filter process instead.
    """
    if environment is None:
        yield
        return
    from mlflow.server.jobs import utils

    command = [sys.executable, "-m", "mlflow_ae5_server.common.redact_pipe"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as filtering:
        if filtering.stdin is None:
            raise AssertionError("asked for a pipe")
        kept = os.dup(1), os.dup(2)
        try:
            for number in (1, 2):
                os.dup2(filtering.stdin.fileno(), number)
            runner = utils._launch_job_execution_runner(environment, os.getpid())  # type: ignore[no-untyped-call]
        finally:
            for number, original in zip((1, 2), kept, strict=True):
                os.dup2(original, number)
                os.close(original)
            filtering.stdin.close()
        try:
            yield
        finally:
            runner.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                runner.wait(timeout=10)
