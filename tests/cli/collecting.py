"""A release for the bench whose collection prints its settings, as the real one does, and fails on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.sandbox.support import make_project_archive

COLLECTION = r"""
import json, os, pathlib, sys, time

secret = pathlib.Path(os.environ["MLFLOW_AE5_SECRETS_DIR"], "MLFLOW_BACKEND_STORE_URI")
database = os.environ.get("MLFLOW_BACKEND_STORE_URI") or (secret.read_text() if secret.exists() else "")
print("settings (a variable beats a secret):\n  A_SETTING  default  its value")
print("collecting older than", os.environ["MLFLOW_TRACKING_GC_TTL"], flush=True)
print("the database ends in", database[-6:], flush=True)
gate = os.environ.get("GATE")
while gate and not pathlib.Path(gate).exists():
    time.sleep(0.02)
dry = os.environ.get("MLFLOW_TRACKING_GC_DRY_RUN") == "true"
if os.environ.get("BREAK") == "crash":
    print("Traceback (most recent call last):\n  ...\nsqlite3.OperationalError: disk I/O error")
if os.environ.get("BREAK") in ("crash", "silence"):
    sys.exit(0)  # as where a launcher loses the exit code
if os.environ.get("BREAK") == "state":
    sys.exit(4)
if os.environ.get("BREAK", "").isdigit():
    code = int(os.environ["BREAK"])
    print(json.dumps({"command": "GarbageCollection", "outcome": "failed", "error": "no server", "exit_code": code}))
    sys.exit(0)
if os.environ.get("BREAK") == "part":
    skipped = [{"id": "r1", "kind": "run", "why": "a link leads out"}]
    report = {"command": "GarbageCollection", "outcome": "incomplete", "exit_code": 23}
    report |= {"runs": {"due": 2, "removed": 1, "remaining": 1}, "skipped": skipped, "skipped_total": 1}
    print(json.dumps(report))
    sys.exit(23)
runs = {"due": 2} if dry else {"due": 2, "removed": 2, "remaining": 0}
report = {"command": "GarbageCollection", "outcome": "dry-run" if dry else "done", "runs": runs, "exit_code": 0}
print(json.dumps(report))
"""


def make_collecting_release(
    target: Path, *, knows_dry_run: bool = True, files: Mapping[str, str] | None = None
) -> Path:
    return make_project_archive(target, files=files, collection=COLLECTION, dry_run=knows_dry_run)
