"""uninstall: delete the server and its project; save the archive."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from mlflow_ae5_deploy.cli.context import can_ask, consent, locked, opened
from mlflow_ae5_deploy.cli.options import WriteOptions, examples
from mlflow_ae5_deploy.common.errors import EXIT_DONE

NAME = "uninstall"

PurgeSecrets = Annotated[
    bool, typer.Option("--purge-secrets", help="Also delete the secrets of the service account and the consumers.")
]
Force = Annotated[bool, typer.Option("--force", help="Ignore an operation of another machine that seems unfinished.")]


@examples(
    {
        "uninstall": "Show what would be deleted, then ask",
        "uninstall --yes --purge-secrets": "Delete the secrets too, without a question",
    }
)
def command(options: WriteOptions, purge_secrets: PurgeSecrets = False, force: Force = False) -> int:
    """Causes downtime. Safe to re-run."""
    from mlflow_ae5_deploy.cli.next_steps import program
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded
    from mlflow_ae5_deploy.operations import uninstall
    from mlflow_ae5_deploy.render.uninstall import QUESTION, show_plan, show_uninstalled, write_document

    reporter = options.reporter
    show = functools.partial(show_plan, reporter)
    with opened(options, NAME, RunOptions(consent=consent(options, shown=True, question=QUESTION))) as context:
        reporter.doing(NAME)
        confirmed = None
        if not options.yes and can_ask(options):
            confirmed = uninstall.confirm(context, show, purge=purge_secrets, force=force)
        with locked(options, NAME, context, break_lock=force), recorded(context):
            reporter.doing(NAME)
            result = uninstall.uninstall(context, confirmed, show, purge=purge_secrets, force=force)
            show_uninstalled(reporter, result, program())
            uninstall.require(result)
    write_document(reporter, result)
    return EXIT_DONE
