"""Shared supervision: one task and one process for each deployment or run."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.models import SandboxProcess, now_text
from mlflow_ae5_deploy.sandbox.project_file import SandboxHttpOptions
from mlflow_ae5_deploy.sandbox.supervisor.processes import Supervised, append_line
from mlflow_ae5_deploy.sandbox.supervisor.workload import discard, prepare


@dataclass
class Worker:
    task: asyncio.Task[None]
    process: Supervised | None = None
    port: int | None = None
    """a deployment's own port, while it answers there"""


class Supervisor:
    """Base of the supervisors. Runs on the server's loop."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._workers: dict[str, Worker] = {}

    def log_folder(self, record: SandboxProcess) -> Path:
        return self._core.folder("logs", record.hex)

    def _begin(self, record: SandboxProcess, work: Coroutine[None, None, None]) -> None:
        self._workers[record.id] = Worker(asyncio.get_running_loop().create_task(work))

    async def _end(self, record_id: str) -> bool:
        """Cancel the task and stop the process. False if there is none."""
        worker = self._workers.pop(record_id, None)
        if worker is None:
            return False
        worker.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker.task
        if worker.process is not None:
            await worker.process.stop()
        return True

    async def _run_command(self, record: SandboxProcess, options: SandboxHttpOptions | None, log: Path) -> Supervised:
        """Prepare the project and start the command. Raises WorkloadError."""
        workload = await asyncio.to_thread(prepare, self._core, record, options)
        for notice in workload.notices:
            append_line(log, notice)
        process = await Supervised.start(
            ["/bin/sh", "-c", workload.line],
            table=self._core.table,
            log=log,
            cwd=workload.cwd,
            env=workload.env,
            grace=self._core.settings.stop_grace_seconds,
            options=self._core.launch_options(record.owner),
        )
        self._workers[record.id].process = process
        return process

    async def _delete_files(self, record: SandboxProcess) -> None:
        await asyncio.to_thread(discard, self._core, record)
        await asyncio.to_thread(shutil.rmtree, self._core.state_dir / "logs" / record.hex, ignore_errors=True)

    def _set_state(self, record: SandboxProcess, state: str, status_text: str) -> None:
        record.state, record.status_text = state, status_text
        record.updated = now_text()
        self._core.save()
