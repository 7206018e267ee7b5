"""Faults of a real server on the sandbox, as Prometheus sees them: each raises its alert, and clears it again.

The scrapes are real; promtool runs the rules on them with a clock that is stepped. In order.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from tests import alerts
from tests.alerts import Case, Scrape, needs_promtool
from tests.e2e.site import Site
from tests.sandbox.support import new_session, wait_for

pytestmark = needs_promtool
DAY = 86_400.0
API = "api/2.0/mlflow"


class Watched:
    """The installation, as a scraper sees it."""

    def __init__(self, site: Site, environment: dict[str, str]) -> None:
        self.site, self.environment = site, environment
        self.token, self.url = environment["MLFLOW_TRACKING_TOKEN"], environment["MLFLOW_TRACKING_URI"]
        self.volume = site.data() / "mlflow" / "standalone"
        self.status = ""

    def get(self, token: str, timeout: float = 30) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        session = new_session(self.site.info)
        return session.get(f"{self.url}/metrics", headers=headers, timeout=timeout, allow_redirects=False)

    def scrape(self, token: str = "", timeout: float = 30) -> Scrape:
        """Once no request is in flight: one is counted when its answer has been sent."""
        answers: list[requests.Response] = []

        def is_quiet() -> bool:
            answers.append(self.get(token or self.token, timeout))
            return not re.search(r"^mlflow_ae5_http_requests_in_flight(\{.*\})? [1-9]", answers[-1].text, re.M)

        with contextlib.suppress(requests.RequestException):
            wait_for(is_quiet, "requests to end")
        text = answers[-1].text if answers and answers[-1].status_code == 200 else None
        return alerts.scrape(text, time.time(), self.status)

    def check(self) -> Scrape:
        """After `status` has run."""
        done = self.site.run("status", "--sandbox", "--format", "prometheus")
        assert (done.code, done.err) == (0, "")
        self.status = done.out
        return self.scrape()

    def post(self, path: str, **body: Any) -> int:
        session = new_session(self.site.info)
        session.headers["Authorization"] = f"Bearer {self.token}"
        with contextlib.suppress(requests.RequestException):
            return session.post(f"{self.url}/{API}/{path}", json=body, timeout=60).status_code
        return 0

    def run(self, *words: str, code: int = 0) -> None:
        done = self.site.run(*words, "--sandbox", "--json")
        assert done.code == code, done.out + done.err

    def servers(self) -> list[psutil.Process]:
        """The server's processes: the parent, and its workers."""
        found = []
        for process in self.site.processes():
            with contextlib.suppress(psutil.Error):
                if "tracking-server" in process.cmdline():
                    found.append(process)
        (parent,) = (p for p in found if p.ppid() not in {other.pid for other in found})
        return [parent, *(p for p in found if p != parent)]

    @property
    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.volume / "store" / "mydb.sqlite", isolation_level=None, timeout=30)


@pytest.fixture(scope="module")
def watched(site: Site) -> Watched:
    """Everything has run once."""
    done = site.install(*site.configure("server: {metrics: true}\nslipstream: {variables: {MLFLOW_WORKERS: '2'}}\n"))
    assert done.code == 0, done.err
    found = Watched(site, site.client_environment())
    for _ in range(40):
        assert found.post("experiments/search", max_results=1) == 200
    path = f"{API}-artifacts/artifacts/0/a-run/artifacts/a.bin"
    site.send("PUT", found.environment, path, data=os.urandom(10_000))
    found.run("backup")
    site.run_gc()
    return found


@pytest.fixture(scope="module")
def cases(watched: Watched) -> dict[str, Case]:
    """Every fault: scrapes before, during and after it. What is well after one is well before the next."""
    made: dict[str, Case] = {}
    before = watched.check()
    for name, (fault, expected) in FAULTS.items():
        with fault(watched) as during:
            pass
        after = watched.scrape()
        made[name] = Case([before, during[0], after], frozenset(expected))
        before = after
    well = watched.check()
    for seconds, expected in LATER.items():
        made[f"{seconds:g} s later"] = Case([well, well.later(seconds), well], frozenset(expected))
    made["nothing"] = Case([well, watched.check(), watched.check()], frozenset())
    return made


Fault = Callable[[Watched], contextlib.AbstractContextManager[list[Scrape]]]


