"""The sandbox as one object, on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
import trustme
from aiohttp import web

from mlflow_ae5_deploy.sandbox import certificates
from mlflow_ae5_deploy.sandbox.api import deployments as deployment_routes
from mlflow_ae5_deploy.sandbox.api import jobs as job_routes
from mlflow_ae5_deploy.sandbox.api import profiles as profile_routes
from mlflow_ae5_deploy.sandbox.api.app import platform_app
from mlflow_ae5_deploy.sandbox.api.proxy import Proxy
from mlflow_ae5_deploy.sandbox.auth.accounts import DEFAULT_ROLE, EVERYONE, hash_password
from mlflow_ae5_deploy.sandbox.control_plane.api import control_app
from mlflow_ae5_deploy.sandbox.control_plane.control import Control
from mlflow_ae5_deploy.sandbox.core import HTTP_LOG, LOG, SandboxCore
from mlflow_ae5_deploy.sandbox.info import ADMIN, SandboxError, SandboxInfo
from mlflow_ae5_deploy.sandbox.ports import Endpoints, listen, wildcard_names_resolve
from mlflow_ae5_deploy.sandbox.postgres import Postgres
from mlflow_ae5_deploy.sandbox.secret_files import SecretFiles
from mlflow_ae5_deploy.sandbox.settings import SandboxSettings
from mlflow_ae5_deploy.sandbox.store import SandboxStore, make_private_folder, write_private
from mlflow_ae5_deploy.sandbox.supervisor.deployments import DeploymentSupervisor
from mlflow_ae5_deploy.sandbox.supervisor.jobs import JobSupervisor
from mlflow_ae5_deploy.sandbox.supervisor.processes import can_mount_secrets, reap_stale

PERSON = "dev-user"
SERVICE_ACCOUNT = "mlflow-service"
Database = Literal["sqlite", "postgresql"]


class Sandbox:
    """A sandbox on a state folder; `start` and `stop` return when done.

    Only one at a time may use a state folder; `lifecycle` sees to that with a lock, tests with fresh folders.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: dict[str, Any] | None = None,
        *,
        port: int | None = None,
        database: Database = "sqlite",
    ) -> None:
        self._state_dir = make_private_folder(Path(state_dir).resolve())
        self._port = port
        self._database = database
        self._settings_file = self._state_dir / "settings.json"
        self.control = Control(self._load_settings(settings or {}))
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._info: SandboxInfo | None = None
        self._database_uri: str | None = None

    @property
    def info(self) -> SandboxInfo:
        if self._info is None:
            raise SandboxError("The sandbox is not running.")
        return self._info

    @property
    def database_uri(self) -> str | None:
        """URI of its PostgreSQL, if requested. Holds the password."""
        return self._database_uri

    def start(self) -> SandboxInfo:
        """Start, and return when it answers. SandboxError, for example for a port in use."""
        self._thread = threading.Thread(target=self._thread_main, name="ae5-sandbox", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self.info

    def stop(self) -> None:
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)
        if self._thread is not None:
            self._thread.join()
        self._info = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _load_settings(self, changes: dict[str, Any]) -> SandboxSettings:
        """Settings outlive a restart, so that a rehearsal goes on as it began."""
        kept: dict[str, Any] = {}
        if self._settings_file.exists():
            kept = json.loads(self._settings_file.read_text(encoding="utf-8"))
        try:
            return SandboxSettings().changed(kept | changes)
        except ValueError as error:
            raise SandboxError(f"Settings of the sandbox: {error}") from error

    # -- on the loop ----------------------------------------------------------------------

    def _thread_main(self) -> None:
        try:
            asyncio.run(self._main())
        except SandboxError as error:
            self._failure = error
        except BaseException as error:
            LOG.exception("internal error")
            self._failure = SandboxError(f"The sandbox failed: {error!r}")
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            self._info = await self._assemble(stack)
            LOG.info("ready on https://%s (pid %s)", self._info.hostname, os.getpid())
            self._ready.set()
            await self._stopping.wait()
            LOG.info("stopping")
        await _abort_connections(self._loop)
        LOG.info("stopped")

    async def _assemble(self, stack: contextlib.AsyncExitStack) -> SandboxInfo:
        """Build all parts, and push their clean-up on the stack, also for a failure."""
        for pid in reap_stale(self._state_dir / "processes.json"):
            LOG.warning("killed process group %s of an earlier sandbox", pid)
        core = SandboxCore(self._state_dir, SandboxStore(self._state_dir / "state.json"), self.control)
        ca = certificates.authority(self._state_dir)
        certificates.write_bundle(self._state_dir)
        _seed(core)
        _choose_addresses(core)
        if core.settings.mount_secrets:
            core.mounts_secrets = await asyncio.to_thread(can_mount_secrets, core.folder("secrets"))

        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        stack.push_async_callback(http.close)
        postgres = Postgres(core)
        stack.push_async_callback(postgres.stop)
        if self._database == "postgresql" or core.state.database:
            self._database_uri = await postgres.start()
        deployments, jobs, secret_files = DeploymentSupervisor(core, http), JobSupervisor(core), SecretFiles(core)
        stack.callback(secret_files.stop)
        stack.push_async_callback(deployments.halt_all)
        stack.push_async_callback(jobs.stop)
        await self._serve(stack, core, ca, postgres, (deployments, jobs, secret_files), http)
        core.save()
        secret_files.start()
        deployments.start_all()
        jobs.start()
        loop = asyncio.get_running_loop()
        self.control.connect(
            on_clock=lambda: _soon(loop, jobs.wake),
            on_settings=lambda changed: write_private(self._settings_file, json.dumps(changed.as_dict())),
        )
        write_private(self._settings_file, json.dumps(core.settings.as_dict()))
        return SandboxInfo(
            hostname=core.host,
            ca_file=self._state_dir / "ca.pem",
            pid=os.getpid(),
            state_dir=self._state_dir,
            control_url=f"https://localhost:{core.state.control_port}",
            credentials_file=self._state_dir / "credentials.json",
            mounts_secrets=core.mounts_secrets,
        )

    async def _serve(
        self,
        stack: contextlib.AsyncExitStack,
        core: SandboxCore,
        ca: trustme.CA,
        postgres: Postgres,
        parts: tuple[DeploymentSupervisor, JobSupervisor, SecretFiles],
        http: aiohttp.ClientSession,
    ) -> None:
        deployments, jobs, secret_files = parts
        tls = certificates.server_context(ca, expired=core.settings.expired_certificate)
        proxy = Proxy(core, deployments, http)
        app = platform_app(core, proxy)
        runner = web.AppRunner(app, access_log=None, logger=HTTP_LOG, shutdown_timeout=1.0, handler_cancellation=False)
        endpoints = Endpoints(core, runner, tls)
        app[deployment_routes.DEPLOYMENTS] = deployments
        app[deployment_routes.ENDPOINTS] = endpoints
        app[job_routes.JOBS] = jobs
        app[profile_routes.SECRET_FILES] = secret_files
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        desired = self._port or core.state.port
        socket = listen(desired, "the platform")
        core.state.port = socket.getsockname()[1]
        await web.SockSite(runner, socket, ssl_context=tls).start()
        await endpoints.start()

        token = _control_token(self._state_dir)
        control_runner = web.AppRunner(
            control_app(self.control, token, postgres.start), access_log=None, logger=HTTP_LOG
        )
        await control_runner.setup()
        stack.push_async_callback(control_runner.cleanup)
        control_socket = listen(core.state.control_port, "the control plane")
        core.state.control_port = control_socket.getsockname()[1]
        # Never the expired certificate, which would lock out the control plane.
        await web.SockSite(control_runner, control_socket, ssl_context=certificates.server_context(ca)).start()


