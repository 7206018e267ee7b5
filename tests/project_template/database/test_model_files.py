"""Where models have their files, asked of each kind of database."""

from __future__ import annotations

import pytest
from mlflow_ae5_server.backup import expected
from mlflow_ae5_server.database.connection import Database, connect_engine


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_models_that_have_files_are_found_in_each_database(native: dict[str, Database], dialect: str) -> None:
    if dialect not in native:
        pytest.skip("there is no MariaDB here")
    engine = connect_engine(native[dialect])
    with engine.connect() as connection, engine.connect() as other:
        found = dict(expected.models(connection, other))
    names = [name for name in found if "registered" in name or "logged" in name]
    assert len(names) == len(found) > 2
    assert found["version 1 of the model 'registered'"] == "mlflow-artifacts:/1/x/artifacts/model"
    assert expected.model_in(native[dialect], "/anywhere").startswith("the logged model m-")
