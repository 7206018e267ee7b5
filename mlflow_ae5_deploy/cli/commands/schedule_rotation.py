"""schedule-rotation: print the crontab line that rotates the token when needed."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import load_settings
from mlflow_ae5_deploy.cli.installation import installation_folder
from mlflow_ae5_deploy.cli.options import TargetOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "schedule-rotation"

Cron = Annotated[str, typer.Option("--cron", metavar="CRON", help="When to check, in the time zone of this machine.")]
_LOCK_WAIT = 300  # seconds a rotation by cron waits for another run


@examples(
    {
        "schedule-rotation": "Print the line; add it with `crontab -e`",
        "schedule-rotation --cron '30 3 * * *'": "Check once a day",
    }
)
def command(options: TargetOptions, cron: Cron = "*/10 * * * *") -> int:
    """The line holds no secrets, only references to them. Needs no connection."""
    from mlflow_ae5_deploy.common.cron import parse_cron
    from mlflow_ae5_deploy.operations import schedule_rotation as operation

    schedule = parse_cron(cron)
    loaded = load_settings(options, start=False)
    if not options.sandbox:
        installation_folder(loaded)  # raises where the host or the account is not configured
    overridden = operation.overridden_settings(loaded)
    if options.sandbox:  # which has a host of its own
        overridden = {name: value for name, value in overridden.items() if getattr(options, name) is not None}
    config = operation.absolute(loaded.path) if loaded.path is not None else None
    settings: dict[str, Any] = {"hostname": None, "username": None, "session": None, **overridden}
    target = chain.from_iterable(replace(options, config=config, **settings).target)
    line = operation.crontab_line(
        schedule.expression,
        ["rotate-token", "--if-needed", "--lock-wait", str(_LOCK_WAIT), *target],
        operation.environment_of_cron(loaded, os.environ, sandbox=options.sandbox),
    )
    warnings = operation.unreachable_secrets(loaded.settings, os.environ, sandbox=options.sandbox)
    reporter = options.reporter
    for warning in warnings:
        reporter.warning(warning)
    reporter.document(NAME, line=line, words=schedule.words, warnings=warnings)
    reporter.copied(line)
    return EXIT_DONE
