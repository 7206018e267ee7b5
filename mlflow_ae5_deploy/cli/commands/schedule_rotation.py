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

NAME = "schedule-rotation"

Cron = Annotated[str, typer.Option("--cron", help="When to look, as cron, in the time zone of this machine.")]
_LOCK_WAIT = 300  # seconds a rotation by cron waits for somebody at work


def command(
    options: TargetOptions,
    cron: Cron = "*/10 * * * *",
) -> int:
    """Needs no connection. Add the line with `crontab -e`. It holds no secret: they are found as configured."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations.schedule_rotation import crontab_line, unreachable_secrets

    schedule = parse_cron(cron)
    loaded = load_settings(options)
    installation_folder(loaded)  # raises where the host or the account is not configured
    rotation = [rotate_token.NAME, "--if-needed", "--lock-wait", str(_LOCK_WAIT)]
    target = chain.from_iterable(_from_anywhere(options, loaded).target)
    line = crontab_line(schedule.expression, [*rotation, *target], _environment(options, loaded))
    warnings = unreachable_secrets(loaded.settings, os.environ, sandbox=options.sandbox)
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


def _absolute(path: Path) -> Path:
    """Links are kept: the file may be a mounted one."""
    return Path.cwd() / path
