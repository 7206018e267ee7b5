"""The output of `upgrade`, as text and as JSON."""

from __future__ import annotations

import shlex
from typing import Any

from mlflow_ae5_deploy.common.durations import lasting
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations.upgrade.apply import UpgradeResult
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan, schema
from mlflow_ae5_deploy.release.provenance import short_name
from mlflow_ae5_deploy.render.changes import shortened, show_drift
from mlflow_ae5_deploy.render.console import SCHEMA, Reporter
from mlflow_ae5_deploy.render.format import Mark, settings_lines, yaml_quoted


def show_changes(reporter: Reporter, planned: UpgradePlan) -> None:
    reporter.line(f"Upgrade project {planned.project.name}", style="bold")
    installed, release = map(short_name, planned.release)
    if planned.same and installed != release:
        installed = release = f"{installed}, the same content as {release}"
    for title, (now, then) in (("Release", (installed, release)), ("MLflow", planned.mlflow)):
        reporter.hanging(f"  {title:<9} ", f"{now} → {then}" if now != then else f"{now} (unchanged)")
    for number, line in enumerate(shortened(planned.differences, verbose=reporter.verbose)):
        reporter.hanging(f"  {'' if number else 'Also':<9} ", line)


def show_rehearsal(reporter: Reporter, job_result: JobResult[UpgradeReport]) -> None:
    report = job_result.report
    schema = job_result.message
    if report.is_current:
        schema = f"{report.revision} (unchanged)"
    elif report.revision and report.expected_revision:
        number, seconds = counted(len(report.migrations), "migrations"), lasting(report.migration_seconds)
        schema = f"{report.revision} → {report.expected_revision} ({number}, {seconds} on a copy)"
    reporter.hanging(f"  {'Schema':<9} ", schema)
    for step in report.migrations:
        reporter.hanging(" " * 12, f"{step.revision}  {step.what}".rstrip())


def show_passed(reporter: Reporter, job_result: JobResult[UpgradeReport]) -> None:
    """Of a rehearsal alone."""
    report = job_result.report
    took = f" The job took {lasting(report.seconds)}." if report.seconds is not None else ""
    what = "the schema stays" if report.is_current else "the migration works on a copy of the data"
    reporter.marked(Mark.OK, f"Rehearsal passed: {what}. The server was not started. Nothing was changed.{took}")


def show_upgraded(reporter: Reporter, done: UpgradeResult, release: str, program: str) -> None:
    """program: how the reader calls this tool."""
    if done.verification is not None:
        reporter.line(f"All {len(done.verification.checks)} checks passed.")
    downtime = f" Downtime {done.downtime:.0f} s, including verification." if done.downtime is not None else ""
    reporter.line()
    reporter.marked(Mark.OK, f"Upgraded to {release}.{downtime}")
    reporter.line()
    reporter.line("To return to the previous release and data", style="bold")
    words = ["restore", "--snapshot", done.snapshot, "--release", done.kept_archive, "--replace", "--stop-server"]
    reporter.copied(f"  {program} {reporter.command(shlex.join(words))}")
    until = f"Works until retention or `backup prune` deletes snapshot {done.snapshot}. The settings `server` stay."
    reporter.hanging("  ", until)


def show_not_configured(reporter: Reporter, installed: str, configured: str, profile: str | None) -> None:
    """Of the setting release.source: the value of the installed release, and the configured one."""
    lead = "Differs from your configuration; the next install without --release will revert it"
    to_keep = settings_lines("release", [f"source: {yaml_quoted(installed)}"], profile)
    show_drift(reporter, lead, [f"release.source: {configured} → {installed}"], to_keep)


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
