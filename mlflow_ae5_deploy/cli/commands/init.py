"""init: write the annotated configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.options import CommonOptions, Yes, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "init"

Target = Annotated[Path, typer.Argument(metavar="PATH", help="File to write.")]
Hostname = Annotated[str | None, typer.Option("--hostname", metavar="HOST", help="Fill in platform.hostname.")]
Username = Annotated[str | None, typer.Option("--username", metavar="NAME", help="Fill in account.username.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


@examples(
    {
        "init": "Write mlflow-ae5-deploy.yaml",
        "init ae5.yaml --hostname https://ae5.example.com/": "Write another file, for this platform",
    }
)
def command(
    options: CommonOptions,
    path: Target = Path("mlflow-ae5-deploy.yaml"),
    hostname: Hostname = None,
    username: Username = None,
    force: Force = False,
    yes: Yes = False,
) -> int:
    """Has every setting with its default and its meaning. Holds no secrets, only references to them."""
    from mlflow_ae5_deploy.config.initial import SCHEMA, write_initial

    write_initial(path, hostname=hostname, username=username, force=force)
    reporter = options.reporter
    reporter.document(NAME, path=str(path))
    reporter.line(f"Wrote {path}: every setting with its default and meaning.")
    reporter.line(f"Wrote {path.parent / SCHEMA}: the JSON Schema that editors check it with.")
    reporter.line(f"Next: edit it, then `mlflow-ae5-deploy plan --config {path}`.")
    return EXIT_DONE
