"""Workers forked from one process that has already loaded MLflow.

Plain `mlflow server` lets every worker import MLflow for itself (about 240 MB and two seconds each), under a parent
that holds another copy and does nothing. Here the modules are loaded once, before the fork; the workers share those
pages. Rules that make it safe: one thread at the time of the fork, no open database connection, no event loop.

The parent only waits: for a dead worker (restarted, unless workers keep dying: then everything ends with an error)
and for signals (passed on; the exit code is 0 when all workers ended in order).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable

from mlflow_ae5_server.server.job_runner import JobRunner

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_PR_SET_PDEATHSIG = 1


class Restarts:
    """Whether a dead worker is replaced: not after `limit` deaths in `window`."""

    def __init__(self, limit: int, window: float) -> None:
        self._limit, self._window = limit, window
        self._deaths: deque[float] = deque()

    def allowed(self, now: float) -> bool:
        self._deaths.append(now)
        while self._deaths and self._deaths[0] <= now - self._window:
            self._deaths.popleft()
        return len(self._deaths) < self._limit


class Supervisor:
    """Runs `work` in `count` forked processes until a signal stops it."""

    FAILED_TO_START = 3  # exit code of such a worker: the next one could not either (as in uvicorn)

    def __init__(
        self,
        work: Callable[[int], int],
        count: int,
        *,
        grace: float,
        restarts: Restarts,
        say: Callable[[str], None],
        died: Callable[[int], None] = lambda _slot: None,
        job_runner: JobRunner | None = None,
    ) -> None:
        """work: called in each worker with its slot, 1 to `count`; a replacement gets the slot of the dead worker.

        died: called in the parent with that slot, before the replacement starts.
        """
        self._work, self._count, self._grace = work, count, grace
        self._restarts, self._say, self._died = restarts, say, died
        self._job_runner, self._job_runner_restarts = job_runner, Restarts(5, 600.0)
        self._workers: dict[int, int] = {}  # process id -> slot
        self._exit_code = 0
        self._deadline: float | None = None  # set once we are stopping

    def run(self) -> int:
        """Fork, wait, and return the exit code for this process."""
        gc.collect()
        gc.freeze()  # the collector would otherwise write to, and so copy, every shared page
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            for slot in range(1, self._count + 1):
                self._fork(slot, previous)
            while self._workers:
                self._handle(self._next_signal(), previous)
        finally:
            self._signal_all(signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        return self._exit_code

    def _next_signal(self) -> int | None:
        # One second at most, in case another library has taken a SIGCHLD.
        info = signal.sigtimedwait(_WATCHED, 1.0)
        return info.si_signo if info else None

    def _handle(self, number: int | None, mask: set[int | signal.Signals]) -> None:
        if number in _STOP:
            self._stop(f"received {signal.Signals(number).name}", signal.SIGTERM)
        elif number == signal.SIGHUP:
            self._say("received SIGHUP, which has no effect: restart the deployment to change settings")
        self._reap(mask)
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._say(f"workers did not stop within {self._grace:g} s: killing them")
            self._signal_all(signal.SIGKILL)

    def _stop(self, reason: str, number: int) -> None:
        self._say(f"{reason}: stopping")
        if self._deadline is None:
            self._deadline = time.monotonic() + self._grace
        self._signal_all(number)

    def _reap(self, mask: set[int | signal.Signals]) -> None:
        while self._workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._workers.clear()
                return
            if pid == 0:
                return
            if self._job_runner is not None and pid == self._job_runner.pid:
                self._restart_job_runner(self._job_runner, os.waitstatus_to_exitcode(status), mask)
                continue
            if pid not in self._workers:
                continue  # a helper, or an orphan, as this may be the container's first process
            slot = self._workers.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._deadline is not None:
                if code not in {0, -signal.SIGTERM, -signal.SIGINT} and self._exit_code == 0:
                    self._exit_code = code if code > 0 else 128 - code
            elif code == self.FAILED_TO_START:
                self._exit_code = code
                self._stop(f"worker {pid} could not start", signal.SIGTERM)
            elif self._restarts.allowed(time.monotonic()):
                self._say(f"worker {pid} exited with code {code}; starting another")
                self._died(slot)
                self._fork(slot, mask)
            else:
                self._exit_code = code if code > 0 else 1
                self._stop(
                    f"worker {pid} exited with code {code}, like others shortly before; giving up", signal.SIGTERM
                )

    def _restart_job_runner(self, job_runner: JobRunner, code: int, mask: set[int | signal.Signals]) -> None:
        if self._deadline is not None:
            return
        if not self._job_runner_restarts.allowed(time.monotonic()):
            self._say(f"the job runner exited with code {code}, like others before: no jobs run until a restart")
            return
        self._say(f"the job runner exited with code {code}; starting another")
        # It would inherit blocked signals. Those that arrive meanwhile are sent again when they are blocked.
        received: list[int] = []
        handlers = {n: signal.signal(n, lambda number, _: received.append(number)) for n in _WATCHED - {signal.SIGCHLD}}
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            job_runner.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for watched, handler in handlers.items():
                signal.signal(watched, handler)
            for sent in received:
                os.kill(os.getpid(), sent)

    def _signal_all(self, number: int) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _fork(self, slot: int, mask: set[int | signal.Signals]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = slot
            return
        code = 1
        try:
            die_with(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = self._work(slot)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:  # the last frame of the process: never return into the parent's code
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def die_with(parent: int) -> None:
    """Have the kernel end this worker when its parent ends, even by SIGKILL."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
