"""install: install or update the server."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_ae5_deploy.cli import completion
from mlflow_ae5_deploy.cli.options import CreateAccount, ReleaseWriteOptions, ReplaceKeys, examples
from mlflow_ae5_deploy.cli.stages import run_all

NAME = "install"

Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a project of the same name with other content. Causes downtime.")
]
Restore = Annotated[
    str | None,
    typer.Option(
        "--restore",
        metavar="SNAPSHOT",
        autocompletion=completion.snapshots,
        help="Restore this snapshot, or latest, before the server first starts.",
    ),
]


@examples(
    {
        "install --sandbox": "Install on the sandbox",
        "install --config ae5.yaml": "Install on a cluster",
        "install --release 1.2.0 --replace": "Replace the installed release; `upgrade` also backs up",
    }
)
def command(
    options: ReleaseWriteOptions,
    create_account: CreateAccount = False,
    replace: Replace = False,
    restore: Restore = None,
    replace_keys: ReplaceKeys = False,
) -> int:
    """Runs 14 stages. Each changes only what differs from the configuration, and asks before it causes downtime."""
    from mlflow_ae5_deploy.cli.sandbox_up import announce_first_install
    from mlflow_ae5_deploy.engine.context import RestoreRequest
    from mlflow_ae5_deploy.resources.project import ReplaceProject

    if options.sandbox:
        announce_first_install(options.reporter)
    request = None
    if restore is not None:
        from mlflow_ae5_deploy.cli.snapshot_values import checked_snapshot

        request = RestoreRequest(snapshot=checked_snapshot(restore, "--restore"))
    return run_all(
        NAME,
        options,
        create_account=create_account,
        consent_options={ReplaceProject: "--replace"},
        agreed_to=(ReplaceProject,) if replace else (),
        restore=request,
        replace_keys=replace_keys,
    )
