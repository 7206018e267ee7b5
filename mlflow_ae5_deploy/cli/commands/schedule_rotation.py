"""schedule-rotation: print the crontab line that rotates the token when needed."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.commands import rotate_token
from mlflow_ae5_deploy.cli.context import installation_folder, load_settings
from mlflow_ae5_deploy.cli.options import TargetOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.config.secret_refs import SecretRef
    from mlflow_ae5_deploy.config.settings import Settings

NAME = "schedule-rotation"
HELP = "Print the crontab line that rotates the token when needed."

Cron = Annotated[str, typer.Option("--cron", help="When to look, as cron, in the time zone of this machine.")]
_LOCK_WAIT = 300  # seconds a rotation by cron waits for somebody at work


def command(
    options: TargetOptions,
    cron: Cron = "*/10 * * * *",
) -> int:
    """Needs no connection. Add the line with `crontab -e`. It holds no secret: they are found as configured."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations.crontab import crontab_line

    schedule = parse_cron(cron)
    loaded = load_settings(options)
    installation_folder(loaded)  # raises where the host or the account is not configured
    rotation = [rotate_token.NAME, "--if-needed", "--lock-wait", str(_LOCK_WAIT)]
    target = chain.from_iterable(_from_anywhere(options, loaded).target)
    line = crontab_line(schedule.expression, [*rotation, *target], _environment(options, loaded))
    warnings = _missing_secrets(options, loaded.settings)
    reporter = options.reporter
    for warning in warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if options.json:
        document = {"schema": 1, "verb": NAME, "outcome": "done", "line": line, "words": schedule.words}
        reporter.data(document | {"warnings": warnings})
    reporter.line(line)
    return EXIT_DONE


def _from_anywhere(options: TargetOptions, loaded: LoadedSettings) -> TargetOptions:
    """Options that lead to this installation from anywhere: absolute, and without this shell's environment."""
    settings = loaded.settings
    found: dict[str, Any] = {}
    for name, path, value in (
        ("hostname", "platform.hostname", settings.platform.hostname),
        ("username", "account.username", settings.account.username),
        ("session", "platform.session", settings.platform.session),
    ):
        elsewhere = not loaded.sources.get(path, "default").startswith(("file", "profile", "default"))
        known = elsewhere and value and not (options.sandbox and getattr(options, name) is None)
        found[name] = value if known else None
    return replace(options, config=_absolute(loaded.path) if loaded.path is not None else None, **found)


def _environment(options: TargetOptions, loaded: LoadedSettings) -> dict[str, str]:
    """What this shell's environment adds to the configuration and is no secret."""
    from mlflow_ae5_deploy.config.environment import CA_VARIABLE, NAMES, STATE_VARIABLE
    from mlflow_ae5_deploy.config.state_dir import state_root

    environ, found = os.environ, dict[str, str]()
    if environ.get(STATE_VARIABLE) or environ.get("XDG_STATE_HOME"):
        found[STATE_VARIABLE] = str(_absolute(state_root(loaded.settings, environ)))
    if options.sandbox:
        return found
    told = (STATE_VARIABLE, "AE5_HOSTNAME", "AE5_USERNAME")  # as options
    for name in NAMES:
        if (raw := environ.get(name.variable)) and name.kind != "reference" and name.variable not in told:
            found[name.variable] = str(_absolute(Path(raw))) if name.variable.endswith("_PATH") else raw
    if bundle := environ.get(CA_VARIABLE):
        found[CA_VARIABLE] = str(_absolute(Path(bundle)))
    return found


def _missing_secrets(options: TargetOptions, settings: Settings) -> list[str]:
    """What cron's run could not follow: its environment is empty, and nobody answers a question."""
    found = [
        f"{where} is {reference}, which a run by cron does not have. Put the value into a file of mode 0600 and refer "
        "to it with file:PATH."
        for where, reference in _references(settings, sandbox=options.sandbox)
        if reference is not None and reference.kind in ("env", "prompt")
    ]
    if not options.sandbox:
        found += [
            f"{name} is set here, and a run by cron does not have it. Set it in a file that cron's shell reads."
            for name in ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
            if os.environ.get(name)
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


def _absolute(path: Path) -> Path:
    """Links are kept: the file may be a mounted one."""
    return Path.cwd() / path
