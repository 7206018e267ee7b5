"""The crontab line that rotates the token when needed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import Settings


def crontab_line(schedule: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run this very installation of the tool, by absolute path. Results are discarded, because cron mails what is
    printed; errors are mailed."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    command = [shlex.quote(word) for word in (sys.executable, "-m", "mlflow_ae5_deploy", *arguments)]
    text = " ".join([*(["env", *settings] if settings else []), *command, ">/dev/null"])
    if "\n" in text or "\r" in text:
        raise Configuration(
            "A path with a line break in it cannot be written into a crontab.", remedy="Rename the file or folder."
        )
    return f"{schedule} {text}".replace("%", r"\%")  # in a crontab an unescaped % ends the command


def unreachable_secrets(settings: Settings, environ: Mapping[str, str], *, sandbox: bool) -> list[str]:
    """Warnings of secrets that a run by cron does not have: its environment is empty, and it cannot ask."""
    found = [
        f"{where} is {reference}, which a run by cron does not have. Put the value into a file of mode 0600 and refer "
        "to it with file:PATH."
        for where, reference in _references(settings, sandbox=sandbox)
        if reference is not None and reference.kind in ("env", "prompt")
    ]
    if not sandbox:
        found += [
            f"{name} is set here, and a run by cron does not have it. Set it in a file that cron's shell reads."
            for name in ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
            if environ.get(name)
        ]
    return found


def _references(settings: Settings, *, sandbox: bool) -> list[tuple[str, SecretRef | None]]:
    """Where a rotation needs a secret, and the reference to it. The sandbox has its own accounts, but not consumers."""
    admin = settings.admin.username is not None
    account = settings.account
    impersonates = admin and (account.impersonate or account.password is None)
    rows: list[tuple[str, SecretRef | None]] = []
    if not sandbox:
        if impersonates or (admin and any(consumer.password is None for consumer in settings.consumers)):
            rows.append(("admin.password", settings.admin.password))
        if not impersonates:
            rows.append(("account.password", account.password))
    rows += [(f"the password of consumer {c.username}", c.password) for c in settings.consumers]
    return rows
