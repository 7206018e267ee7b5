"""restore: restore a snapshot, then run the rest of the runbook, which ends with verification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import consent, locked, opened
from mlflow_ae5_deploy.cli.jobs import run_task
from mlflow_ae5_deploy.cli.options import CreateAccount, ReleaseWriteOptions, ReplaceKeys, Snapshot, Wait, examples
from mlflow_ae5_deploy.cli.snapshot_values import checked_saved_copy, checked_snapshot
from mlflow_ae5_deploy.cli.stages import run_all, run_stages
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage
from mlflow_ae5_deploy.jobs import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_ae5_deploy.engine.context import RestoreRequest
    from mlflow_ae5_deploy.engine.stage import AnyStage, RunResult

NAME = "restore"

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check every object and report what would change.")]
Replace = Annotated[bool, typer.Option("--replace", help="Move existing data to a saved copy first; see --undo.")]
Undo = Annotated[bool, typer.Option("--undo", help="Bring back the saved copy of the last restore.")]
Saved = Annotated[
    str | None,
    typer.Option("--saved", metavar="NAME", help="With --undo: the saved copy to bring back."),
]
ListSaved = Annotated[bool, typer.Option("--list-saved", help="List the saved copies.")]
DropSaved = Annotated[
    str | None,
    typer.Option("--drop-saved", metavar="NAME", help="Show a saved copy; with --yes, delete it permanently."),
]
ShortenText = Annotated[
    bool,
    typer.Option(
        "--shorten-text",
        help="Shorten free text that is too long for the database; see --dry-run.",
    ),
]
StopServer = Annotated[
    bool, typer.Option("--stop-server", help="Stop a server that runs on the data. Causes downtime.")
]


@examples(
    {
        "restore --dry-run": "Check the latest snapshot, and change nothing",
        "restore --replace --stop-server": "Restore it over the data of a running server",
        "restore --undo --stop-server": "Bring back the data from before that",
    }
)
def command(
    options: ReleaseWriteOptions,
    snapshot: Snapshot = None,
    dry_run: DryRun = False,
    replace: Replace = False,
    undo: Undo = False,
    saved: Saved = None,
    list_saved: ListSaved = False,
    drop_saved: DropSaved = None,
    stop_server: StopServer = False,
    shorten_text: ShortenText = False,
    wait: Wait = 14400.0,
    create_account: CreateAccount = False,
    replace_keys: ReplaceKeys = False,
) -> int:
    """Refuses existing data without --replace, and a running server without --stop-server.

    Ends with `verify`. To resume after an interruption, run it again.
    """
    from mlflow_ae5_deploy.engine.context import RestoreRequest

    others = snapshot is not None or dry_run or replace or stop_server or shorten_text or options.release is not None
    if list_saved or drop_saved is not None:
        if others or undo or saved is not None or (list_saved and drop_saved is not None):
            raise Usage("--list-saved and --drop-saved take no other options of `restore`.", remedy="Leave those out.")
        if drop_saved is None:
            return run_task(NAME, tasks.list_saved(), options, wait=wait, recorded_as=f"{NAME} --list-saved")
        task = tasks.drop_saved(checked_saved_copy(drop_saved), act=options.yes)
        return run_task(
            NAME, task, options, wait=wait, recorded_as=f"{NAME} --drop-saved{' --yes' if options.yes else ''}"
        )
    if undo and (snapshot is not None or replace or shorten_text):
        raise Usage("--undo excludes --snapshot, --replace and --shorten-text.", remedy="Leave those out.")
    if saved is not None and not undo:
        raise Usage("--saved requires --undo.", remedy="Add --undo.")
    if dry_run and stop_server:
        raise Usage(
            "--dry-run and --stop-server exclude each other: a dry run changes nothing.", remedy="Leave one out."
        )
    restore = RestoreRequest(
        checked_snapshot(snapshot),
        replace=replace,
        undo=undo,
        stop_server=stop_server,
        wait=wait,
        saved_copy=None if saved is None else checked_saved_copy(saved, "--saved"),
        shorten_text=shorten_text,
    )
    recorded_as = f"{NAME} --undo" if undo else NAME
    if dry_run:
        verb = f"{recorded_as} --dry-run"
        return _dry_run(verb, options, restore, create_account=create_account, replace_keys=replace_keys)
    return run_all(
        NAME,
        options,
        create_account=create_account,
        restore=restore,
        replace_keys=replace_keys,
        recorded_as=recorded_as,
    )


def _dry_run(
    verb: str, options: ReleaseWriteOptions, request: RestoreRequest, *, create_account: bool, replace_keys: bool
) -> int:
    """verb: for the journal."""
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import recorded
    from mlflow_ae5_deploy.operations import restore_dry_run
    from mlflow_ae5_deploy.render.backup import run_data, show
    from mlflow_ae5_deploy.runbook.stages.order import STAGES

    reporter = options.reporter
    run_options = RunOptions(consent=consent(options), replace_keys=replace_keys)
    with opened(options, verb, run_options, create_account=create_account) as context:

        def prepare(stages: Sequence[AnyStage]) -> RunResult:
            reporter.line("There is no project to run the job in; it is uploaded first")
            return run_stages(context, reporter, stages)

        with locked(options, verb, context), recorded(context):
            reporter.doing("restore dry run")
            job_result = restore_dry_run.run(context, request, STAGES, prepare)
    show(reporter, job_result, context.clock.now())
    reporter.document(NAME, **run_data(job_result, context.outputs.warnings))
    return EXIT_DONE
