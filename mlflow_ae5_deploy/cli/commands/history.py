"""history: the journal, readable."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import load_settings
from mlflow_ae5_deploy.cli.installation import installation_folder
from mlflow_ae5_deploy.cli.options import TargetOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE
from mlflow_ae5_deploy.common.text import counted

NAME = "history"

Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="Show the N newest runs; 0 shows all.")]


@examples(
    {
        "history": "Show the last 20 runs",
        "history -n 0": "Show all",
    }
)
def command(options: TargetOptions, limit: Limit = 20) -> int:
    """Newest first. Reads the journal on this machine. Needs no connection."""
    from mlflow_ae5_deploy.config.state_dir import JOURNAL
    from mlflow_ae5_deploy.operations.history import History, read
    from mlflow_ae5_deploy.render.history import entry_data, show_history

    loaded = load_settings(options, start=False)
    never_ran = options.sandbox and loaded.settings.platform.hostname is None
    path = None if never_ran else installation_folder(loaded) / JOURNAL
    found = History((), 0) if path is None else read(path)
    entries = (found.entries[-limit:] if limit else found.entries)[::-1]
    reporter = options.reporter
    data = [entry_data(entry) for entry in entries]
    reporter.document(
        NAME, journal=None if path is None else str(path), entries=data, unreadable_lines=found.unreadable
    )
    for warning in () if entries else loaded.ignored_on_sandbox:
        reporter.warning(warning)
    show_history(reporter, entries, len(found.entries))
    if found.unreadable:
        reporter.warning(f"{counted(found.unreadable, 'lines')} of {path} cannot be read.")
    return EXIT_DONE
