"""The output of `upgrade`, as text and as JSON."""

from __future__ import annotations

import shlex
from typing import Any

from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations.upgrade.apply import UpgradeResult
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan, schema
from mlflow_ae5_deploy.render.console import SCHEMA, Reporter


def show_changes(reporter: Reporter, planned: UpgradePlan) -> None:
    for title, (now, then) in (("Release", planned.release), ("MLflow", planned.mlflow)):
        reporter.line(f"  {title:<9} {now}" + (f" → {then}" if now != then else ", unchanged"))


def show_rehearsal(reporter: Reporter, job_result: JobResult[UpgradeReport]) -> None:
    reporter.line(f"  {'Schema':<9} {job_result.message}")
    for step in job_result.report.migrations:
        reporter.hanging("            ", f"{step.revision}  {step.what}".rstrip())


def show_upgraded(reporter: Reporter, done: UpgradeResult, release: str) -> None:
    reporter.line(f"Upgraded to {release}, and verified.", style="bold")
    if done.downtime is not None:
        reporter.line(f"  Downtime    {done.downtime:.0f} s, including verification")
    reporter.line(f"  Snapshot    {done.snapshot}, made after the stop")
    reporter.line(f"  Archive     {done.kept_archive}, the previous release")
    reporter.line("  To return to the previous release and data, from these two:")
    words = ["restore", "--snapshot", done.snapshot, "--release", done.kept_archive, "--replace", "--stop-server"]
    reporter.line(f"    mlflow-ae5-deploy {reporter.command(shlex.join(words))}")
    reporter.line("Tell your users: tokens of the previous deployment are invalid.")


def upgrade_data(
    outcome: str, planned: UpgradePlan | None, rehearsed: JobResult[UpgradeReport] | None, done: UpgradeResult | None
) -> dict[str, Any]:
    """outcome: upgraded, unchanged, rehearsed, rolled back or failed."""
    checks = done.verification.checks if done and done.verification else ()
    return {
        "schema": SCHEMA,
        "verb": "upgrade",
        "outcome": outcome,
        "changes": planned.data() if planned else None,
        "rehearsal": schema(rehearsed),
        "snapshot": done.snapshot if done else None,
        "migration": dict(done.migration.report.data) if done and done.migration else None,
        "kept_archive": done.kept_archive if done else None,
        "downtime_seconds": round(done.downtime, 1) if done and done.downtime is not None else None,
        "checks": [{"name": c.name, "passed": c.passed, "message": c.message} for c in checks],
    }
