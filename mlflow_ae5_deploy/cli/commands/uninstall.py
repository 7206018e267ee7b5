"""uninstall: take the server down; data, account and archive stay."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import can_ask, consent, locked, opened
from mlflow_ae5_deploy.cli.next_steps import program
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Conflict, PartlyDone
from mlflow_ae5_deploy.common.text import counted

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.change import Change
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.operations.uninstall import UninstallPlan, UninstallResult
    from mlflow_ae5_deploy.render.console import Reporter

NAME = "uninstall"

PurgeSecrets = Annotated[
    bool, typer.Option("--purge-secrets", help="Delete the secrets too, of the service account and of consumers.")
]

Force = Annotated[
    bool, typer.Option("--force", help="Uninstall although an operation of another machine seems unfinished.")
]


def command(
    options: WriteOptions,
    purge_secrets: PurgeSecrets = False,
    force: Force = False,
) -> int:
    """Asks before it does anything. Running it again says that nothing is left."""
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.journal_frame import recorded

    reporter = options.reporter
    with opened(options, NAME, RunOptions(consent=consent(options))) as context:
        agreed: UninstallPlan | None = None
        if not options.yes and can_ask(options):  # before the lock: nobody else is to wait for the answer
            agreed = _ask(reporter, context, purge=purge_secrets, force=force)
        with locked(options, NAME, context), recorded(context):
            reporter.doing(NAME)
            document = _uninstall(reporter, context, agreed, purge=purge_secrets, force=force)
    if options.json:
        reporter.data(document)
    return EXIT_DONE


def _ask(reporter: Reporter, context: Context, *, purge: bool, force: bool) -> UninstallPlan | None:
    """What a person has agreed to lose, without the lock; what is observed may be another thing once it is held."""
    from mlflow_ae5_deploy.operations import uninstall

    reporter.doing(NAME)
    observed = uninstall.observe(context, purge=purge, force=force)
    changes = uninstall.diff(observed, purge=purge)
    if changes:
        _agree(reporter, context, changes, uninstall.kept(context, observed, purge=purge), again=False)
    context.cached.forget()
    return observed if changes else None


def _agree(reporter: Reporter, context: Context, changes: list[Change], stays: Sequence[str], *, again: bool) -> None:
    from mlflow_ae5_deploy.engine.executor import require_consent

    for item in stays:
        reporter.note(f"This stays: {item}.")
    require_consent(context, changes, where="uninstall", again=again)


def _uninstall(
    reporter: Reporter, context: Context, agreed: UninstallPlan | None, *, purge: bool, force: bool
) -> dict[str, Any]:
    """agreed: what a person has agreed to lose already; whatever else is observed is not touched without a question."""
    from mlflow_ae5_deploy.operations import uninstall

    observed = uninstall.observe(context, purge=purge, force=force)
    changes = uninstall.diff(observed, purge=purge)
    stays = uninstall.kept(context, observed, purge=purge)
    trouble = [c for c in observed.consumers if c.trouble]
    document = {"schema": 1, "verb": NAME, "outcome": "unchanged", "changes": [], "kept": stays, "kept_archive": None}
    if not changes and not trouble:
        context.state.forget_deployment()
        reporter.hanging("", _nothing(observed))
        return document
    if agreed is not None:
        _require_same(observed, agreed, purge=purge)
    else:
        _agree(reporter, context, changes, stays, again=True)
    removed = uninstall.carry_out(context, observed, purge=purge)
    for change in changes:
        reporter.hanging("+ ", change.phrase, "cyan")
    _end(reporter, removed)
    return document | {
        "outcome": "changed",
        "changes": [change.data() for change in changes],
        "kept_archive": str(removed.kept) if removed.kept else None,
        "warnings": removed.warnings,
    }


def _end(reporter: Reporter, removed: UninstallResult) -> None:
    for warning in removed.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if removed.kept is not None:
        reporter.line(f"The project's archive is kept: {removed.kept}")
        command = f"{program()} {reporter.command(shlex.join(['install', '--release', str(removed.kept)]))}"
        reporter.hanging("", f"`{command}` brings it back, on the same data.")
    if removed.left:
        raise PartlyDone(
            f"The secrets of {counted(len(removed.left), 'consumers')} could not be deleted.",
            where="consumers",
            detail="\n".join(f"- {line}" for line in removed.left),
        )
    reporter.line("The server is uninstalled.", style="bold")


def _nothing(observed: UninstallPlan) -> str:
    if observed.secrets:
        return f"Nothing is left but the secrets {', '.join(observed.secrets)}; --purge-secrets deletes them."
    return "Nothing is left of this installation."


def _require_same(observed: UninstallPlan, agreed: UninstallPlan, *, purge: bool) -> None:
    """More or fewer run records are the same thing; what has gone by itself needs no consent."""
    from mlflow_ae5_deploy.operations import uninstall

    known = {change.identity for change in uninstall.diff(agreed, purge=purge)}
    new = [change for change in uninstall.diff(observed, purge=purge) if change.identity not in known]
    if new:
        raise Conflict(
            "There is more to remove than was agreed to: somebody has changed the installation meanwhile.",
            where="uninstall",
            remedy="Nothing was changed. Run this again to see it.",
            detail="\n".join(f"- {change.phrase}" for change in new),
        )