@contextlib.contextmanager
def wrong_token(watched: Watched) -> Iterator[list[Scrape]]:
    yield [watched.scrape(token="not-the-token")]


@contextlib.contextmanager
def hanging_server(watched: Watched) -> Iterator[list[Scrape]]:
    server = watched.servers()
    for process in server:
        process.suspend()
    try:
        yield [watched.scrape(timeout=0.5)]
    finally:
        for process in server:
            process.resume()


@contextlib.contextmanager
def no_database(watched: Watched) -> Iterator[list[Scrape]]:
    file = watched.volume / "store" / "mydb.sqlite"
    file.rename(file.with_name("aside"))
    try:
        yield [watched.scrape()]
    finally:
        file.with_name("aside").rename(file)


@contextlib.contextmanager
def broken_schema(watched: Watched) -> Iterator[list[Scrape]]:
    """Requests fail, and so does the garbage collection."""
    with contextlib.closing(watched.database) as database:
        database.execute("ALTER TABLE experiments RENAME TO hidden")
        try:
            assert {watched.post("experiments/search", max_results=1) // 100 for _ in range(10)} == {5}
            watched.site.run_gc()
        finally:
            database.execute("ALTER TABLE hidden RENAME TO experiments")
    yield [watched.scrape()]
    run, log = watched.site.run_gc()
    assert run["state"] == "completed", log


@contextlib.contextmanager
def slow_database(watched: Watched) -> Iterator[list[Scrape]]:
    with locked(watched, requests=2):  # as many as one worker takes at once, so that none is refused
        time.sleep(4.5)  # what these take is what is measured
    yield [watched.scrape()]
    recover(watched)


@contextlib.contextmanager
def too_many_requests(watched: Watched) -> Iterator[list[Scrape]]:
    with locked(watched, requests=16) as waiting:
        wait_for(lambda: sum(one.done() for one in waiting) >= 6, "the server to refuse what does not fit")
    assert 503 in {one.result() for one in waiting}
    yield [watched.scrape()]
    recover(watched)


@contextlib.contextmanager
def locked(watched: Watched, requests: int) -> Iterator[list[Any]]:
    """Requests that wait for a lock on the database until the block ends."""
    with contextlib.closing(watched.database) as database, ThreadPoolExecutor(requests) as pool:
        database.execute("BEGIN IMMEDIATE")
        names = [f"waits-{time.time_ns()}-{number}" for number in range(requests)]
        waiting = [pool.submit(watched.post, "experiments/create", name=name) for name in names]
        yield waiting
        database.execute("ROLLBACK")


def recover(watched: Watched) -> None:
    for _ in range(20):
        assert watched.post("experiments/search", max_results=1) == 200


@contextlib.contextmanager
def dying_workers(watched: Watched) -> Iterator[list[Scrape]]:
    for _ in range(3):
        worker = watched.servers()[-1]
        worker.send_signal(signal.SIGKILL)
        wait_for(lambda dead=worker: dead not in watched.servers(), "the worker to end")
        wait_for(lambda: len(watched.servers()) == 3, "another worker to start")
    watched.site.await_health(watched.environment)
    yield [watched.scrape()]


@contextlib.contextmanager
def no_repository(watched: Watched) -> Iterator[list[Scrape]]:
    backups = watched.volume / "backups"
    backups.rename(watched.volume / "aside")
    backups.write_text("a file, where the folder belongs")
    try:
        watched.run("backup", code=28)
        yield [watched.scrape()]
    finally:
        backups.unlink()
        (watched.volume / "aside").rename(backups)
    watched.run("backup")


@contextlib.contextmanager
def damaged_snapshot(watched: Watched) -> Iterator[list[Scrape]]:
    """Found by a check, and by a drill."""
    whole = {path: path.read_bytes() for path in (watched.volume / "backups/objects").rglob("*") if path.is_file()}
    for path, content in whole.items():
        path.chmod(0o600)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        watched.run("backup", "verify", "--all", code=25)
        watched.run("drill", code=25)
        yield [watched.scrape()]
    finally:
        for path, content in whole.items():
            path.write_bytes(content)
    watched.run("backup", "verify", "--all")
    watched.run("drill")


@contextlib.contextmanager
def public_server(watched: Watched) -> Iterator[list[Scrape]]:
    owner, deployment = watched.site.owner(), watched.site.deployment()
    owner.call("PATCH", f"deployments/{deployment['id']}", json={"public": True})
    try:
        yield [watched.check()]
    finally:
        owner.call("PATCH", f"deployments/{deployment['id']}", json={"public": False})
        watched.check()


@contextlib.contextmanager
def unreachable_platform(watched: Watched) -> Iterator[list[Scrape]]:
    control = RemoteControl(watched.site.info)
    control.add_fault(method="GET", path="/api/v2/", drop="before", times=None)
    try:
        yield [watched.check()]
    finally:
        control.clear_faults()
        watched.check()


FAULTS: dict[str, tuple[Fault, set[str]]] = {
    "wrong token": (wrong_token, {"MlflowDown"}),
    "server hangs": (hanging_server, {"MlflowDown"}),
    "no database": (no_database, {"MlflowDatabaseDown"}),
    "slow database": (slow_database, {"MlflowSlow"}),
    "too many requests": (too_many_requests, {"MlflowOverloaded", "MlflowSlow"}),
    "dying workers": (dying_workers, {"MlflowWorkersDie"}),
    "broken schema": (broken_schema, {"MlflowServerErrors", "MlflowJobFailed gc"}),
    "no repository": (no_repository, {"MlflowJobFailed backup"}),
    "damaged snapshot": (damaged_snapshot, {"MlflowBackupDamaged check", "MlflowJobFailed drill"}),
    "public server": (public_server, {"MlflowUnhealthy server-public"}),
    "unreachable platform": (unreachable_platform, {"MlflowStatusFailed"}),
}
# seconds in which nothing runs
LATER = {
    2 * 3600.0: {"MlflowStatusStale"},
    3 * DAY: {"MlflowStatusStale", "MlflowBackupOld backup"},
    3650 * DAY: {"MlflowStatusStale", "MlflowBackupOld backup", "MlflowTokenExpiring"},
}


def test_unauthenticated_requests_get_no_metrics(watched: Watched) -> None:
    assert watched.get(watched.token).status_code == 200
    for token, status in (("", 302), ("not-the-token", 401)):
        answer = watched.get(token)
        assert answer.status_code == status
        assert "mlflow_ae5" not in answer.text


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_real_prometheus_scrapes_it_by_the_page_and_has_no_alert(watched: Watched, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "runbooks" / "how-to" / "monitor.md").read_text()
    (block,) = (b for b in re.findall(r"```text\n(.*?)```", page, re.S) if "credentials_file" in b)
    config = yaml.safe_load(block)
    (scraping,) = [one for one in config["scrape_configs"] if one["job_name"] == "mlflow"]
    token = tmp_path / "mlflow-token"
    token.touch(0o600)
    token.write_text(watched.token)
    scraping["authorization"]["credentials_file"] = str(token)
    scraping["static_configs"][0]["targets"] = [watched.url.removeprefix("https://")]
    scraping["tls_config"]["ca_file"] = str(watched.site.info.ca_file)
    config |= {"scrape_configs": [scraping], "rule_files": [str(alerts.RULES)]}
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        wait_for(lambda: query(address, "mlflow_ae5_database_up") == ["1"], "Prometheus to have scraped")
        assert query(address, 'count(ALERTS{alertstate="firing"})') == []
        loaded = requests.get(f"http://{address}/api/v1/rules", timeout=10).json()["data"]["groups"]
        assert {rule["health"] for group in loaded for rule in group["rules"]} <= {"ok", "unknown"}
        token.write_text("revoked")
        wait_for(lambda: query(address, 'up{job="mlflow"}') == ["0"], "Prometheus to read the token again")
    finally:
        process.terminate()
        process.wait(timeout=200)


def query(address: str, expression: str) -> list[str]:
    with contextlib.suppress(requests.RequestException, KeyError):
        answer = requests.get(f"http://{address}/api/v1/query", params={"query": expression}, timeout=10).json()
        return [row["value"][1] for row in answer["data"]["result"]]
    return []


def test_each_fault_raises_its_alert_and_no_other(cases: dict[str, Case], tmp_path: Path) -> None:
    assert len(cases) >= 12
    alerts.check(tmp_path, cases)
