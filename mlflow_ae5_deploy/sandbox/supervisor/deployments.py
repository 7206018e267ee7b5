"""Supervise deployments: start, watch and restart their commands."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxDeployment, now_text
from mlflow_ae5_deploy.sandbox.ports import LOOPBACK, free_port
from mlflow_ae5_deploy.sandbox.project_file import SandboxHttpOptions
from mlflow_ae5_deploy.sandbox.supervisor.base import Supervisor
from mlflow_ae5_deploy.sandbox.supervisor.processes import Supervised, append_line, read_log
from mlflow_ae5_deploy.sandbox.supervisor.workload import WorkloadError

FAILED_TEXT = "App failed to run"
_HEALTHY_SECONDS = 60.0


class DeploymentSupervisor(Supervisor):
    def __init__(self, core: SandboxCore, http: aiohttp.ClientSession) -> None:
        super().__init__(core)
        self._http = http

    def start_all(self) -> None:
        """Restart the deployments that ran before, with the same ids and tokens."""
        for deployment in self._core.state.deployments.values():
            if deployment.state != "failed":
                self._set_state(deployment, "starting", "Starting")
                self.launch(deployment)

    def launch(self, deployment: SandboxDeployment) -> None:
        self._begin(deployment, self._supervise(deployment))

    async def halt_all(self) -> None:
        await asyncio.gather(*(self._end(i) for i in list(self._workers)))

    async def restart(self, deployment: SandboxDeployment) -> None:
        """Restart the same deployment on a changed revision or profile."""
        await self._end(deployment.id)
        deployment.came_up = False
        self._set_state(deployment, "starting", "Starting")
        self.launch(deployment)

    async def remove(self, deployment: SandboxDeployment) -> None:
        """Stop the processes and delete the files; the caller deletes the record."""
        await self._end(deployment.id)
        await self._delete_files(deployment)

    def logs(self, deployment: SandboxDeployment) -> dict[str, str]:
        """Its logs by name."""
        folder = self.log_folder(deployment)
        return {name: read_log(folder / f"{name}.log") for name in ("app", "events", "proxy")}

    def app_port(self, deployment_id: str) -> int | None:
        worker = self._workers.get(deployment_id)
        return worker.port if worker else None

    def _event(self, deployment: SandboxDeployment, text: str) -> None:
        append_line(self.log_folder(deployment) / "events.log", f"{now_text()} {deployment.pod} {text}")
        self._core.log.info("deployment %s (%s): %s", deployment.id, deployment.name, text)

    async def _supervise(self, deployment: SandboxDeployment) -> None:
        settings = self._core.settings
        backoff = settings.restart_backoff_seconds
        try:
            while True:
                began = time.monotonic()
                reason = await self._run_once(deployment)
                if not deployment.came_up:
                    self._event(deployment, f"Failed: {reason}")
                    self._set_state(deployment, "failed", FAILED_TEXT)
                    return
                if time.monotonic() - began > _HEALTHY_SECONDS:
                    backoff = settings.restart_backoff_seconds
                self._event(deployment, f"BackOff: {reason}; restarting in {backoff:g} s")
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, settings.restart_backoff_limit_seconds)
        except Exception:
            self._core.log.exception("internal error while supervising deployment %s", deployment.id)
            self._set_state(deployment, "failed", FAILED_TEXT)

    async def _run_once(self, deployment: SandboxDeployment) -> str:
        """Run the command until it ends, or does not answer in time. Returns the reason."""
        logs = self.log_folder(deployment)
        port = free_port()
        options = SandboxHttpOptions(port, LOOPBACK, self._core.endpoint_host(deployment.label), self._core.host)
        try:
            process = await self._run_command(deployment, options, logs / "app.log")
        except WorkloadError as error:
            append_line(logs / "app.log", str(error))
            return "the project could not be prepared"
        self._event(deployment, "Started container")
        if not deployment.came_up:
            self._set_state(deployment, "starting", "Starting")
        if not await self._comes_up(deployment, process, port):
            ended = process.ended
            await process.stop()
            limit = self._core.settings.start_deadline_seconds
            return (
                "the command exited before it responded"
                if ended
                else f"timed out after {limit:g} s waiting for the command to respond"
            )
        worker = self._workers[deployment.id]
        worker.port = port
        deployment.came_up = True
        append_line(logs / "proxy.log", "App Proxy is fully operational!")
        self._event(deployment, "Ready")
        self._set_state(deployment, "started", "Started")
        code = await process.wait()
        worker.port = None
        return f"the command ended with exit code {code}"

    async def _comes_up(self, deployment: SandboxDeployment, process: Supervised, port: int) -> bool:
        """Whether the application answers HTTP before it ends or the deadline passes."""
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
