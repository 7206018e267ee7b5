"""Fixtures for every test that needs a sandbox."""

from __future__ import annotations

import gc
import re
import signal
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

# Helpers are plain modules beside the tests (`tests.sandbox.support`).
sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler.protocol import Scheduling


# Who runs the tests in the background of a shell script has Ctrl-C ignored, and every child inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as `nohup` has it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A worker makes a million objects while it collects the tests: a third of that time would go to looking for garbage.
gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    gc.freeze()  # all of them stay to the end


# The slowest files, started first so that several workers end at about the same time.
LONGEST = (
    "project_template/gc",
    "project_template/database",
    "project_template/restore",
    "e2e",
    "browser",
    "project_template/test_jobs.py",
    "cli/test_upgrade.py",
    "project_template",
    "cli/test_restore.py",
    "test_documented_commands.py",
    "cli",
)
# Files that use the same MLflow servers, or the same database servers and what they hold, made once for each worker.
TOGETHER = tuple(
    re.compile(f"tests/project_template/{files}")
    for files in (
        "test_(check|jobs|server).py",
        "(database/|restore/test_[a-m])",
        "(gc/|restore/test_[n-z])",
    )
)

# Marked as slow as a whole: each of their tests starts processes, or fills a database.
SLOW = (
    "browser",
    "e2e",
    "convergence",
    "cli",
    "sandbox",
    "test_documented_commands.py",
    *(f"project_template/{folder}" for folder in ("gc", "database", "repository", "restore")),
)


@cache
def below_tests(path: Path) -> str:
    root = Path(__file__).parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        path = below_tests(item.path)
        return next((n for n, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=turn)
    for item in items:
        if below_tests(item.path).startswith(SLOW):
            item.add_marker(pytest.mark.slow)


class FilesTogether(LoadFileScheduling):
    """A worker takes a whole file, or all of those that share something expensive."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((group.pattern for group in TOGETHER if group.match(file)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return FilesTogether(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A sandbox in this process, fresh for each test module, gone with all its processes afterwards."""
    from mlflow_ae5_deploy.sandbox.sandbox import Sandbox  # heavy, and not needed by most tests

    settings = {"stop_grace_seconds": 3, "restart_backoff_seconds": 0.1, "clock": "still"}
    with Sandbox(tmp_path_factory.mktemp("sandbox"), settings) as server:
        yield server


@pytest.fixture(scope="session")
def project_archive(tmp_path_factory):
    """A project whose TrackingServer starts at once and needs nothing installed."""
    from tests.sandbox.support import make_project_archive

    return make_project_archive(tmp_path_factory.mktemp("archive") / "project.tar.gz")
