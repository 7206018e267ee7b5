"""Runs by the thousand, written past MLflow, as MLflow stores them: params, metrics with their history, an artifact."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DAY = 86_400_000  # milliseconds
CONTENT = b"an artifact of some bytes\n" * 8
COLUMNS = {
    "runs": "run_uuid,name,source_type,user_id,status,start_time,end_time,lifecycle_stage,artifact_uri,experiment_id,"
    "deleted_time",
    "params": "key,value,run_uuid",
    "metrics": "key,value,timestamp,run_uuid,step,is_nan",
    "latest_metrics": "key,value,timestamp,step,is_nan,run_uuid",
    "tags": "key,value,run_uuid",
}


def connect(uri: str) -> Any:
    """A plain DBAPI connection to a sqlite:/// or postgresql:// URI."""
    if uri.startswith("sqlite:///"):
        import sqlite3

        return sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=60)
    import psycopg

    return psycopg.connect("postgresql://" + uri.partition("://")[2])


def write(connection: Any, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    columns = COLUMNS[table]
    if type(connection).__module__ == "sqlite3":
        marks = ",".join("?" * (columns.count(",") + 1))
        connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)  # noqa: S608
        return
    with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(
                tuple(bool(v) if name == "is_nan" else v for name, v in zip(columns.split(","), row, strict=True))
            )


def fill(
    uri: str,
    artifacts: Path | None,
    number: int,
    *,
    params: int = 10,
    metrics: int = 50,
    deleted: bool = True,
    root: str = "mlflow-artifacts:/0",
    experiment: int = 0,
) -> list[str]:
    """Add runs to an experiment; deleted 60 days ago, or active. `artifacts`: the server's folder. Returns the ids."""
    ids = [uuid.uuid4().hex for _ in range(number)]
    now = int(time.time() * 1000)
    gone = now - 60 * DAY

    def runs() -> Iterator[tuple[Any, ...]]:
        stage, since = ("deleted", gone) if deleted else ("active", None)
        for run in ids:
            location = f"{root}/{run}/artifacts"
            yield run, f"run {run[:6]}", "UNKNOWN", "bench", "FINISHED", gone, gone, stage, location, experiment, since

    connection = connect(uri)
    with connection:
        write(connection, "runs", runs())
        write(connection, "params", ((f"param-{n}", str(n), run) for run in ids for n in range(params)))
        write(connection, "tags", (("mlflow.runName", f"run {run[:6]}", run) for run in ids))
        # five metrics, each with its history; one run after the other
        history = (
            (f"metric-{n % 5}", n / 7, gone + place * 60_000 + n, run, n // 5, 0)
            for place, run in enumerate(ids)
            for n in range(metrics)
        )
        write(connection, "metrics", history)
        write(
            connection,
            "latest_metrics",
            ((f"metric-{n}", n / 7, gone, 9, 0, run) for run in ids for n in range(min(5, metrics))),
        )
    connection.close()
    for run in ids if artifacts is not None else ():
        folder = artifacts / str(experiment) / run / "artifacts"
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(CONTENT)
    return ids


def count(uri: str, table: str, where: str = "1=1") -> int:
    connection = connect(uri)
    found: int = connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]  # noqa: S608
    connection.close()
    return found
