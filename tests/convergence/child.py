"""What runs in the processes that get killed: one verb, in a fresh fork of a process that has loaded everything.

Loaded once and forked (multiprocessing's fork server), a run costs what it does and not what Python's start costs, and
hundreds of runs can be real processes with a real SIGKILL.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

WARM_UP = "CONVERGENCE_WARM_UP"


def run(argv: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    """The program as if it had been started in `folder` with this environment; ends with its exit code."""
    from mlflow_ae5_deploy.cli.main import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.exit(main(argv))


def _warm_up(argv: list[str], folder: str, environment: dict[str, str]) -> None:
    """In the fork server itself: what the verbs import when called, and a run that changes nothing, for the rest."""
    from mlflow_ae5_deploy import operations, render
    from mlflow_ae5_deploy.cli.main import main

    for package in (operations, render):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        main(argv)
        main([*argv, "--json"])
    os.chdir("/")
    gc.freeze()  # so that collecting garbage does not copy all of this into each fork
    gc.disable()  # nor is it worth while in processes that live for a tenth of a second


if desired := os.environ.get(WARM_UP):
    _warm_up(*json.loads(desired))
