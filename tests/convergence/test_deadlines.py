"""A platform that falls silent: every verb ends, by itself, and says what it was waiting for."""

from __future__ import annotations

import dataclasses
import socket
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from mlflow_ae5_deploy.sandbox.daemon import READY_FILE
from mlflow_ae5_deploy.sandbox.store import write_private
from tests.cli.answers import assert_error
from tests.cli.bench import Outcome
from tests.convergence.cell import ACCOUNT, CONFIGURATION, Cell
from tests.convergence.expectations import requested
from tests.convergence.points import converges, prepare
from tests.convergence.rows import INSTALL, ROWS

INSTALLED = next(row for row in ROWS if row.name == "schedule-gc")  # its ground is an installation
REINSTALLED = next(row for row in ROWS if row.name == "install")
PATIENCE = 1.0  # seconds, of the configuration, until silence is not borne any longer
IMPATIENT = CONFIGURATION.replace(
    "platform:\n",
    f"platform:\n  connect_timeout: {PATIENCE}\n  read_timeout: {PATIENCE}\n  endpoint_release_deadline: {PATIENCE}\n",
).replace("deployment_deadline: 30", "deployment_deadline: 3")

# What each verb needs besides the shared options.
VERBS: dict[str, tuple[str, ...]] = {
    "plan": ("--release", "{release}"),
    "install": ("--release", "{release}"),
    "status": (),
    "doctor": (),
    "verify": (),
    "rotate-token": (),
    "schedule-gc": ("--cron", "30 3 * * 0"),
    "share": ("--user", "dev-user"),
    "env": (),
    "logs": (),
    "uninstall": ("--yes",),
}


REPORTS = ("doctor",)
ASK_THE_SERVER = ("install", "status", "doctor", "verify", "rotate-token")


def each(
    cells: Sequence[Cell], items: Iterable[str], check: Callable[[Cell, str], None], *, afresh: bool = True
) -> None:
    """Try all, some at the same time, because nearly all of it is waiting. Each cell has an installation.

    afresh: a new one for each item; else one for all, because none of them gets as far as to change it.
    """
    todo, failures = iter(list(items)), []
    lock = threading.Lock()

    def work(cell: Cell) -> None:
        prepared = False
        while True:
            with lock:
                item = next(todo, None)
            if item is None:
                return
            try:
                if afresh or not prepared:
                    prepare(cell, INSTALLED)
                    comes_up(cell)
                    (cell.folder / "work" / "impatient.yaml").write_text(IMPATIENT)
                    prepared = True
                check(cell, item)
            except Exception:
                failures.append(f"{item}:\n{traceback.format_exc()}")

    with ThreadPoolExecutor(len(cells)) as pool:
        list(pool.map(work, cells))
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)


def comes_up(cell: Cell) -> None:
    """The deployment was started again with the sandbox. Until it has, silence and starting look the same."""
    own = cell.mounted(ACCOUNT)
    url, token = own["MLFLOW_TRACKING_URI"], own["MLFLOW_TRACKING_TOKEN"]
    cell.until(lambda: requested(cell, url, token).status_code == 200, "the deployment to start")


def run(cell: Cell, verb: str) -> Outcome:
    """`outcome` fails for a verb that does not end. The defaults of the timeouts are far longer than it waits."""
    return cell.run(verb, "--sandbox", "--config", "impatient.yaml", *VERBS[verb])


@contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listening.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in taken:
                connection.close()


@contextmanager
def mute_platform(cell: Cell) -> Iterator[str]:
    """In place of the sandbox's platform port."""
    assert cell.server is not None
    info = cell.server.info
    with silence() as port:
        mute = dataclasses.replace(info, hostname=f"{info.hostname.rpartition(':')[0]}:{port}")
        write_private(cell.sandbox / READY_FILE, mute.to_json())
        try:
            yield mute.hostname
        finally:
            write_private(cell.sandbox / READY_FILE, info.to_json())


def assert_says(ended: Outcome, verb: str, *words: str) -> None:
    """An error block of exit code 10 or 13, or 18 where the lock was asked for; verbs that report end with 20."""
    if verb in REPORTS:
        assert ended.code == 20, ended
        for word in words:
            assert word in ended.out, f"{word!r} is not in\n{ended.out}\n{ended.err}"
    else:
        assert ended.code in (10, 13, 18), ended
        assert_error(ended, ended.code, *words)


class TestSilence:
    def test_from_the_first_moment(self, cells: list[Cell]) -> None:
        def check(cell: Cell, verb: str) -> None:
            with mute_platform(cell) as hostname:
                assert_says(run(cell, verb), verb, hostname)

        each(cells, VERBS, check, afresh=False)

    def test_after_the_login(self, cells: list[Cell]) -> None:
        def check(cell: Cell, verb: str) -> None:
            cell.control.add_fault(path="^/api/", hold=True, times=None)
            assert_says(run(cell, verb), verb, "did not answer within", "/api/v2/")

        each(cells, VERBS, check)

    def test_of_the_server_itself(self, cells: list[Cell]) -> None:
        """The platform is fine; the endpoint takes the request and does not answer."""

        def check(cell: Cell, verb: str) -> None:
            cell.control.add_fault(path="^/(api/2.0|version|health)", hold=True, times=None)
            ended = run(cell, verb)
            if verb in ASK_THE_SERVER:
                assert ended.code in (20, 21), ended
                assert "no answer in time" in ended.out + ended.err or "did not answer" in ended.out + ended.err
            else:
                assert ended.code == 0, ended

        each(cells, VERBS, check)


# From this request of an install on, nothing is answered any more.
MOMENTS = {
    "upload": ("POST", "/projects/upload$"),
    "lock": ("POST", "/credentials/user$"),
    "secrets": ("POST", "/credentials/user$"),
    "deployment": ("POST", "/deployments$"),
    "token": ("POST", "/token$"),
    "sharing": ("PUT", "/collaborators$"),
    "job": ("POST", "/jobs$"),
}


class TestInTheMiddle:
    def test_an_install_ends_and_is_finished_by_the_next(self, cells: list[Cell]) -> None:
        def check(cell: Cell, moment: str) -> None:
            method, path = MOMENTS[moment]
            cell.restore("fresh")
            (cell.folder / "work" / "impatient.yaml").write_text(IMPATIENT)
            skip = 1 if moment == "secrets" else 0  # the first one is the lock
            cell.control.add_fault(method=method, path=path, skip=skip, hold=True)
            running = cell.spawn(*INSTALL, "--config", "impatient.yaml")
            cell.until(lambda: running.ended or cell.control.held() > 0, f"the request for the {moment}")
            cell.control.add_fault(hold=True, times=None)
            ended = running.outcome()
            cell.control.clear_faults()
            assert_error(ended, ended.code, "did not answer within", path.strip("/$"))
            assert ended.code in (13, 18), ended
            converges(cell, REINSTALLED)

        each(cells, MOMENTS, check)
