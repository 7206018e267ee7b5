"""A diff sees an observed state and nothing else: it sends nothing and writes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from runbook_support import ACCOUNT, OTHER, OURS, Doors, Lists, context, deployment, job

from mlflow_ae5_deploy.ae5.models import Collaborator, User
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import RestoreRequest, RunOptions
from mlflow_ae5_deploy.engine.stage import NoChange
from mlflow_ae5_deploy.operations import uninstall_plan
from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions, RotationState, decide
from mlflow_ae5_deploy.operations.uninstall_plan import UninstallState
from mlflow_ae5_deploy.resources import scheduled_job
from mlflow_ae5_deploy.resources.job_specs import gc_job
from mlflow_ae5_deploy.runbook.stages.order import STAGES

HTML = SimpleNamespace(status=302, content_type="text/html", text="", url="https://ae5.example.com/login")
USER = User(id="1", username=ACCOUNT, enabled=True)


class Refused(BaseException):
    """Something was asked of the world. No `except Exception` swallows it."""


class Refusing:
    """Stands where sessions, lists, clock, journal and state stood, once the states are observed."""

    def __getattribute__(self, name: str) -> Any:
        raise Refused(name)


WATCHED = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.remove", "os.rename", "os.mkdir")
seen: list[str] | None = None


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if seen is None:
        return
    if event in WATCHED or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        seen.append(f"{event} {arguments}")


sys.addaudithook(watch)  # for good, so it is only switched on for a while


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Nothing is sent, written or started meanwhile."""
    global seen
    seen = []
    try:
        yield
        assert seen == []
    finally:
        seen = None


class Access(Doors):
    def find_account(self) -> User | None:
        return None if self.account_missing else USER


WORLDS = {
    "nothing there": (Lists(projects_=(OTHER,)), Access(has_admin=True, account_missing=True), None),
    "another release": (
        Lists(deployments_=[deployment()], jobs_=[job()], collaborators_=[Collaborator("everyone", "group")]),
        Access(has_admin=True),
        None,
    ),
    "drifted": (
        Lists(
            deployments_=[deployment(command="X"), deployment(id="a2-" + "c" * 32)],
            jobs_=[job(schedule="0 * * * *"), job(id="a2-" + "d" * 32, state="paused")],
        ),
        Access(),
        None,
    ),
    "a restore over a server": (
        Lists(deployments_=[deployment()]),
        Access(),
        RestoreRequest("S1", replace=True, stop_server=True),
    ),
}


def observed(tmp_path, world: str) -> list[Any]:
    """The state of every stage, in their order."""
    lists, sessions, restore = WORLDS[world]
    platform = SimpleNamespace(
        username=ACCOUNT,
        session=SimpleNamespace(browse=lambda _url, **_more: HTML),
        logs=lambda _id: SimpleNamespace(app="", events=""),
        runs=lambda _id=None: [],
        jobs=lambda: [],
    )
    sessions = dataclasses.replace(sessions, platform_=platform)
    where = context(
        tmp_path, lists=lists, doors=sessions, backup={"schedule": "0 3 * * *", "destination": "s3://bucket"}
    )
    where.options = RunOptions(create_account=True, dry=True, restore=restore)
    lists.archive = lambda _project: b"not an archive"  # type: ignore[attr-defined]
    states = [stage.observe(where) for stage in STAGES]
    for part in dataclasses.fields(where):
        setattr(where, part.name, Refusing())
    return states


@pytest.mark.parametrize("world", WORLDS)
def test_the_diff_of_every_stage_sends_nothing(tmp_path, world):
    states = observed(tmp_path, world)

    with untouched():
        diffs = [stage.diff(state) for stage, state in zip(STAGES, states, strict=True)]

    assert len(diffs) == 14
    for diff in diffs:
        assert diff.reason if isinstance(diff, NoChange) else diff.changes
        for change in diff.changes:
            assert change.why
            assert change.data()["change"] == change.kind()


def test_other_diffs_send_nothing(tmp_path):
    where = context(tmp_path, lists=Lists(jobs_=[job(schedule="0 * * * *")]))
    state = scheduled_job.observe(where, gc_job(where.settings))
    there = UninstallState(OURS, (deployment(),), (job(),), (), ("A",))

    with untouched():
        assert scheduled_job.diff(state).changes
        assert len(uninstall_plan.diff(there, purge=True)) == 4
        assert decide(RotationOptions(), RotationState("a2-1", (ACCOUNT,))).accounts == (ACCOUNT,)


def test_the_watch_sees_what_a_diff_must_not_do(tmp_path):
    for touch in (lambda: (tmp_path / "x").write_text(""), lambda: socket.getaddrinfo("localhost", 1)):
        with pytest.raises(AssertionError), untouched():
            touch()


def test_a_diff_is_given_the_state_alone():
    for stage in STAGES:
        assert list(inspect.signature(stage.diff).parameters) == ["state"]
    assert list(inspect.signature(scheduled_job.diff).parameters) == ["state"]
    assert list(inspect.signature(uninstall_plan.diff).parameters) == ["state", "purge"]
    assert list(inspect.signature(decide).parameters) == ["options", "now"]


@pytest.mark.parametrize("world", WORLDS)
def test_a_state_is_frozen(tmp_path, world):
    for state in observed(tmp_path, world):
        assert dataclasses.is_dataclass(state)
        assert state.__dataclass_params__.frozen  # type: ignore[attr-defined]


def kinds(base: type[Change] = Change) -> list[type[Change]]:
    return [kind for found in base.__subclasses__() for kind in (found, *kinds(found))]


def test_every_kind_of_change_is_frozen_and_has_a_name_of_its_own():
    found = [kind for kind in kinds() if kind.__module__.startswith("mlflow_ae5_deploy.")]
    names = [kind.kind() for kind in found]

    assert len(found) > 25
    assert len(names) == len(set(names))
    assert all(kind.__dataclass_params__.frozen for kind in found)  # type: ignore[attr-defined]
