"""Checks from inside the platform: database, artifact store, endpoint and keys.

A temporary job runs the project's command `Check` once, with the stored secrets, and is deleted.
"""

from __future__ import annotations

import json

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import one_off
from mlflow_ae5_deploy.jobs.contract import CHECK_VALUES, last_line, read
from mlflow_ae5_deploy.jobs.logs import job_log
from mlflow_ae5_deploy.jobs.reports import CheckPart, CheckReport
from mlflow_ae5_deploy.jobs.runner import command_of
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations.doctor.findings import Finding, all_skipped, error, of_error, ok, skipped, warning
from mlflow_ae5_deploy.resources import encryption_keys

JOB = "mlflow-ae5-deploy doctor"
CHECKS = {
    "database-from-platform": "database",
    "artifacts-from-platform": "artifacts",
    "endpoint-from-platform": "server",
    "keys-from-platform": "keys",
}
_SEE_LOGS = "See the deployment's log (`logs`), and ask the platform's administrator about its network."


def not_run() -> list[Finding]:
    return all_skipped(CHECKS, "they need a job on the platform", "Run `doctor --from-platform`.")


def from_platform(context: Context) -> list[Finding]:
    try:
        return _run(context)
    except DeployError as trouble:
        return [of_error(check, trouble) for check in CHECKS]


def _run(context: Context) -> list[Finding]:
    settings = context.settings
    project = context.cached.project(settings.project.name)
    if project is None:
        return all_skipped(CHECKS, "nothing is installed, and the job is part of the project", "Run `install` first.")
    command = command_of(settings, "Check")
    revision = context.cached.revisions(project)[0]
    if command not in {item.id for item in revision.commands}:
        return all_skipped(
            CHECKS,
            f"the installed release has no command `{command}`",
            "The bundled release has it: `--release bundled`.",
        )
    values = [] if encryption_keys.are_prompted(context) else encryption_keys.check_values(context)
    checks = ((CHECK_VALUES, json.dumps(values)),) if values else ()
    desired = JobSpec(JOB, command, "", checks, settings.deployment.resource_profile)
    seconds = settings.platform.deployment_deadline
    run, log = one_off.run_once(context, project, desired, job_log(context), seconds=seconds)
    return read_report(run.state, read(CheckReport, last_line(log)))


def read_report(state: str, report: CheckReport) -> list[Finding]:
    """Pure: findings from the job's report. state: of the run, by the platform."""
    parts: dict[str, CheckPart | None] = {check: getattr(report, part) for check, part in CHECKS.items()}
    if all(part is None for part in parts.values()):
        why = report.error or f"the run is {state}, and its log has no report"
        return [error(check, why, report.hint or _SEE_LOGS) for check in CHECKS]
    ended = report.error or ("interrupted" if report.outcome == "interrupted" else "")

    def finding(check: str, part: CheckPart | None) -> Finding:
        if part is not None and part.message:
            return _read_part(check, part)
        if ended:
            return error(check, f"the job ended before this check: {ended}", report.hint or _SEE_LOGS)
        return skipped(check, "the job did not report it")

    return [finding(check, part) for check, part in parts.items()]


def _read_part(check: str, part: CheckPart) -> Finding:
    if part.ok is None:
        return skipped(check, part.message)
    if not part.ok:
        return error(check, part.message, part.hint or _SEE_LOGS)
    if other := sorted(key.name for key in part.compared if key.at_hand != "same"):
        return error(
            check,
            f"{' and '.join(other)} on this machine differs from the platform's",
            "Copy the key file of this installation back. `install --replace-keys` stores the key of this machine "
            "instead; LLM keys and webhook secrets entered before become unreadable.",
        )
    if part.warnings:
        return warning(check, "; ".join(part.warnings), "See runbooks/explanation/security.md, Keys.")
    if part.warning:
        return warning(check, f"{part.message}. {part.warning}", "Ask for persistent storage, or use an object store.")
    return ok(check, f"{part.message} (revision {part.revision})" if part.revision else part.message)
