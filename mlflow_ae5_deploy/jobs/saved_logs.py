"""The last run of each kind that was started here, with its log: the platform's record goes with its job.

One file for each name of a job, in the folder `runs` of the installation.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import write_private_json
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.context import Context

_FOLDER = "runs"
_LONGEST = 1_000_000  # characters of a log, from its end


@dataclass(frozen=True)
class SavedRun:
    run: Run
    log: str


def save(context: Context, run: Run, log: str) -> None:
    """A full disk on this machine is no reason to fail what was done on the platform."""
    name = re.sub(r"[^a-z0-9]+", "-", run.name.lower()).strip("-") or "unnamed"
    record = {
        "id": run.id,
        "name": run.name,
        "owner": run.owner,
        "project_id": run.project_id,
        "state": run.state,
        "created": run.created.isoformat() if run.created else None,
        "log": scrub(log[-_LONGEST:]),
    }
    with contextlib.suppress(Configuration):
        write_private_json(context.folders.state / _FOLDER / f"{name}.json", record)


def saved(context: Context) -> list[SavedRun]:
    """In no order, without files that cannot be read."""
    runs = []
    for file in (context.folders.state / _FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            runs.append(_read(json.loads(file.read_text(encoding="utf-8"))))
    return runs


def find(context: Context, run_id: str) -> SavedRun | None:
    return next((item for item in saved(context) if item.run.id == run_id), None)


def _read(data: dict[str, Any]) -> SavedRun:
    created = datetime.fromisoformat(data["created"]) if data["created"] else None
    run = Run(data["id"], data["name"], data["owner"], data["project_id"], data["state"], created=created)
    return SavedRun(run, str(data["log"]))
