"""A tracking database with artifacts beside it, filled past MLflow, and the collection run on it in this process."""

from __future__ import annotations

import functools
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow_ae5_server.commands import garbage_collection
from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.errors import ProjectError
from mlflow_ae5_server.common.report import Report

from tests.contract import checked
from tests.project_template.mariadb import ANSI, with_mysql

NOW = 1_900_000_000_000  # milliseconds; nothing here is younger, but for what says so
LONG_AGO = 1_600_000_000_000
ROOT = "mlflow-artifacts:/"
TTL = "30d"


@functools.cache
def engine_of(uri: str) -> sqlalchemy.Engine:
    """One for each database, whose connection to PostgreSQL stays: to make one takes more than most statements."""
    if uri.startswith("postgresql"):
        return sqlalchemy.create_engine(uri.replace("://", "+psycopg://", 1), pool_pre_ping=True)
    if uri.startswith("mysql"):
        return sqlalchemy.create_engine(uri, pool_pre_ping=True, connect_args={"init_command": ANSI})
    return sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)


class Data:
    """One database and one artifact folder."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.artifacts = uri, folder / "artifacts"
        self.artifacts.mkdir(parents=True, exist_ok=True)
        self.engine = engine_of(uri)
        self._experiments = 100

    def sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), values)

    def column(self, query: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sqlalchemy.text(query), values).scalars())

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        self.sql(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in values)})", **values)  # noqa: S608

    # rows ------------------------------------------------------------------------------------------------------------

    def experiment(self, *, deleted: int | None = None, location: str | None = None) -> int:
        """`deleted`: when, in milliseconds; None for an active one."""
        self._experiments += 1
        number = self._experiments
        self.insert(
            "experiments",
            experiment_id=number,
            name=f"experiment {number}",
            artifact_location=location or f"{ROOT}{number}",
            lifecycle_stage="active" if deleted is None else "deleted",
            creation_time=LONG_AGO,
            last_update_time=LONG_AGO if deleted is None else deleted,
        )
        self.insert("experiment_tags", key="kind", value="test", experiment_id=number)
        return number

    def run(
        self,
        experiment: int = 0,
        *,
        deleted: int | None = LONG_AGO,
        uri: str | None = None,
        metrics: int = 3,
        file: bool = True,
        stage: str | None = None,
    ) -> str:
        run = uuid.uuid4().hex
        self.insert(
            "runs",
            run_uuid=run,
            name="a run",
            experiment_id=experiment,
            status="FINISHED",
            lifecycle_stage=stage or ("active" if deleted is None else "deleted"),
            deleted_time=deleted,
            artifact_uri=f"{ROOT}{experiment}/{run}/artifacts" if uri is None else uri.replace("RUN", run),
        )
        self.insert("params", key="p", value="1", run_uuid=run)
        self.insert("tags", key="t", value="1", run_uuid=run)
        self.insert("latest_metrics", key="m", value=1.0, timestamp=1, step=0, is_nan=False, run_uuid=run)
        with self.engine.begin() as connection:
            connection.execute(
                sqlalchemy.text(
                    'INSERT INTO metrics ("key", value, timestamp, run_uuid, step, is_nan) '
                    "VALUES ('m', 1.0, :step, :run, :step, :nan)"
                ),
                [{"step": step, "run": run, "nan": False} for step in range(metrics)] or [],
            )
        if file and uri is None:
            self.file(f"{experiment}/{run}/artifacts/a.txt")
        return run

    def model(
        self, experiment: int = 0, *, deleted: int | None = LONG_AGO, changed: int = LONG_AGO, run: str = ""
    ) -> str:
        model = f"m-{uuid.uuid4().hex}"
        self.insert(
            "logged_models",
            model_id=model,
            experiment_id=experiment,
            name="a model",
            artifact_location=f"{ROOT}{experiment}/models/{model}/artifacts",
            creation_timestamp_ms=LONG_AGO,
            last_updated_timestamp_ms=changed if deleted is None else deleted,
            status=1,
            lifecycle_stage="active" if deleted is None else "deleted",
            source_run_id=run or None,
        )
        self.insert("logged_model_params", model_id=model, experiment_id=experiment, param_key="k", param_value="v")
        self.file(f"{experiment}/models/{model}/artifacts/MLmodel")
        return model

    def trace(self, experiment: int, *, at: int = LONG_AGO) -> str:
        trace = f"tr-{uuid.uuid4().hex}"
        self.insert("trace_info", request_id=trace, experiment_id=experiment, timestamp_ms=at, status="OK",
                    db_payload_generation=0)  # fmt: skip
        location = f"{ROOT}{experiment}/traces/{trace}/artifacts"
        self.insert("trace_tags", key="mlflow.artifactLocation", value=location, request_id=trace)
        self.insert("spans", trace_id=trace, experiment_id=experiment, span_id="s", status="OK",
                    start_time_unix_nano=1, content="{}")  # fmt: skip
        self.insert("span_metrics", trace_id=trace, span_id="s", key="k", value=1.0)
        self.file(f"{experiment}/traces/{trace}/artifacts/attachment")
        return trace

    def version(
        self, *, run: str | None = None, source: str | None = None, stage: str = "None", storage: str | None = None
    ) -> None:
        name = f"registered {uuid.uuid4().hex[:6]}"
        self.insert("registered_models", name=name, creation_time=LONG_AGO, last_updated_time=LONG_AGO)
        self.insert(
            "model_versions",
            name=name,
            version=1,
            creation_time=LONG_AGO,
            last_updated_time=LONG_AGO,
            current_stage=stage,
            source=source,
            run_id=run,
            storage_location=storage,
            status="READY",
        )

    def dataset(self, experiment: int, *runs: str) -> str:
        dataset = uuid.uuid4().hex
        self.insert("datasets", dataset_uuid=dataset, experiment_id=experiment, name=dataset, digest="d",
                    dataset_source_type="s", dataset_source="s")  # fmt: skip
        for run in runs:
            number = uuid.uuid4().hex
            self.insert("inputs", input_uuid=number, source_type="DATASET", source_id=dataset, destination_type="RUN",
                        destination_id=run)  # fmt: skip
            self.insert("input_tags", input_uuid=number, name="n", value="v")
        return dataset

    # artifacts -------------------------------------------------------------------------------------------------------

    def file(self, path: str, content: bytes = b"12345") -> Path:
        file = self.artifacts / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def files(self) -> set[str]:
        return {str(item.relative_to(self.artifacts)) for item in self.artifacts.rglob("*") if not item.is_dir()}

    def has_files(self, owner: str) -> bool:
        return any(owner in file for file in self.files())

    def pages(self) -> list[Path]:
        folders = [self.artifacts / ".mlflow-ae5-gc"]
        if self.uri.startswith("sqlite"):
            folders.append(Path(self.uri.removeprefix("sqlite:///") + ".gc"))
        return [file for folder in folders if folder.is_dir() for file in folder.iterdir()]

    # collecting ------------------------------------------------------------------------------------------------------

    def collect(
        self, *, dry_run: bool = False, step: Callable[[str], None] = lambda _name: None, **given: str
    ) -> dict[str, Any]:
        """The facts of one collection, with exit_code; a failure that is ours is a fact too."""
        variables = {
            "MLFLOW_BACKEND_STORE_URI": self.uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_TRACKING_GC_TTL": TTL,
            **given,
        }
        report = Report("GarbageCollection")
        try:
            code = garbage_collection.run(settings.resolve(variables, {}, {}), report, dry_run, step=step)
        except ProjectError as error:
            report.failed(error)
            code = error.exit_code
        return checked({**json.loads(json.dumps(report._fields)), "exit_code": code})


@pytest.fixture(scope="session")
def empty_database(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Makes a database with MLflow's tables and its default experiment, each time another one."""

    def make(dialect: str = "postgresql") -> str:
        server, template = {"postgresql": ("postgres", "empty_template"), "mysql": ("mariadb", "empty_schema")}[dialect]
        create = request.getfixturevalue(server).create
        uri: str = create(f"gc_{uuid.uuid4().hex[:8]}", request.getfixturevalue(template))
        return uri

    return make


