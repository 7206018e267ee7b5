"""Keeping deployments running: one supervising task for each, as a cluster has one controller for each."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxDeployment, now_text
from mlflow_ae5_deploy.sandbox.ports import LOOPBACK, free_port
from mlflow_ae5_deploy.sandbox.project_file import SandboxHttpOptions
from mlflow_ae5_deploy.sandbox.supervisor.processes import Supervised, append_line
from mlflow_ae5_deploy.sandbox.supervisor.workload import WorkloadError, discard, prepare

FAILED_TEXT = "App failed to run"
_HEALTHY_SECONDS = 60.0


@dataclass
class DeploymentWorker:
    task: asyncio.Task[None]
    process: Supervised | None = None
    port: int | None = None
    """the application's own port, while it answers there"""


class DeploymentSupervisor:
    def __init__(self, core: SandboxCore, http: aiohttp.ClientSession) -> None:
        self._core = core
        self._http = http
        self._workers: dict[str, DeploymentWorker] = {}

    def start_all(self) -> None:
        """After a restart of the sandbox: everything that ran, runs again, with the same ids and tokens."""
        for deployment in self._core.state.deployments.values():
            if deployment.state != "failed":
                self._set(deployment, "starting", "Starting")
                self.launch(deployment)

    def launch(self, deployment: SandboxDeployment) -> None:
        worker = DeploymentWorker(asyncio.get_running_loop().create_task(self._supervise(deployment)))
        self._workers[deployment.id] = worker

    async def halt(self, deployment_id: str) -> None:
        worker = self._workers.pop(deployment_id, None)
        if worker is None:
            return
        worker.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker.task
        if worker.process is not None:
            await worker.process.stop()

    async def halt_all(self) -> None:
        await asyncio.gather(*(self.halt(i) for i in list(self._workers)))

    async def restart(self, deployment: SandboxDeployment) -> None:
        """The same deployment on a changed revision or profile."""
        await self.halt(deployment.id)
        deployment.came_up = False
        self._set(deployment, "starting", "Starting")
        self.launch(deployment)

    async def remove(self, deployment: SandboxDeployment) -> None:
        """End the processes and forget the files. The record is the caller's business."""
        await self.halt(deployment.id)
        await asyncio.to_thread(discard, self._core, deployment)
        await asyncio.to_thread(shutil.rmtree, self.log_folder(deployment), ignore_errors=True)

    def app_port(self, deployment_id: str) -> int | None:
        worker = self._workers.get(deployment_id)
        return worker.port if worker else None

    def log_folder(self, deployment: SandboxDeployment) -> Path:
        return self._core.folder("logs", deployment.hex)

    def event(self, deployment: SandboxDeployment, text: str) -> None:
        append_line(self.log_folder(deployment) / "events.log", f"{now_text()} {deployment.pod} {text}")
        self._core.log.info("deployment %s (%s): %s", deployment.id, deployment.name, text)

    # -- the supervising task -------------------------------------------------------------

    async def _supervise(self, deployment: SandboxDeployment) -> None:
        settings = self._core.settings
        backoff = settings.restart_backoff_seconds
        try:
            while True:
                began = time.monotonic()
                reason = await self._run_once(deployment)
                if not deployment.came_up:
                    self.event(deployment, f"Failed: {reason}")
                    self._set(deployment, "failed", FAILED_TEXT)
                    return
                if time.monotonic() - began > _HEALTHY_SECONDS:
                    backoff = settings.restart_backoff_seconds
                self.event(deployment, f"BackOff: {reason}; restarting in {backoff:g} s")
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, settings.restart_backoff_limit_seconds)
        except Exception:
            self._core.log.exception("the supervisor of deployment %s broke", deployment.id)
            self._set(deployment, "failed", FAILED_TEXT)

    async def _run_once(self, deployment: SandboxDeployment) -> str:
        """Start the command and stay until it has ended or did not come up in time. Returns why it is over."""
        app_log = self.log_folder(deployment) / "app.log"
        port = free_port()
        options = SandboxHttpOptions(port, LOOPBACK, self._core.endpoint_host(deployment.label), self._core.host)
        try:
            workload = await asyncio.to_thread(prepare, self._core, deployment, options)
        except (WorkloadError, RuntimeError) as error:
            append_line(app_log, str(error))
            return "the project could not be prepared"
        for notice in workload.notices:
            append_line(app_log, notice)
        process = await Supervised.start(
            ["/bin/sh", "-c", workload.line],
            table=self._core.table,
            log=app_log,
            cwd=workload.cwd,
            env=workload.env,
            grace=self._core.settings.stop_grace_seconds,
            options=self._core.launch_options(deployment.owner),
        )
        worker = self._workers[deployment.id]
        worker.process = process
        self.event(deployment, "Started container")
        if not deployment.came_up:
            self._set(deployment, "starting", "Starting")
        if not await self._comes_up(deployment, process, port):
            ended = process.ended
            await process.stop()
            return "the command ended before it answered" if ended else "the command did not answer in time"
        worker.port = port
        deployment.came_up = True
        append_line(self.log_folder(deployment) / "proxy.log", "App Proxy is fully operational!")
        self.event(deployment, "Ready")
        self._set(deployment, "started", "Started")
        code = await process.wait()
        worker.port = None
        return f"the command ended with exit code {code}"

    async def _comes_up(self, deployment: SandboxDeployment, process: Supervised, port: int) -> bool:
        """Whether the application answers HTTP (anything will do) before it ends or the deadline passes."""
        deadline = time.monotonic() + self._core.settings.start_deadline_seconds
        headers = {"Host": self._core.endpoint_host(deployment.label)}
        timeout = aiohttp.ClientTimeout(total=5)
        pause = 0.02
        while time.monotonic() < deadline and not process.ended:
            try:
                async with self._http.get(
                    f"http://{LOOPBACK}:{port}/", headers=headers, timeout=timeout, allow_redirects=False
                ):
                    return not process.ended
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.25)
        return False

    def _set(self, deployment: SandboxDeployment, state: str, status_text: str) -> None:
        deployment.state, deployment.status_text = state, status_text
        deployment.updated = now_text()
        self._core.save()
