"""Run jobs at their cron times (UTC) and on request, each with its own log.

A run starts at its time whether or not the previous one has ended: AE5's behaviour is not documented, and the harder
case is the better rehearsal.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim, CronSimError

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import bad
from mlflow_ae5_deploy.sandbox.models import SandboxJob, SandboxRun, new_hex, now_text
from mlflow_ae5_deploy.sandbox.supervisor.base import Supervisor
from mlflow_ae5_deploy.sandbox.supervisor.processes import append_line
from mlflow_ae5_deploy.sandbox.supervisor.workload import WorkloadError, discard

_DIVIDED = {0: ("minute", 60), 1: ("hour", 24), 3: ("month", 12)}


def check_schedule(schedule: str) -> None:
    """Raise ApiError 400 for a schedule that AE5 rejects."""
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


class JobSupervisor(Supervisor):
    def __init__(self, core: SandboxCore) -> None:
        super().__init__(core)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._checked = core.control.now()
        self._since: dict[str, float] = {}

    def start(self) -> None:
        """Mark interrupted runs as failed, and start the schedule without missed times."""
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
        """Note that the job was created, changed or unpaused: only later times count."""
        self._since[job.id] = self._core.control.now()

    def wake(self) -> None:
        """Check the schedule now, after a change of the clock. On the server's loop only."""
        self._wake.set()

    def log_file(self, run: SandboxRun) -> Path:
        return self.log_folder(run) / "job.log"

    # -- the schedule ---------------------------------------------------------------------

    async def _schedule(self) -> None:
        while True:
            now = self._core.control.now()
            try:
                self._fire(self._checked, now)
            except Exception:
                self._core.log.exception("internal error in the scheduler; it continues")
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
        revision = self._core.state.projects[job.project_id].revision(job.revision)
        now = now_text()
        run = SandboxRun(
            **job.shared() | {"id": f"a2-{new_hex()}", "created": now, "updated": now},
            job_id=job.id,
            resolved_revision=revision.name if revision else job.revision,
        )
        self._core.state.runs[run.id] = run
        self._core.timing.born(run.id, self._core.settings)
        self._core.save()
        self._begin(run, self._run(run))
        return run

    async def _run(self, run: SandboxRun) -> None:
        code = 1
        try:
            process = await self._run_command(run, None, self.log_file(run))
            self._set_state(run, "running", "Running")
            code = await process.wait()
        except WorkloadError as error:
            append_line(self.log_file(run), str(error))
        except Exception:
            self._core.log.exception("internal error in run %s", run.id)
        if code == 0:
            self._set_state(run, "completed", "Completed")
        else:
            self._set_state(run, "failed", f"The command ended with exit code {code}")
        self._workers.pop(run.id, None)
        await asyncio.to_thread(discard, self._core, run)

    async def stop_run(self, run_id: str, state: str = "stopped") -> None:
        if not await self._end(run_id):
            return
        run = self._core.state.runs.get(run_id)
        if run is not None:
            self._set_state(run, state, "Stopped")
            await asyncio.to_thread(discard, self._core, run)

    async def remove_run(self, run: SandboxRun) -> None:
        await self.stop_run(run.id)
        self._core.state.runs.pop(run.id, None)
        self._core.save()
        await self._delete_files(run)