async def _abort_connections(loop: asyncio.AbstractEventLoop) -> None:
    """Abort the connections that stay open after the shutdown.

    Their other end neither finishes the TLS handshake nor answers the closing one. Only the loop knows them all, by a
    private name.
    """
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    for _ in range(3):  # each connection says goodbye in one turn of the loop and closes its socket in the next
        await asyncio.sleep(0)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(callback)


def _choose_addresses(core: SandboxCore) -> None:
    """Choose the addressing once: URLs are written into secrets."""
    desired = core.settings.addressing
    if core.state.addressing and desired in ("auto", core.state.addressing):
        return
    if desired == "auto":
        desired = "vhost" if wildcard_names_resolve() else "ports"
    core.state.addressing = desired


def _control_token(state_dir: Path) -> str:
    path = state_dir / "control-token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text(encoding="utf-8")


def _seed(core: SandboxCore) -> None:
    """Create administrator, user and the service account's password in a new state."""
    if core.state.admin:
        return
    passwords = {name: secrets.token_urlsafe(18) for name in (ADMIN, PERSON, SERVICE_ACCOUNT)}
    core.state.admin = {"username": ADMIN, "password_hash": hash_password(passwords[ADMIN])}
    core.identity.create(
        PERSON,
        passwords[PERSON],
        email=f"{PERSON}@example.invalid",
        first_name="Dev",
        last_name="User",
        groups=[EVERYONE],
        roles=[DEFAULT_ROLE],
    )
    credentials = {
        "admin": {"username": ADMIN, "password": passwords[ADMIN]},
        "users": {PERSON: passwords[PERSON]},
        "reserved": {SERVICE_ACCOUNT: passwords[SERVICE_ACCOUNT]},  # for an account that does not exist yet
    }
    write_private(core.state_dir / "credentials.json", json.dumps(credentials, indent=2))
