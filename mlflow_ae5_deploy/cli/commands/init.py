"""init: write the annotated configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.options import CommonOptions, Hostname, Username, Yes
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "init"

Target = Annotated[Path, typer.Argument(help="File to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def command(
    options: CommonOptions,
    path: Target = Path("mlflow-ae5-deploy.yaml"),
    hostname: Hostname = None,
    username: Username = None,
    force: Force = False,
    yes: Yes = False,
) -> int:
    """The file holds no secret, only references to where secrets are."""
    from mlflow_ae5_deploy.config.initial import SCHEMA, write_initial

    write_initial(path, hostname=hostname, username=username, force=force)
    reporter = options.reporter
    reporter.document(NAME, path=str(path))
    reporter.line(f"Wrote {path}: every setting with its default and meaning.")
    reporter.line(f"Wrote {path.parent / SCHEMA}: the JSON Schema that editors check it with.")
    reporter.line(f"Next: edit it, then `mlflow-ae5-deploy plan --config {path}`.")
    return EXIT_DONE
