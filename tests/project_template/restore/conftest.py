from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import importlib
import io
import json
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.backup import create
from mlflow_ae5_server.backup.open_artifacts import open_artifacts
from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.contract import COMMANDS
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings
from mlflow_ae5_server.database import dump, load
from mlflow_ae5_server.database.connection import Database, check_uri
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.repository.manifest import Manifest
from mlflow_ae5_server.repository.repository import create_repository, open_backend, open_repository
from mlflow_ae5_server.restore import journal
from mlflow_ae5_server.restore.open import open_saved_copies
from mlflow_ae5_server.restore.saved_copies import SavedCopies

from tests.contract import checked
from tests.project_template.conftest import made_once
from tests.project_template.mariadb import MariaDB, with_mysql
from tests.project_template.restore import killing
from tests.project_template.restore.restoring import work_on


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 on loopback; its address."""
    server_module = pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes a bucket and returns its url; the object store's settings are those of this server."""
    import boto3

    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)

    def make(name: str) -> str:
        boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=name)
        return f"s3://{name}"

    return make


# A server's data, and its snapshot


def fill(uri: str, artifacts: Path) -> None:
    """Data as MLflow's own client makes it: runs with odd metrics, a deleted one, a model with aliases, a trace."""
    import mlflow
    from mlflow.entities import Metric, Param, RunTag, TraceInfo, TraceLocation, TraceState

    client = mlflow.MlflowClient(uri, uri)
    experiment = client.create_experiment("pilot ✓", artifact_location="mlflow-artifacts:/1", tags={"team": "é"})
    runs = []
    for number in range(6):
        run = client.create_run(experiment, run_name=f"run {number}")
        values = (0.5, float("nan"), float("inf"), -0.0)
        metrics = [Metric("loss", value, 1_700_000_000_000 + step, step) for step, value in enumerate(values)]
        client.log_batch(run.info.run_id, metrics, [Param("p", "x" * 300)], [RunTag("note", "line\nbreak")])
        folder = artifacts / "1" / run.info.run_id / "artifacts" / "model"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text(f"model {number}\n")
        (folder / "weights.bin").write_bytes(bytes([number]) * (1_500_000 if number == 0 else 50_000))
        (folder / "empty ünïcode").write_bytes(b"")
        client.set_terminated(run.info.run_id, end_time=1_700_000_100_000)
        runs.append(run.info.run_id)
    client.delete_run(runs[-1])
    client.create_registered_model("churn", tags={"a": "b"}, description="it's")
    for run_id in runs[:2]:
        source = f"mlflow-artifacts:/1/{run_id}/artifacts/model"
        version = client.create_model_version("churn", source, run_id)
    client.set_registered_model_alias("churn", "champion", version.version)
    client._tracking_client.store.start_trace(
        TraceInfo("tr-1", TraceLocation.from_experiment_id(experiment), 1_700_000_000_000, TraceState.OK)
    )


@dataclass(frozen=True)
class Home:
    """Where a server keeps its things, and the jobs around it, run in this process."""

    folder: Path
    backups: str
    uri: str
    destination: str

    @classmethod
    def at(cls, folder: Path, backups: str, uri: str = "", destination: str = "") -> Home:
        file = folder / "store" / "mydb.sqlite"
        return cls(folder, backups, uri or f"sqlite:///{file}", destination or str(folder / "artifacts"))

    @property
    def store(self) -> Database:
        return check_uri(self.uri)

    @property
    def artifacts(self) -> Path:
        return Path(self.destination)

    def settings(self) -> Settings:
        return settings.resolve(
            {
                "MLFLOW_BACKEND_STORE_URI": self.uri,
                "MLFLOW_ARTIFACTS_DESTINATION": self.destination,
                "MLFLOW_TRACKING_BACKUP_DESTINATION": self.backups,
            },
            {},
            {},
        )

    def report(self) -> Report:
        return Report("Restore")

    def options(self, *words: str) -> argparse.Namespace:
        return cli.parse(words)

    def job(self, *words: str) -> dict[str, Any]:
        """The last line of the job's report. Failures are raised."""
        report = Report(COMMANDS[words[0]])
        module = importlib.import_module(f"mlflow_ae5_server.commands.{words[0]}")
        code = module.run(self.settings(), report, self.options(*words))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            report.print(code)
        return checked(json.loads(printed.getvalue()))

    def restore(self, *words: str) -> dict[str, Any]:
        return self.job("restore", *words)

    def interrupt(self, step: str, *options: str) -> None:
        """Kill a restore as soon as its journal says that `step` comes next."""
        ended, _events = killing.run(lambda: self.restore(*options), when=lambda: self.step() == step)
        assert ended, "it was not killed"

    def saved_copies(self) -> SavedCopies:
        return open_saved_copies(self.destination)

    def interrupted(self) -> str | None:
        return journal.interrupted(self.destination)

    def step(self) -> str:
        """Of the restore in progress; "" where there is none."""
        running = journal.RestoreJournalFile(self.saved_copies()).running
        return running.step if running is not None else ""

    def store_folder(self) -> None:
        if self.store.file is not None:
            self.store.file.parent.mkdir(parents=True, exist_ok=True)

    def tree(self, folder: Path | None = None) -> dict[str, str]:
        return tree(folder or self.folder)

    def files(self) -> dict[str, str]:
        """Digest by path of the artifacts."""
        return tree(self.artifacts)


