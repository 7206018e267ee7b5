"""init: write the annotated configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "init"
HELP = "Write an annotated configuration file."

Target = Annotated[Path, typer.Argument(help="File to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def command(
    path: Target = Path("mlflow-ae5-deploy.yaml"),
    hostname: options.Hostname = None,
    username: options.Username = None,
    force: Force = False,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """The file holds no secret, only references to where secrets are."""
    from mlflow_ae5_deploy.config.initial import write_initial
    from mlflow_ae5_deploy.render.console import Reporter

    write_initial(path, hostname=hostname, username=username, force=force)
    reporter = Reporter(json_mode=json)
    if json:
        reporter.data({"schema": 1, "verb": NAME, "outcome": "done", "path": str(path)})
    reporter.line(f"Wrote {path}, every setting with its default and what it means.")
    reporter.line(f"Next: edit it, then `mlflow-ae5-deploy plan --config {path}`.")
    return EXIT_DONE
