"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import DeployError

OK, INFO, WARNING, ERROR, SKIPPED = "ok", "info", "warning", "error", "skipped"
SEVERITIES = (OK, INFO, WARNING, ERROR, SKIPPED)
_ASK = "Look at what stands under `said`; the runbook troubleshooting.md lists what usually helps."


@dataclass(frozen=True)
class Finding:
    """check: what was looked at. said: what was seen, or, for skipped, why nothing was. remedy: empty unless bad."""

    check: str
    severity: str
    said: str
    remedy: str = ""


def ok(check: str, said: str) -> Finding:
    return Finding(check, OK, said)


def info(check: str, said: str, remedy: str = "") -> Finding:
    return Finding(check, INFO, said, remedy)


def warning(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, WARNING, said, remedy)


def error(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, ERROR, said, remedy)


def skipped(check: str, why: str, remedy: str = "") -> Finding:
    return Finding(check, SKIPPED, why, remedy)


def of_error(check: str, trouble: DeployError) -> Finding:
    """A check that ended in one of our errors, which know their own remedy."""
    place = f" ({trouble.where})" if trouble.where else ""
    return error(check, f"{trouble.what}{place}", trouble.remedy or _ASK)
