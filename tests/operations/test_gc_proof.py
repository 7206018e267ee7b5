"""What a dry run of the garbage collection job shows about a token. Rows: its report, and the judgement."""

from __future__ import annotations

import json

import pytest

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import read_result
from mlflow_ae5_deploy.operations.gc_check import classify
from mlflow_ae5_deploy.resources.token import digest

NEW, OLD = Secret("the-new-token"), Secret("the-old-token")
GOOD = {"outcome": "dry-run", "dry_run": True, "server": "ok", "exit_code": 0}
REJECTED = {**GOOD, "server": "https://x did not accept the token (HTTP 401)"}
USED_NEW, USED_OLD = {"token_sha256": digest(NEW)}, {"token_sha256": digest(OLD)}

ROWS = [
    ("with the new token", {**GOOD, **USED_NEW}, "completed", NEW, "passed"),
    ("with an earlier one", {**GOOD, **USED_OLD}, "completed", NEW, "stale"),
    ("rejected with an earlier one", {**REJECTED, **USED_OLD}, "completed", NEW, "stale"),
    ("rejected with the new one", {**REJECTED, **USED_NEW}, "completed", NEW, "failed"),
    ("does not say with which", GOOD, "completed", NEW, "passed"),
    ("rejected, does not say with which", REJECTED, "completed", NEW, "stale"),
    ("the stored one works", {**GOOD, **USED_OLD}, "completed", None, "passed"),
    ("the stored one is invalid", {**REJECTED, **USED_OLD}, "completed", None, "rejected"),
    ("the server is away", {**GOOD, **USED_NEW, "server": "does not answer"}, "completed", NEW, "failed"),
    ("the server is away, the stored one", {**GOOD, "server": "does not answer"}, "completed", None, "failed"),
    ("not a dry run", {**GOOD, **USED_NEW, "dry_run": False}, "completed", NEW, "failed"),
    ("does not say whether it was dry", {"outcome": "done", "server": "ok"}, "completed", NEW, "failed"),
    ("the job failed by itself", {**GOOD, **USED_NEW, "outcome": "failed", "exit_code": 33}, "failed", NEW, "failed"),
    ("the platform calls it failed", {**GOOD, **USED_NEW}, "failed", NEW, "failed"),
    ("says nothing about a server", {"outcome": "dry-run", "dry_run": True}, "completed", NEW, "failed"),
    ("no last line, its exit code lost", None, "completed", NEW, "failed"),
    ("no last line, and failed", None, "failed", NEW, "failed"),
]


@pytest.mark.parametrize(("case", "report", "state", "token", "expected"), ROWS, ids=[row[0] for row in ROWS])
def test_a_dry_run_is_classified(case, report, state, token, expected):
    run = Run("a2-1", "job dry run", "svc", "a0-1", state)
    log = "collecting\n" + (json.dumps(report) + "\n" if report is not None else "")

    assert classify(read_result(GcReport, run, log), token) == expected


def test_the_digest_distinguishes_tokens_and_is_short():
    assert digest(NEW) != digest(OLD)
    assert len(digest(NEW)) == 12
