"""What runs in the processes that get killed: one verb, in a fresh fork of a process that has loaded everything.

Loaded once and forked (multiprocessing's fork server), a run costs what it does and not what Python's start costs, and
hundreds of runs can be real processes with a real SIGKILL.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What the verbs import on their way; the fork server cannot find this folder's own modules. Only speed depends on it.
LOADED_ONCE = [
    "mlflow_ae5_deploy.cli.main",
    "mlflow_ae5_deploy.cli.closing",
    "mlflow_ae5_deploy.cli.sandbox",
    "mlflow_ae5_deploy.config.load",
    "mlflow_ae5_deploy.operations.rotate_token",
    "mlflow_ae5_deploy.operations.schedule_gc",
    "mlflow_ae5_deploy.platform.builtin",
    "mlflow_ae5_deploy.release.fetch",
    "mlflow_ae5_deploy.report.console",
    "rich.console",
    "cron_descriptor.ExpressionDescriptor",
    "mlflow_ae5_deploy.runbook.lock",
    "mlflow_ae5_deploy.runbook.runner",
    "mlflow_ae5_deploy.runbook.stages.registry",
    "mlflow_ae5_deploy.sandbox.lifecycle",
]


def run(argv: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """The program as if it had been started in `folder` with this environment; ends with its exit code."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    from mlflow_ae5_deploy.cli.main import main

    sys.exit(main(argv))
