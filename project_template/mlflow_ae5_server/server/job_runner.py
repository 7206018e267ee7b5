"""MLflow's job runner, a process that runs as long as the server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def prepare(store_uri: str, artifact_root: str, port: int) -> dict[str, str]:
    """The runner's environment (mlflow.server._run_server, 3.17.2).

    Raises where MLflow's jobs cannot run.
    """
    from mlflow.server.constants import HUEY_STORAGE_PATH_ENV_VAR
    from mlflow.server.jobs.executor_registry import validate_executor_config
    from mlflow.server.jobs.utils import _check_requirements, get_job_execution_engine

    _check_requirements(store_uri)
    validate_executor_config()
    get_job_execution_engine()
    memory = Path("/dev/shm")  # noqa: S108 - a queue in memory, in a folder of our own
    os.environ[HUEY_STORAGE_PATH_ENV_VAR] = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    server = f"http://127.0.0.1:{port}"
    return {
        "MLFLOW_BACKEND_STORE_URI": store_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifact_root,
        "MLFLOW_TRACKING_URI": server,
        **({} if "MLFLOW_GATEWAY_URI" in os.environ else {"MLFLOW_GATEWAY_URI": server}),
    }


class JobRunner:
    """MLflow's job runner, which starts the processes of the jobs and restarts those that die."""

    def __init__(self, environment: dict[str, str], output: int) -> None:
        self._environment, self._output = environment, output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """It and its children write to the descriptors that they inherit: to `output`."""
        from mlflow.server.jobs import utils

        originals = os.dup(1), os.dup(2)
        try:
            for number in (1, 2):
                os.dup2(self._output, number)
            self._process = utils._launch_job_execution_runner(self._environment, os.getpid())  # type: ignore[no-untyped-call]
        finally:
            for number, original in zip((1, 2), originals, strict=True):
                os.dup2(original, number)
                os.close(original)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)


@contextlib.contextmanager
def running(environment: dict[str, str] | None) -> Iterator[JobRunner | None]:
    """Run MLflow's job runner with this environment; none for None.

    Its output would bypass our filter, so it goes through a filter process.
    """
    if environment is None:
        yield None
        return
    command = [sys.executable, "-m", "mlflow_ae5_server.common.redact_pipe"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as filtering:
        if filtering.stdin is None:
            raise AssertionError("a pipe was requested")
        runner = JobRunner(environment, filtering.stdin.fileno())
        try:
            runner.start()
            yield runner
        finally:
            runner.stop()
            filtering.stdin.close()
            try:
                filtering.wait(timeout=5)
            except subprocess.TimeoutExpired:  # processes that were just starting hold the pipe, and end later
                filtering.kill()
