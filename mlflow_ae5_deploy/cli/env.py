"""env: what a client needs to use the server, as shell lines."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.verify import running
from mlflow_ae5_deploy.cli.wiring import Choices, opened, reporter_for
from mlflow_ae5_deploy.errors import EXIT_DONE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.runbook.context import Wishes

NAME = "env"
HELP = "Print what a client needs, as `export` lines for a shell; the token only with --show-token."

ShowToken = Annotated[
    bool, typer.Option("--show-token", help="Issue a new token and print it. The output is then a secret.")
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    show_token: ShowToken = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """For instance: eval "$(mlflow-ae5-deploy env --show-token)"."""
    from mlflow_ae5_deploy.cli.closing import installed_facts
    from mlflow_ae5_deploy.runbook.context import Wishes

    choices = Choices(config, profile, sandbox, json, hostname, username, session, traceback=traceback)
    reporter = reporter_for(choices)

    def wishes(_loaded: LoadedSettings) -> Wishes:
        return Wishes(dry=not show_token)

    try:
        with opened(choices, reporter, verb=NAME, wishes=wishes) as context:
            deployment_id, context.found.url = running(context)
            token = context.token_for(deployment_id) if show_token else None
            environment = installed_facts(context).client_environment()
            if token is not None:
                environment["MLFLOW_TRACKING_TOKEN"] = token.reveal()
    finally:
        reporter.close()
    # Written without the scrubber: a token stands here only because it was asked for.
    if json:
        import json as encoder

        sys.stdout.write(encoder.dumps({"schema": 1, "verb": NAME, "environment": environment}, indent=2) + "\n")
    else:
        for name, value in environment.items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        if token is None:
            sys.stdout.write("# MLFLOW_TRACKING_TOKEN: add --show-token to have one issued and printed\n")
    return EXIT_DONE
