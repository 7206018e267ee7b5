"""rotate-token: a new token, proved and stored for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.context import SharedOptions, opened, reporter_for
from mlflow_ae5_deploy.cli.locked_run import LockWait, Yes, asking
from mlflow_ae5_deploy.common.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "rotate-token"
HELP = "Issue a token, prove it, store it for the service account and every consumer, prove the gc job with it."

Restart = Annotated[
    bool,
    typer.Option("--restart", help="Restart the server first. Causes downtime and invalidates all tokens; asks first."),
]
IfNeeded = Annotated[
    bool, typer.Option("--if-needed", help="Do nothing if the stored token is of the running deployment. For cron.")
]
All = Annotated[
    bool, typer.Option("--all", help="A new token for everybody, also if an earlier rotation left only some.")
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    restart: Restart = False,
    if_needed: IfNeeded = False,
    everyone: All = False,
    yes: Yes = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """The manual wants a new token after every restart of the server. This is it, in one command."""
    from mlflow_ae5_deploy.common.errors import Usage
    from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions

    if if_needed and (restart or everyone):
        raise Usage("--if-needed excludes --restart and --all.", remedy="Leave one of them out.")
    choices = SharedOptions(config, profile, sandbox, json, hostname, username, session, traceback=traceback)
    reporter = reporter_for(choices)
    try:
        return _rotate(choices, reporter, RotationOptions(restart, if_needed, everyone), lock_wait, agreed=yes)
    finally:
        reporter.close()


def _rotate(
    choices: SharedOptions, reporter: Reporter, wish: RotationOptions, lock_wait: float, *, agreed: bool
) -> int:
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.lock import InstallationLock
    from mlflow_ae5_deploy.operations.rotate_token import rotate
    from mlflow_ae5_deploy.render.rotate_token import rotation_data, tell

    def wishes(_loaded: LoadedSettings) -> RunOptions:
        return RunOptions(consent=asking(reporter, agreed=agreed))

    with opened(choices, reporter, verb=NAME, wishes=wishes, for_cron=wish.if_needed) as context:
        lock = InstallationLock(context.folder, context.clock, verb=NAME)
        with lock.held(lock_wait):
            context.memory.refresh()

            def step(name: str) -> None:
                lock.at_stage(name)
                reporter.doing(f"{NAME}: {name}")

            result = rotate(context, wish, step)
        now = context.clock.now()
        if choices.json_mode:
            reporter.data(rotation_data(NAME, result, now))
        tell(reporter, result, now)
        if result.error is not None:
            reporter.error(result.error)
    return result.error.exit_code if result.error else EXIT_DONE
