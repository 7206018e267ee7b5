"""Checks from inside the platform: database, artifact store, endpoint and keys.

A temporary job runs the project's command `Check` once, with the stored secrets, and is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine import job_result
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.jobs import one_off
from mlflow_ae5_deploy.jobs.spec import JobSpec
from mlflow_ae5_deploy.operations.doctor.findings import Finding, error, of_error, ok, skipped, warning
from mlflow_ae5_deploy.resources import encryption_keys

JOB = "mlflow-ae5-deploy doctor"
CHECKS = {
    "database-from-platform": "database",
    "artifacts-from-platform": "artifacts",
    "endpoint-from-platform": "server",
    "keys-from-platform": "keys",
}
_LOOK = "Look at the deployment's log (`logs`), and at what the platform's administrator knows of its network."


def not_asked() -> list[Finding]:
    why = "database, artifacts, endpoint and keys were not checked from inside the platform"
    return [skipped("from-platform", why, "Run `doctor --from-platform`: it runs a temporary job there.")]


def from_platform(context: Context, show: Callable[[str], None]) -> list[Finding]:
    """show: called with each line of the job's log."""
    try:
        return _run(context, show)
    except DeployError as trouble:
        return [of_error(check, trouble) for check in CHECKS]


def _run(context: Context, show: Callable[[str], None]) -> list[Finding]:
    settings = context.settings
    project = context.cached.project(settings.project.name)
    if project is None:
        return _all_skipped("the job runs in the installed project, and nothing is installed", "Run `install` first.")
    command = "MinimumCheck" if settings.deployment.command.startswith("Minimum") else "Check"
    revision = context.cached.revisions(project)[0]
    if command not in {item.id for item in revision.commands}:
        return _all_skipped(
            f"the installed release has no command `{command}`", "The bundled release has it: `--release bundled`."
        )
    values = [] if encryption_keys.are_prompted(context) else encryption_keys.check_values(context)
    checks = (("MLFLOW_TRACKING_CHECK_VALUES", json.dumps(values)),) if values else ()
    desired = JobSpec(JOB, command, "", checks, settings.deployment.resource_profile)
    run, log = one_off.run_once(context, project, desired, show, seconds=settings.platform.deployment_deadline)
    return read_report(run.state, job_result.last_report(log))


def read_report(state: str, report: Mapping[str, Any]) -> list[Finding]:
    """Pure: findings from the job's last line. state: of the run, by the platform."""
    findings = [_read_part(check, report.get(part)) for check, part in CHECKS.items()]
    if all(finding is None for finding in findings):
        why = str(report.get("error") or f"the run is {state}, and its log has no report")
        return [error(check, why, str(report.get("hint") or _LOOK)) for check in CHECKS]
    broke_off = report.get("error") or ("interrupted" if report.get("outcome") == "interrupted" else None)

    def missing(check: str) -> Finding:
        if broke_off is None:
            return skipped(check, "the job did not report it")
        return error(check, f"the job ended before this check: {broke_off}", str(report.get("hint") or _LOOK))

    return [finding or missing(check) for check, finding in zip(CHECKS, findings, strict=True)]


def _read_part(check: str, part: Any) -> Finding | None:
    if not isinstance(part, dict) or "message" not in part:
        return None
    message = str(part["message"])
    if part.get("ok") is None:
        return skipped(check, message)
    if not part["ok"]:
        return error(check, message, str(part.get("hint") or _LOOK))
    asked = part.get("compared")
    keys = [key for key in asked if isinstance(key, dict)] if isinstance(asked, list) else []
    if other := sorted(str(key.get("name")) for key in keys if key.get("at_hand") != "same"):
        return error(
            check,
            f"the {' and '.join(other)} at hand on this machine is not what the platform has",
            "Put the key file of this installation in its place. `install --replace-keys` stores the key at hand "
            "instead; what users have entered then becomes unreadable.",
        )
    warnings = part.get("warnings")
    if isinstance(warnings, list) and warnings:
        return warning(check, "; ".join(str(item) for item in warnings), "See runbooks/security.md, Keys.")
    if part.get("warning"):
        return warning(check, f"{message}. {part['warning']}", "Ask for persistent storage, or use another store.")
    return ok(check, f"{message} (revision {part['revision']})" if part.get("revision") else message)


def _all_skipped(why: str, remedy: str) -> list[Finding]:
    return [skipped(check, why, remedy) for check in CHECKS]
