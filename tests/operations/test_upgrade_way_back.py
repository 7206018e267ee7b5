"""An upgrade starts only where it can be rolled back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Conflict
from mlflow_ae5_deploy.operations.upgrade.plan import RESTORABLE, require_restorable

CHECKS = Path(__file__).parents[2] / "project_template/mlflow_ae5_server/database/contents.py"


def test_a_database_that_nothing_can_be_restored_into_is_refused():
    with pytest.raises(Conflict, match="mssql") as refused:
        require_restorable("mssql")
    assert "PostgreSQL" in refused.value.remedy


def test_the_others_are_those_of_the_project():
    for dialect in RESTORABLE:
        require_restorable(dialect)
    (dialects,) = re.findall(r"^DIALECTS = \((.*)\)$", CHECKS.read_text(), re.M)
    assert tuple(re.findall(r'"(\w+)"', dialects)) == RESTORABLE
