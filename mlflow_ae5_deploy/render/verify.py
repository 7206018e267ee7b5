"""A verification as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlflow_ae5_deploy.operations.verify import Verification
from mlflow_ae5_deploy.render.install import SCHEMA


def verification_data(verification: Verification) -> dict[str, Any]:
    outcome = "passed" if verification.passed else "failed"
    return {"schema": SCHEMA, "verb": "verify", "outcome": outcome} | checks_data(verification)


def checks_data(verification: Verification) -> dict[str, Any]:
    return {"url": verification.url, "checks": [asdict(check) for check in verification.checks]}
