"""Running jobs: at their cron times (UTC), at once when asked, each run a process with a log of its own.

A run that is due starts whether or not the previous one has ended: what AE5 does there is not documented,
and the harder case is the better rehearsal.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim, CronSimError

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxJob, SandboxRun, new_hex, now_text
from mlflow_ae5_deploy.sandbox.supervisor.processes import Supervised, append_line
from mlflow_ae5_deploy.sandbox.supervisor.workload import WorkloadError, discard, prepare

_DIVIDED = {0: ("minute", 60), 1: ("hour", 24), 3: ("month", 12)}


def check_schedule(schedule: str) -> None:
    """Raises ApiError 400 for what AE5 refuses: five fields, known values, steps that divide their field."""
    fields = schedule.split()
    if len(fields) != 5:
        raise bad(f"Invalid schedule: {schedule}")
    try:
        CronSim(schedule, datetime.now(UTC))
    except CronSimError as error:
        raise bad(f"Invalid schedule: {schedule}") from error
    for index, (name, total) in _DIVIDED.items():
        for part in fields[index].split(","):
            _, slash, step = part.partition("/")
            if slash and total % int(step):
                raise bad(f"Invalid schedule: step {step} does not divide the {total} of {name}")


@dataclass
class JobWorker:
    task: asyncio.Task[None]
    process: Supervised | None = None


class JobSupervisor:
    def __init__(self, core: SandboxCore) -> None:
        self._core = core
        self._workers: dict[str, JobWorker] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._checked = core.control.now()
        self._since: dict[str, float] = {}

    def start(self) -> None:
        """Mark interrupted runs as failed, and start the schedule; missed times are skipped."""
        for run in self._core.state.runs.values():
            if run.active:
                run.state, run.status_text = "failed", "The sandbox was stopped during the run"
        self._core.save()
        self._checked = self._core.control.now()
        self._task = asyncio.get_running_loop().create_task(self._schedule())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(self.stop_run(i, "failed") for i in list(self._workers)))

    def scheduled(self, job: SandboxJob) -> None:
        """The job was made, changed or unpaused: only times from now on count."""
        self._since[job.id] = self._core.control.now()

    def wake(self) -> None:
        """The clock or a schedule has changed. On the server's loop only."""
        self._wake.set()

    def log_file(self, run: SandboxRun) -> Path:
        return self._core.folder("logs", run.hex) / "job.log"

    # -- the schedule ---------------------------------------------------------------------

    async def _schedule(self) -> None:
        while True:
            now = self._core.control.now()
            try:
                self._fire(self._checked, now)
            except Exception:
                self._core.log.exception("the scheduler broke; it goes on")
            self._checked = now
            self._wake.clear()
            pause = min(60 - now % 60 + 0.01, 60)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    def _fire(self, after: float, until: float) -> None:
        """Start every scheduled job once for each of its times in (after, until]."""
        end = datetime.fromtimestamp(until, UTC)
        for job in list(self._core.state.jobs.values()):
            if job.schedule is None or job.paused:
                continue
            begin = max(after, self._since.get(job.id, 0.0))
            for moment in CronSim(job.schedule, datetime.fromtimestamp(begin, UTC)):
                if moment > end:
                    break
                self._core.log.info("job %s (%s) is due at %s", job.id, job.name, moment.isoformat())
                self.launch(job)

    # -- runs -----------------------------------------------------------------------------

    def launch(self, job: SandboxJob) -> SandboxRun:
        project = self._core.state.projects[job.project_id]
        revision = project.revision(job.revision)
        now = now_text()
        run = SandboxRun(
            id=f"a2-{new_hex()}",
            job_id=job.id,
            name=job.name,
            owner=job.owner,
            project_id=job.project_id,
            project_name=job.project_name,
            project_owner=job.project_owner,
            command=job.command,
            revision=job.revision,
            resolved_revision=revision.name if revision else job.revision,
            resource_profile=job.resource_profile,
            created=now,
            updated=now,
            variables=dict(job.variables),
        )
        self._core.state.runs[run.id] = run
        self._core.timing.born(run.id, self._core.settings)
        self._core.save()
        self._workers[run.id] = JobWorker(asyncio.get_running_loop().create_task(self._run(run)))
        return run

    async def _run(self, run: SandboxRun) -> None:
        try:
            code = await self._execute(run)
        except (WorkloadError, RuntimeError) as error:
            append_line(self.log_file(run), str(error))
            code = 1
        except Exception:
            self._core.log.exception("run %s broke", run.id)
            code = 1
        if code == 0:
            self._set(run, "completed", "Completed")
        else:
            self._set(run, "failed", f"The command ended with exit code {code}")
        self._workers.pop(run.id, None)
        await asyncio.to_thread(discard, self._core, run)

    async def _execute(self, run: SandboxRun) -> int:
        log = self.log_file(run)
        workload = await asyncio.to_thread(prepare, self._core, run, None)
        for notice in workload.notices:
            append_line(log, notice)
        process = await Supervised.start(
            ["/bin/sh", "-c", workload.line],
            table=self._core.table,
            log=log,
            cwd=workload.cwd,
            env=workload.env,
            grace=self._core.settings.stop_grace_seconds,
            options=self._core.launch_options(run.owner),
        )
        self._workers[run.id].process = process
        self._set(run, "running", "Running")
        return await process.wait()

    async def stop_run(self, run_id: str, state: str = "stopped") -> None:
        worker = self._workers.pop(run_id, None)
        if worker is None:
            return
        worker.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker.task
        if worker.process is not None:
            await worker.process.stop()
        run = self._core.state.runs.get(run_id)
        if run is not None:
            self._set(run, state, "Stopped")
            await asyncio.to_thread(discard, self._core, run)

    async def remove_run(self, run: SandboxRun) -> None:
        await self.stop_run(run.id)
        self._core.state.runs.pop(run.id, None)
        self._core.save()
        await asyncio.to_thread(shutil.rmtree, self._core.state_dir / "logs" / run.hex, ignore_errors=True)

    def _set(self, run: SandboxRun, state: str, status_text: str) -> None:
        run.state, run.status_text = state, status_text
        run.updated = now_text()
        self._core.save()
