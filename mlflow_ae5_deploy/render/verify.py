"""A verification as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mlflow_ae5_deploy.operations.verify import Verification


def checks_data(verification: Verification) -> dict[str, Any]:
    return {"url": verification.url, "checks": [asdict(check) for check in verification.checks]}
