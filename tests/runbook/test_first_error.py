"""A clean-up after a failure keeps the failure, also when the run has lost its lock meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_ae5_deploy.ae5.models import Project, Run
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, Locked, Unreachable
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs.one_off import run_once
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations.upgrade.staging_project import staging_name, staging_project
from mlflow_ae5_deploy.resources import scheduled_job
from tests.runbook.runbook_support import ACCOUNT, OURS, Doors, Lists, context, job

RUN = Run(id="a2-" + "c" * 32, name="once", owner=ACCOUNT, project_id=OURS.id, state="running")


class Platform:
    """Answers until `fail`; after it, the session finds the lock lost."""

    def __init__(self) -> None:
        self.lost = False
        self.refused: list[str] = []

    def fail(self, failure: BaseException) -> None:
        self.lost = True
        raise failure

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Any] = {"jobs": [], "create_job": job(), "upload": OURS}

        def call(*arguments: Any, **_options: Any) -> Any:
            if self.lost:
                self.refused.append(name)
                raise Locked("This run lost its lock.")
            return ([RUN] if arguments else []) if name == "runs" else answers.get(name)

        return call


def one_off_job(where: Context, platform: Platform, failure: BaseException) -> None:
    platform.run = lambda _id: platform.fail(failure)  # type: ignore[method-assign]
    desired = JobSpec("once", "Check", "", (), "default")
    run_once(where, OURS, desired, lambda _line: None, seconds=10)


def staged_upgrade(where: Context, platform: Platform, failure: BaseException) -> None:
    where.outputs.built = SimpleNamespace(path=Path("archive"))  # type: ignore[assignment]
    with staging_project(where):
        side = Project(id=OURS.id, name=staging_name(where), owner=ACCOUNT, resource_profile="default")
        where.cached.projects_ = (side,)  # type: ignore[attr-defined]
        platform.fail(failure)


@pytest.mark.parametrize("failure", [Unreachable("no answer"), KeyboardInterrupt()])
@pytest.mark.parametrize("work", [one_off_job, staged_upgrade])
def test_of_work_that_fails(tmp_path, work, failure):
    platform = Platform()
    where = context(tmp_path, lists=Lists(projects_=()), doors=Doors(platform_=platform))

    with pytest.raises(type(failure)):
        work(where, platform, failure)

    assert platform.refused


def test_of_a_run_that_does_not_end(tmp_path):
    platform = Platform()
    where = context(tmp_path, doors=Doors(platform_=platform))

    def unpause_job(_id: str) -> None:
        platform.refused.append("unpause_job")
        raise Locked("This run lost its lock.")

    platform.unpause_job = unpause_job  # type: ignore[method-assign]
    with pytest.raises(DeadlineExceeded):
        scheduled_job.delete(job(), where, wait=1, purpose="backup")

    assert platform.refused == ["unpause_job"]


def test_the_report_of_a_run_that_ctrl_c_stops_is_noted_before_another_ctrl_c(tmp_path):
    pressed, reports = list[str](), list[str]()

    def look(_id: str) -> Run:
        if pressed:
            return replace(RUN, state="completed")
        pressed.append("first")
        raise KeyboardInterrupt

    def jobs() -> list[Any]:
        if pressed:
            raise KeyboardInterrupt
        return []

    platform = SimpleNamespace(jobs=jobs, run=look, runs=lambda *of: [RUN] if of else [])
    platform.create_job, platform.run_log = lambda **_options: job(), lambda _id: "the report"
    where = context(tmp_path, doors=Doors(platform_=platform))
    desired = JobSpec("once", "Check", "", (), "default")

    with pytest.raises(KeyboardInterrupt):
        run_once(where, OURS, desired, print, seconds=10, on_stop=lambda _run, log: reports.append(log))

    assert reports == ["the report"]
