"""What a server's log shows of its database, beside the configured one."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.resources.served_database import parse, served_by

PG = "postgresql+psycopg://mlflow:secret@db.example.com/mlflow"
ALEMBIC = "2026/11/29 INFO alembic.runtime.migration: Context impl {}Impl.\n"
LAUNCHER = "mlflow server --host 0.0.0.0 --backend-store-uri {} --serve-artifacts\n"

ROWS = [
    # configured, log, what is seen of it: True the same, False another, None nothing
    (PG, "", None),
    (PG, "serving on 0.0.0.0:8086 with 2 workers\n", None),
    (PG, "database: postgresql+psycopg://mlflow:***@db.example.com/mlflow\n", True),
    (PG, "database: postgresql+psycopg2://other:***@DB.example.com:5432/mlflow\n", True),
    (PG, "database: postgresql+psycopg://mlflow:***@db.example.com:5433/mlflow\n", False),
    (PG, "database: postgresql+psycopg://mlflow:***@db2.example.com/mlflow\n", False),
    (PG, "database: postgresql+psycopg://mlflow:***@db.example.com/mlflow_test\n", False),
    (PG, "database: postgresql+psycopg://********:***@db.example.com/********\n", True),  # the log masks a secret
    (PG, "database: sqlite:///data/mydb.sqlite\n", False),
    (PG, f"database: sqlite:///old\ndatabase: {PG}\n", True),  # the last start counts
    (PG, f"database: {PG}\ndatabase: sqlite:///new\n", False),
    (PG, LAUNCHER.format("sqlite:///data/mydb.sqlite"), False),
    (PG, LAUNCHER.format(f"'{PG}'"), True),
    (PG, LAUNCHER.format(PG) + LAUNCHER.format("sqlite:///x"), False),
    (PG, ALEMBIC.format("SQLite"), False),
    (PG, ALEMBIC.format("Postgresql"), True),
    (PG, ALEMBIC.format("SQLite") + ALEMBIC.format("Postgresql"), True),  # a second one for its users
    ("mysql+pymysql://u:p@h/d", ALEMBIC.format("MariaDB"), True),
    ("sqlite:///data/mydb.sqlite", "database: sqlite:///./data//mydb.sqlite\n", True),
    ("sqlite:///data/mydb.sqlite", LAUNCHER.format("sqlite:////opt/project/data/mydb.sqlite"), True),
    ("sqlite:///data/mydb.sqlite", LAUNCHER.format("sqlite:////opt/project/other.sqlite"), False),
    ("sqlite:///data/my db.sqlite", "database: sqlite:///data/my db.sqlite\n", True),
    ("postgresql+psycopg:///ml%20flow?host=/run/pg", "database: postgresql+psycopg:///ml flow?host=/run/pg\n", True),
]


@pytest.mark.parametrize(("configured", "log", "same"), ROWS)
def test_a_log_shows_the_database(configured: str, log: str, same: bool | None) -> None:
    desired, seen = parse(configured), served_by(log)
    assert desired is not None
    assert (any(one.may_be(desired) for one in seen) if seen else None) is same
    assert "secret" not in str(desired)
