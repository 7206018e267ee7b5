"""What `upgrade` has to say, for people and as JSON."""

from __future__ import annotations

import shlex
from typing import Any

from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.operations.upgrade.apply import UpgradeResult
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan, schema
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.install import SCHEMA


def show_changes(reporter: Reporter, found: UpgradePlan) -> None:
    for title, (now, then) in (("Release", found.release), ("MLflow", found.mlflow)):
        reporter.line(f"  {title:<9} {now}" + (f" -> {then}" if now != then else ", as before"))


def show_rehearsal(reporter: Reporter, job_result: JobResult) -> None:
    reporter.line(f"  {'Schema':<9} {job_result.message}")
    for step in job_result.report.get("migrations") or []:
        words = f"{step.get('revision')}  {step.get('what') or ''}".rstrip() if isinstance(step, dict) else step
        reporter.hanging("            ", str(words))


def show_upgraded(reporter: Reporter, done: UpgradeResult, found: str) -> None:
    reporter.line(f"The server runs {found}, and was verified from outside.", style="bold")
    if done.downtime is not None:
        reporter.line(f"  Down for    {done.downtime:.0f} s, the proof included")
    reporter.line(f"  Snapshot    {done.snapshot}, made after the stop")
    reporter.line(f"  Kept        {done.kept_archive}, the former release")
    reporter.line("  Both are needed to bring the former state back:")
    words = ["restore", "--snapshot", done.snapshot, "--release", done.kept_archive, "--replace", "--stop-server"]
    reporter.line(f"    mlflow-ae5-deploy {reporter.command(shlex.join(words))}")
    reporter.line("Tell the people who use it: tokens of the former deployment are void.")


def upgrade_data(
    outcome: str, found: UpgradePlan | None, rehearsed: JobResult | None, done: UpgradeResult | None
) -> dict[str, Any]:
    """outcome: upgraded, unchanged, rehearsed, back or failed."""
    return {
        "schema": SCHEMA,
        "verb": "upgrade",
        "outcome": outcome,
        "changes": found.data() if found else None,
        "rehearsal": schema(rehearsed),
        "snapshot": done.snapshot if done else None,
        "migration": dict(done.migration.report) if done else None,
        "kept_archive": done.kept_archive if done else None,
        "downtime_seconds": round(done.downtime, 1) if done and done.downtime is not None else None,
        "checks": [{"name": c.name, "passed": c.passed, "message": c.message} for c in done.proof.checks]
        if done
        else [],
    }
