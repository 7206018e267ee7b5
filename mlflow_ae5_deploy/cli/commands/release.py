"""release: the release that comes with this tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.options import CommonOptions, Yes, command
from mlflow_ae5_deploy.common.errors import EXIT_DONE

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Makes `export` a verb of its own; a single one would be taken for the whole."""


@app.command()
@command
def export(
    options: CommonOptions,
    folder: Annotated[Path, typer.Argument(help="Folder to write to, such as a mirror.")] = Path(),
    yes: Yes = False,
) -> int:
    """Write the bundled release as an archive, with its SHA-256 beside it. Safe to re-run.

    A folder with these files is a mirror: `release.mirror` names it, and `release.source` the version.
    """
    from mlflow_ae5_deploy.common.text import size
    from mlflow_ae5_deploy.release.export import export as write

    exported = write(folder)
    reporter = options.reporter
    reporter.document(
        "release export",
        "unchanged" if exported.unchanged else "done",
        version=exported.version,
        archive=str(exported.archive),
        checksum=str(exported.checksum),
        sha256=exported.sha256,
        bytes=exported.size,
    )
    reporter.line(f"{'Unchanged' if exported.unchanged else 'Exported'}: {exported.archive} ({size(exported.size)})")
    reporter.line(f"  SHA-256  {exported.sha256}")
    reporter.line(f"Use it with `--release {exported.archive}`, or put both files on a mirror.")
    return EXIT_DONE
