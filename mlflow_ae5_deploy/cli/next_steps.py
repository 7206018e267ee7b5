"""After an install or a plan: where the installation is, and the next commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli.options import TargetOptions
from mlflow_ae5_deploy.common.text import PROGRAM, with_target
from mlflow_ae5_deploy.render.install import Installed, replaced_release, server_changed

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.engine.stage import RunResult


def program() -> str:
    """How the reader can call this program: by name where it is on the PATH, else as it was called now."""
    if shutil.which(PROGRAM):
        return PROGRAM
    called = Path(sys.argv[0])
    return shlex.quote(str(called)) if called.name == PROGRAM else f"{shlex.quote(sys.executable)} -m mlflow_ae5_deploy"


def installed_state(context: Context) -> Installed:
    from mlflow_ae5_deploy.resources import encryption_keys as keys

    settings, deployment = context.settings, context.outputs.deployment
    ca_file = settings.platform.ca_file
    return Installed(
        host=context.access.target.options.hostname,
        account=context.account,
        project=settings.project.name,
        deployment=settings.deployment.name,
        deployment_id=deployment.id if deployment else None,
        url=context.outputs.url,
        ca_file=str(ca_file.resolve()) if ca_file else None,
        kept_archives=tuple(str(path) for path in context.outputs.kept_archives),
        key_file=str(keys.path(context)) if keys.path(context).exists() else None,
        new_keys=context.outputs.keys_made,
        downtime_seconds=None if context.outputs.downtime is None else round(context.outputs.downtime, 1),
    )


def next_steps(options: TargetOptions, result: RunResult, *, create_account: bool = False) -> list[str]:
    """Commands to paste. create_account: --create-account was given."""
    name = program()

    def command(words: str) -> str:
        return f"{name} {with_target(words, options.target)}"

    if result.pending and replaced_release(result):
        return [
            f"{command('upgrade')}   # replace the release, with automatic rollback",
            f"{command('install')}   # replace it without a rollback",
        ]
    if result.pending:
        return [command(f"install{' --create-account' if create_account else ''}")]
    if not server_changed(result):
        return []
    return [
        f"{command('verify')}   # test the server as a client",
        f'eval "$({command("env --show-token")})"   # connect this shell, with a token',
        *([f"{name} sandbox status   # how to sign in"] if options.sandbox else []),
    ]
