"""A finding: the result of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mlflow_ae5_deploy.common.errors import DeployError

OK, INFO, WARNING, ERROR, SKIPPED = "ok", "info", "warning", "error", "skipped"
SEVERITIES = (OK, INFO, WARNING, ERROR, SKIPPED)
_ASK = "See runbooks/reference/troubleshooting.md."
# What a check is about, in the order of the report.
GROUPS = {
    "machine": ("python", "state-folder", "ae5-tools"),
    "settings": ("configuration", "credentials", "secret-references", "consumer-credentials", "notify"),
    "platform": ("dns", "reachable", "tls", "clock"),
    "release": ("release", "mlflow-version"),
    "data": ("database-uri", "database-driver", "backup-destination"),
    "account": (
        *("login", "service-account", "rights", "resource-profiles", "endpoint-name", "keys"),
        "platform",  # an error of the platform that ended these checks
    ),
    "server": (
        "endpoint-dns",
        "endpoint-tls",
        "server",
        "mlflow-running",
        "allowed-hosts",
        "token",
        "gc-job",
        "status",
    ),
    "inside": ("database-from-platform", "artifacts-from-platform", "endpoint-from-platform", "keys-from-platform"),
}
_GROUP_OF = {check: group for group, checks in GROUPS.items() for check in checks}


@dataclass(frozen=True)
class Finding:
    """message: what was observed, or, if skipped, why nothing was. remedy: empty unless something is wrong."""

    check: str
    severity: str
    message: str
    remedy: str = ""

    @property
    def group(self) -> str:
        return _GROUP_OF[self.check]

    def data(self) -> dict[str, str]:
        return {"group": self.group, **asdict(self)}


def ok(check: str, message: str) -> Finding:
    return Finding(check, OK, message)


def info(check: str, message: str, remedy: str = "") -> Finding:
    return Finding(check, INFO, message, remedy)


def warning(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, WARNING, message, remedy)


def error(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, ERROR, message, remedy)


def skipped(check: str, why: str, remedy: str = "") -> Finding:
    return Finding(check, SKIPPED, why, remedy)


def all_skipped(checks: Iterable[str], why: str, remedy: str = "") -> list[Finding]:
    return [skipped(check, why, remedy) for check in checks]


def of_error(check: str, trouble: DeployError) -> Finding:
    """A check that ended in one of our errors, which know their own remedy."""
    suffix = f" ({trouble.where})" if trouble.where and trouble.where not in trouble.what else ""
    return error(check, f"{trouble.what}{suffix}", trouble.remedy or _ASK)
