"""The crontab line that rotates the token when needed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.environment import CA_VARIABLE, NAMES, STATE_VARIABLE
from mlflow_ae5_deploy.config.load import LoadedSettings
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.config.state_dir import state_root


def crontab_line(schedule: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run this installation of the tool, by absolute path. cron mails errors; results are discarded."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    command = [shlex.quote(word) for word in (sys.executable, "-m", "mlflow_ae5_deploy", *arguments)]
    text = " ".join([*(["env", *settings] if settings else []), *command, ">/dev/null"])
    if "\n" in text or "\r" in text:
        raise Configuration(
            "A path with a line break in it cannot be written into a crontab.", remedy="Rename the file or folder."
        )
    return f"{schedule} {text}".replace("%", r"\%")  # in a crontab an unescaped % ends the command


def overridden_settings(loaded: LoadedSettings) -> dict[str, str]:
    """Options that repeat what only this command line or this shell's environment sets."""
    settings = loaded.settings
    rows = (
        ("hostname", "platform.hostname", settings.platform.hostname),
        ("username", "account.username", settings.account.username),
        ("session", "platform.session", settings.platform.session),
    )
    elsewhere = ("file", "profile", "default")
    return {
        option: value
        for option, setting, value in rows
        if value and not loaded.sources.get(setting, "default").startswith(elsewhere)
    }


def environment_of_cron(loaded: LoadedSettings, environ: Mapping[str, str], *, sandbox: bool) -> dict[str, str]:
    """Variables of this shell that a run by cron needs as well; no secrets."""
    variables: dict[str, str] = {}
    if environ.get(STATE_VARIABLE) or environ.get("XDG_STATE_HOME"):
        variables[STATE_VARIABLE] = str(absolute(state_root(loaded.settings, environ)))
    if sandbox:
        return variables
    in_options = (STATE_VARIABLE, "AE5_HOSTNAME", "AE5_USERNAME")
    for name in NAMES:
        value = environ.get(name.variable)
        if value and name.kind != "reference" and name.variable not in in_options:
            variables[name.variable] = str(absolute(Path(value))) if name.variable.endswith("_PATH") else value
    if bundle := environ.get(CA_VARIABLE):
        variables[CA_VARIABLE] = str(absolute(Path(bundle)))
    return variables


def absolute(path: Path) -> Path:
    """Symbolic links are kept: the file may be a mounted one."""
    return Path.cwd() / path


def unreachable_secrets(settings: Settings, environ: Mapping[str, str], *, sandbox: bool) -> list[str]:
    """Warnings about secrets that a run by cron does not have: its environment is empty, and it cannot prompt."""
    warnings = [
        f"{where} is {reference}, which cron does not provide. Put the value into a file (mode 0600) and use file:PATH."
        for where, reference in _references(settings, sandbox=sandbox)
        if reference is not None and reference.kind in ("env", "prompt")
    ]
    if not sandbox:
        warnings += [
            f"{name} is set in this shell, and cron does not provide it. Set it in a file that cron's shell reads."
            for name in ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
            if environ.get(name)
        ]
    return warnings


def _references(settings: Settings, *, sandbox: bool) -> list[tuple[str, SecretRef | None]]:
    """(setting, reference) of each secret a rotation needs. The sandbox has accounts of its own, but no consumers."""
    admin = settings.admin.username is not None
    account = settings.account
    impersonates = admin and (account.impersonate or account.password is None)
    rows: list[tuple[str, SecretRef | None]] = []
    if not sandbox:
        if impersonates or (admin and None in settings.consumer_accounts.values()):
            rows.append(("admin.password", settings.admin.password))
        if not impersonates:
            rows.append(("account.password", account.password))
    rows += [(f"the password of consumer {name}", reference) for name, reference in settings.consumer_accounts.items()]
    return rows
