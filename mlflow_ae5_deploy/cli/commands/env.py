"""env: the environment variables of a client, in several formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.context import opened
from mlflow_ae5_deploy.cli.options import TargetOptions, Yes, choice, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage
from mlflow_ae5_deploy.common.variable_names import CERTIFICATE, TOKEN

NAME = "env"

ShowToken = Annotated[
    bool, typer.Option("--show-token", help="Issue a token and print it. The output is then a secret.")
]
Format = Annotated[
    str | None,
    choice(
        "--format",
        completion.FORMATS,
        "-f",
        metavar="FORMAT",
        help="shell, dotenv, python, notebook, conda or json. Default: shell.",
    ),
]


@examples(
    {
        "env --show-token": "Print address and a new token for a shell",
        "env --format notebook": "Print a notebook cell",
        "env --format dotenv > mlflow.env": "Write a file for tools that read .env files",
    }
)
def command(options: TargetOptions, format_: Format = None, show_token: ShowToken = False, yes: Yes = False) -> int:
    """To set them in the current shell: eval "$(mlflow-ae5-deploy env --show-token)"."""
    from mlflow_ae5_deploy.cli.next_steps import installed_state, program
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded
    from mlflow_ae5_deploy.render.env import FORMATS, PIPED
    from mlflow_ae5_deploy.resources.deployment import required_running

    form = _form(format_, json=options.json)
    options = replace(options, json=form == "json")
    reporter = options.reporter
    with opened(options, NAME, RunOptions(dry=not show_token)) as context:
        deployment_id, context.outputs.url = required_running(context)
        with recorded(context):
            token = context.token_for(deployment_id) if show_token else None
        environment = installed_state(context).client_environment()
        if token is not None:
            environment[TOKEN] = token.reveal()
        else:
            reporter.note("Without a token, the server rejects a client as `Unauthorized`: add --show-token.")
        if CERTIFICATE in environment:
            reporter.note(
                f"{CERTIFICATE} is a file on this machine. Clients on other machines need a copy of it, and "
                "its path there in this variable."
            )
    again = f"{program()} {reporter.command(PIPED.removeprefix('... '))}"
    reporter.as_it_is(FORMATS[form](environment).replace(PIPED, again))
    return EXIT_DONE


def _form(given: str | None, *, json: bool) -> str:
    if json and given not in (None, "json"):
        raise Usage(f"--json and --format {given} exclude each other.", remedy="Leave one out.")
    return "json" if json else given or "shell"
