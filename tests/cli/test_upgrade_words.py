"""Rendering a rehearsal: every migration by its revision, with its author's description."""

from __future__ import annotations

import io

from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.upgrade import show_rehearsal


def test_migrations_are_shown_with_their_descriptions():
    out = io.StringIO()
    migrations = [{"revision": "867495a8f9d4", "what": "add trace tables"}, {"revision": "bf29a5ff90ea"}]
    report = read(UpgradeReport, {"outcome": "rehearsed", "migrations": migrations})

    show_rehearsal(Reporter(out=out, err=out), JobResult("a2-1", "completed", report, "the schema would change"))

    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[1:] == ["867495a8f9d4  add trace tables", "bf29a5ff90ea"]
