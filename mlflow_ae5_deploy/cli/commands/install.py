"""install: make all 14 stages true."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, reporter_for
from mlflow_ae5_deploy.cli.locked_run import LockWait, ReplaceKeys, Yes
from mlflow_ae5_deploy.cli.stages_run import run_all

NAME = "install"
HELP = "Install the tracking server: run the 14 stages, each changing only what is not yet so."

Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a project of the same name that has other content (downtime).")
]
Restore = Annotated[
    str | None,
    typer.Option("--restore", help="Bring back this snapshot (an id, or latest) before the server first starts."),
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    release: options.Release = None,
    create_account: options.CreateAccount = False,
    replace: Replace = False,
    restore: Restore = None,
    replace_keys: ReplaceKeys = False,
    yes: Yes = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    database: options.Database = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Make all 14 stages true."""
    from mlflow_ae5_deploy.cli.snapshot_options import checked_snapshot
    from mlflow_ae5_deploy.engine.context import RestoreRequest

    recovery = RestoreRequest(snapshot=checked_snapshot(restore, "--restore")) if restore is not None else None
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, release, database, traceback)
    reporter = reporter_for(choices)
    try:
        return run_all(
            NAME,
            choices,
            reporter,
            create=create_account,
            agreed=yes,
            agreed_to=("replace",) if replace else (),
            lock_wait=lock_wait,
            recovery=recovery,
            replace_keys=replace_keys,
        )
    finally:
        reporter.close()
