"""restore: bring a snapshot back, then the rest of the runbook, ending in a proof from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import consent, locked, opened
from mlflow_ae5_deploy.cli.jobs import run_task
from mlflow_ae5_deploy.cli.options import CreateAccount, ReleaseWriteOptions, ReplaceKeys, Snapshot, Wait
from mlflow_ae5_deploy.cli.snapshot_values import checked_kept, checked_snapshot
from mlflow_ae5_deploy.cli.stages import follow, run_all
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage
from mlflow_ae5_deploy.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_ae5_deploy.engine.context import RestoreRequest
    from mlflow_ae5_deploy.engine.stage import AnyStage, RunResult

NAME = "restore"

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check every object, say what would be written (or, with --undo, come back).")
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Keep the data that is there aside instead of refusing; see --undo.")
]
Undo = Annotated[bool, typer.Option("--undo", help="Bring back what the last restore kept aside; see also --saved.")]
Kept = Annotated[
    str | None,
    typer.Option(
        "--saved", metavar="NAME", help="With --undo: bring back what is kept under that name; see --list-saved."
    ),
]
ListSaved = Annotated[bool, typer.Option("--list-saved", help="Name what restores keep aside; change nothing.")]
DropSaved = Annotated[
    str | None,
    typer.Option(
        "--drop-saved", metavar="NAME", help="Show what is kept aside under that name; with --yes remove it for good."
    ),
]
ShortenText = Annotated[
    bool,
    typer.Option(
        "--shorten-text",
        help="Shorten free text that the database cannot keep; --dry-run lists it. Never names or ids.",
    ),
]
StopServer = Annotated[bool, typer.Option("--stop-server", help="Stop a server that runs on the data; asks first.")]


def command(
    options: ReleaseWriteOptions,
    snapshot: Snapshot = None,
    dry_run: DryRun = False,
    replace: Replace = False,
    undo: Undo = False,
    kept: Kept = None,
    list_saved: ListSaved = False,
    drop_saved: DropSaved = None,
    stop_server: StopServer = False,
    shorten_text: ShortenText = False,
    wait: Wait = 14400.0,
    create_account: CreateAccount = False,
    replace_keys: ReplaceKeys = False,
) -> int:
    """Interrupted anywhere, run it again: it goes on."""
    from mlflow_ae5_deploy.engine.context import RestoreRequest

    others = snapshot is not None or dry_run or replace or stop_server or shorten_text or options.release is not None
    if list_saved or drop_saved is not None:
        if others or undo or kept is not None or (list_saved and drop_saved is not None):
            raise Usage("--list-saved and --drop-saved restore nothing.", remedy="Leave the other options out.")
        task = tasks.list_saved() if drop_saved is None else tasks.drop_saved(checked_kept(drop_saved), act=options.yes)
        return run_task(NAME, task, options, wait=wait)
    if undo and (snapshot is not None or replace or shorten_text):
        raise Usage("--undo goes with none of --snapshot, --replace and --shorten-text.", remedy="Leave those out.")
    if kept is not None and not undo:
        raise Usage("--saved names what --undo brings back.", remedy="Add --undo.")
    if dry_run and stop_server:
        raise Usage("A dry run stops no server.", remedy="Leave --stop-server out.")
    named = None if kept is None else checked_kept(kept, "--saved")
    recovery = RestoreRequest(checked_snapshot(snapshot), replace, undo, stop_server, wait, named, shorten_text)
    if dry_run:
        return _rehearse(options, recovery, create_account=create_account, replace_keys=replace_keys)
    return run_all(NAME, options, create_account=create_account, recovery=recovery, replace_keys=replace_keys)


def _rehearse(
    options: ReleaseWriteOptions, recovery: RestoreRequest, *, create_account: bool, replace_keys: bool
) -> int:
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.operations import restore
    from mlflow_ae5_deploy.render.backup import run_data, show
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    reporter = options.reporter
    run_options = RunOptions(consent=consent(options), replace_keys=replace_keys)
    with opened(options, NAME, run_options, create_account=create_account) as context:
        follow(context, reporter)

        def prepare(stages: Sequence[AnyStage]) -> RunResult:
            reporter.line("There is no project whose job could look, so it is made first")
            return run(stages, context, on_stage=reporter.stage_begins, on_result=reporter.stage_ends)

        with locked(options, NAME, context):
            reporter.doing("restore dry run")
            job_result = restore.rehearse(context, recovery, STAGES, prepare)
    show(reporter, job_result)
    if options.json:
        reporter.data(run_data(NAME, "dry-run", job_result, None))
    return EXIT_DONE
