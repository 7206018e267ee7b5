"""release: the release that comes with this tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.options import CommonOptions, Yes, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE

ABOUT = "A folder with an exported release is a mirror, for machines without access to the internet."
EXAMPLES = {"release export mirror/": "Write archive and checksum to a folder"}

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write to, such as a mirror.")]


@examples(
    {
        "release export": "Write archive and checksum to this folder",
        "release export mirror/": "Write them to a mirror",
    }
)
def export(
    options: CommonOptions,
    folder: Folder = Path(),
    yes: Yes = False,
) -> int:
    """Also writes its SHA-256. To install from there, set `release.mirror` to the folder and `release.source` to the
    version.
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
    reporter.copied(f"  SHA-256  {exported.sha256}")
    reporter.line(f"Use it with `--release {exported.archive}`, or put both files on a mirror.")
    return EXIT_DONE


COMMANDS = {"export": export}
