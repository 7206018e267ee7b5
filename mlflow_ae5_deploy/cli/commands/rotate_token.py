"""rotate-token: issue, test and store a new token."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import consent, locked, opened
from mlflow_ae5_deploy.cli.options import WriteOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

NAME = "rotate-token"

Restart = Annotated[
    bool,
    typer.Option("--restart", help="Restart the server first. Causes downtime, invalidates all tokens."),
]
IfNeeded = Annotated[
    bool, typer.Option("--if-needed", help="Only if the stored token is not of the running deployment. For cron.")
]
All = Annotated[
    bool, typer.Option("--all", help="Renew every stored token, also those that an interrupted run has renewed.")
]


@examples(
    {
        "rotate-token": "Store a new token",
        "rotate-token --restart": "Invalidate all tokens first, after a leak",
        "rotate-token --if-needed --lock-wait 300": "From cron, see `schedule-rotation`",
    }
)
def command(
    options: WriteOptions,
    restart: Restart = False,
    if_needed: IfNeeded = False,
    everyone: All = False,
) -> int:
    """Stores it for the service account and every consumer. Needed after every restart of the server."""
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.operations.rotate_token import rotate
    from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions
    from mlflow_ae5_deploy.render.rotate_token import rotation_data, show_rotation

    if if_needed and (restart or everyone):
        raise Usage("--if-needed excludes --restart and --all.", remedy="Leave one out.")
    reporter = options.reporter
    with opened(options, NAME, RunOptions(consent=consent(options)), for_cron=if_needed) as context:
        with locked(options, NAME, context) as lock:

            def step(name: str) -> None:
                lock.at_stage(name)
                reporter.doing(f"{NAME}: {name}")

            result = rotate(context, RotationOptions(restart, if_needed, everyone), step)
        now = context.clock.now()
        if options.json:
            document = rotation_data(NAME, result, now)
            reporter.data(document | {"warnings": [*document["warnings"], *context.outputs.warnings]})
        show_rotation(reporter, result, now)
        if result.error is not None:
            reporter.error(result.error)
    return result.error.exit_code if result.error else EXIT_DONE
