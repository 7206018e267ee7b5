"""The table of MLflow's features: complete for the pinned MLflow, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT
from tests.project_template.filling import FILLINGS
from tools.reference import features

FEATURES = features()
# Which of MLflow's variables a server reads: those of clients, notebooks and model flavours are many more.
OF_SERVERS = re.compile(
    r"_SERVER_|_GATEWAY_|WEBHOOK|WORKSPACE|ARCHIVAL|ROLLUP|MLFLOW_JOB_|ASSISTANT|SANDBOX|_AUTH_|RBAC|REPLICA|PRESIGNED"
    r"|PROXY_MULTIPART|MCP_TOOL|ICON_URL|SQLALCHEMYSTORE|VERSION_SOURCE_VALIDATION|MLFLOW_S3_|ONLINE_SCORING_DEFAULT"
    r"|MYSQL_SSL|MODEL_CATALOG|FILE_STORE|DISABLE_TELEMETRY|ARTIFACT_LOCATION_MAX"
)
NOT_MLFLOWS = {"MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_CRYPTO_KEK_VERSION"}  # read elsewhere in MLflow
OF_ITS_COMMAND_LINE = {"MLFLOW_SERVER_SECRETS_CACHE_TTL", "MLFLOW_SERVER_SECRETS_CACHE_MAX_SIZE"}


def test_every_table_of_mlflow_belongs_to_one_feature() -> None:
    script = ROOT / "project_template/mlflow_ae5_server/database/pinned_schema.sqlite.sql"
    tables = re.findall(r'^CREATE TABLE "?(\w+)"?', script.read_text(encoding="utf-8"), re.M)

    assert Counter(table for feature in FEATURES.features for table in feature["tables"]) == Counter(tables)


def test_every_variable_of_the_server_has_its_place() -> None:
    from mlflow import environment_variables  # in here, as it takes a second or two of every worker

    known = {
        variable.name
        for variable in vars(environment_variables).values()
        if isinstance(variable, environment_variables._EnvironmentVariable)
    }
    of_mlflow = {name for name in known if OF_SERVERS.search(name)}
    placed = [name for feature in FEATURES.features for name in feature.get("variables", ())]
    placed += [name for names in FEATURES.others.values() for name in names]

    assert {name: number for name, number in Counter(placed).items() if number > 1} == {}
    assert of_mlflow - set(placed) == set()
    assert set(placed) - known - NOT_MLFLOWS - OF_ITS_COMMAND_LINE == set()


def test_every_option_of_mlflows_server_is_listed() -> None:
    from mlflow.cli import server

    assert list(FEATURES.options) == [parameter.opts[0] for parameter in server.params]


@pytest.mark.parametrize("feature", FEATURES.features, ids=lambda feature: feature["name"])
def test_the_tests_of_a_feature_exist(feature: dict[str, Any]) -> None:
    named = {**feature.get("tests", {}), **({"refused": feature["test"]} if "test" in feature else {})}

    assert set(feature.get("tests", {})) <= set(FEATURES.steps)
    assert [node for node in named.values() if not exists(node)] == []


def test_the_features_of_the_walk_are_its_rows() -> None:
    walked = {feature["name"] for feature in FEATURES.features if feature.get("tests") == FEATURES.walk}

    assert walked == set(FILLINGS)


def exists(node: str) -> bool:
    path, _, name = node.partition("::")
    return name in functions(ROOT / path)


@cache
def functions(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))