def tree(folder: Path) -> dict[str, str]:
    """Digest by path of every file below `folder`."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith(".lock")
    }


def take_snapshot(home: Home) -> Manifest:
    repository = create_repository(open_backend(home.backups))
    source = open_artifacts(home.destination, home.store)
    return create.create_snapshot(
        repository, home.store, source, home.destination, dump.dump, create.BackupOptions(say=lambda _text: None)
    )


@pytest.fixture
def take() -> Callable[[Home], Manifest]:
    """Takes a snapshot of what is at a home."""
    return take_snapshot


@pytest.fixture
def older() -> Callable[[Path], Home]:
    """Makes a home whose database is of MLflow 2.6."""

    def make(folder: Path) -> Home:
        home = Home.at(folder, str(folder / "backups"))
        home.store_folder()
        packed = Path(__file__).parents[1] / "fixtures" / "mlflow-2.6.0.sqlite.gz"
        assert home.store.file is not None
        home.store.file.write_bytes(gzip.decompress(packed.read_bytes()))
        (home.artifacts / "0").mkdir(parents=True)
        (home.artifacts / "0" / "a").write_text("old")
        return home

    return make


@dataclass(frozen=True)
class Pilot:
    """A server's home with data, and its snapshot. Not to be changed: it is the same for all tests."""

    home: Home
    snapshot: Manifest
    digests: dict[str, tuple[int, str]]
    files: dict[str, str]


@pytest.fixture(scope="session")
def pilot(tmp_path_factory: pytest.TempPathFactory, empty_file: Path) -> Pilot:
    def make(folder: Path) -> None:
        home = Home.at(folder, str(folder / "backups"))
        home.store_folder()
        shutil.copy(empty_file, folder / "store" / "mydb.sqlite")
        home.artifacts.mkdir()
        fill(home.uri, home.artifacts)

    folder = tmp_path_factory.mktemp("pilot")
    shutil.copytree(made_once(tmp_path_factory, "pilot", make), folder, dirs_exist_ok=True)
    home = Home.at(folder, str(folder / "backups"))
    return Pilot(home, take_snapshot(home), dump.digests(home.store), home.files())


@pytest.fixture(scope="session")
def filled_uri(pilot: Pilot, postgres: Any) -> Callable[[], str]:
    """Makes a PostgreSQL database with the pilot's rows."""
    return copies(postgres, pilot)


@pytest.fixture(scope="session")
def filled_mysql(pilot: Pilot, mariadb: MariaDB) -> Callable[[], str]:
    """Makes a MySQL database with the pilot's rows."""
    return copies(mariadb, pilot)


def copies(server: Any, pilot: Pilot) -> Callable[[], str]:
    """Only the first one is loaded, the others are copies of it."""
    name = f"pilot_{uuid.uuid4().hex[:12]}"
    part = DatabasePart.from_json(pilot.snapshot.database)
    load.load(part, open_repository(pilot.home.backups).reader(), check_uri(server.create(name)))

    def make() -> str:
        uri: str = server.create(f"copy_{uuid.uuid4().hex[:12]}", template=name)
        return uri

    return make


@pytest.fixture
def home_at() -> Callable[..., Home]:
    return Home.at


@pytest.fixture(params=with_mysql("sqlite", "postgresql"))
def home(request: pytest.FixtureRequest, tmp_path: Path, home_at: Any, pilot: Any) -> Any:
    """An empty place, on any database."""
    uri = ""
    if request.param != "sqlite":
        server = request.getfixturevalue("postgres" if request.param == "postgresql" else "mariadb")
        uri = server.create(f"r{uuid.uuid4().hex[:12]}")
    return home_at(tmp_path / "home", pilot.home.backups, uri)


@pytest.fixture(params=with_mysql("sqlite", "postgresql"))
def filled(request: pytest.FixtureRequest, tmp_path: Path, home_at: Any, pilot: Any) -> Any:
    """A place where a server has worked, on any database; all but SQLite's have rows already, as to load is slow."""
    fixture = {"postgresql": "filled_uri", "mysql": "filled_mysql"}.get(request.param)
    uri = request.getfixturevalue(fixture)() if fixture else ""
    home = home_at(tmp_path / "home", pilot.home.backups, uri)
    work_on(home, pilot)
    return home


@pytest.fixture
def here(tmp_path: Path, home_at: Any, pilot: Any) -> Any:
    """An empty place, for what does not depend on the database."""
    return home_at(tmp_path / "home", pilot.home.backups)