@pytest.fixture(scope="session")
def cleaned_database(empty_database: Callable[..., str]) -> Callable[[str], str]:
    """A database like that, for each dialect always the same one: a new one takes more than a test. Empties it."""
    made = functools.cache(empty_database)
    kept = {"alembic_version": "false", "workspaces": "false", "experiments": "experiment_id <> 0"}

    def clean(dialect: str) -> str:
        uri = made(dialect)
        from mlflow.store.db.base_sql_model import Base  # which knows its tables by now

        trigger = "FUNCTION IF EXISTS no CASCADE" if dialect == "postgresql" else "TRIGGER IF EXISTS no"  # of a test
        with engine_of(uri).begin() as connection:
            connection.exec_driver_sql(f"DROP {trigger}")
            for table in reversed(Base.metadata.sorted_tables):
                connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {kept.get(table.name, 'true')}")  # noqa: S608
        return uri

    return clean


@pytest.fixture
def on_file(tmp_path: Path, empty_file: Path) -> Data:
    shutil.copy(empty_file, tmp_path / "t.sqlite")
    return Data(f"sqlite:///{tmp_path}/t.sqlite", tmp_path)


@pytest.fixture(params=with_mysql("sqlite", "postgresql"))
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    """The same test on each database."""
    if request.param == "sqlite":
        found: Data = request.getfixturevalue("on_file")
        return found
    return Data(request.getfixturevalue("cleaned_database")(request.param), tmp_path)
