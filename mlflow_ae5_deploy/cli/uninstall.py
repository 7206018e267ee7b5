"""uninstall: take the server down; data, account and archive stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.changing import LockWait, Yes, changing
from mlflow_ae5_deploy.cli.wiring import Choices, reporter_for
from mlflow_ae5_deploy.errors import EXIT_DONE, Conflict, PartlyDone

if TYPE_CHECKING:
    from mlflow_ae5_deploy.operations.uninstall import Removed, There
    from mlflow_ae5_deploy.report.console import Reporter
    from mlflow_ae5_deploy.runbook.context import Context
    from mlflow_ae5_deploy.runbook.model import Action

NAME = "uninstall"
HELP = "Remove job, runs, deployment and project after listing them; keeps data, account and the project's archive."

PurgeSecrets = Annotated[
    bool, typer.Option("--purge-secrets", help="Delete the secrets too, of the service account and of consumers.")
]


def command(
    config: options.Config = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    purge_secrets: PurgeSecrets = False,
    yes: Yes = False,
    hostname: options.Hostname = None,
    username: options.Username = None,
    session: options.SessionKind = None,
    lock_wait: LockWait = 0.0,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Asks before it does anything. Running it again says that nothing is left."""
    choices = Choices(config, profile, sandbox, json, hostname, username, session, traceback=traceback)
    reporter = reporter_for(choices)
    try:
        with changing(choices, reporter, verb=NAME, lock_wait=lock_wait, agreed=yes) as context:
            reporter.doing(NAME)
            document = _uninstall(reporter, context, purge=purge_secrets)
        if json:
            reporter.data(document)
    finally:
        reporter.close()
    return EXIT_DONE


def _uninstall(reporter: Reporter, context: Context, *, purge: bool) -> dict[str, Any]:
    from mlflow_ae5_deploy.operations import uninstall

    there = uninstall.observe(context, purge=purge)
    actions = uninstall.plan(there, purge=purge)
    stays = uninstall.kept(context, there, purge=purge)
    trouble = [c for c in there.consumers if c.trouble]
    document = {"schema": 1, "verb": NAME, "outcome": "unchanged", "removed": [], "kept": stays, "kept_archive": None}
    if not actions and not trouble:
        context.memory.forget_deployment()
        reporter.hanging("", _nothing(there))
        return document
    for item in stays:
        reporter.note(f"This stays: {item}.")
    if actions and not context.wishes.consent(actions):
        raise _declined(actions)
    removed = uninstall.carry_out(context, there, purge=purge)
    for action in actions:
        reporter.hanging("+ ", action.phrase, "cyan")
    _end(reporter, removed)
    return document | {
        "outcome": "changed",
        "removed": [action.target for action in actions],
        "kept_archive": str(removed.kept) if removed.kept else None,
        "warnings": removed.warnings,
    }


def _end(reporter: Reporter, removed: Removed) -> None:
    for warning in removed.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if removed.kept is not None:
        reporter.line(f"The project's archive is kept: {removed.kept}")
        reporter.hanging("", f"`install --release {removed.kept}` brings it back, on the same data.")
    if removed.left:
        raise PartlyDone(
            f"The secrets of {len(removed.left)} consumers could not be deleted.",
            where="consumers",
            detail="\n".join(f"- {line}" for line in removed.left),
        )
    reporter.line("The server is uninstalled.", style="bold")


def _nothing(there: There) -> str:
    if there.secrets:
        return f"Nothing is left but the secrets {', '.join(there.secrets)}; --purge-secrets deletes them."
    return "Nothing is left of this installation."


def _declined(actions: list[Action]) -> Conflict:
    return Conflict(
        f"Uninstalling was not agreed to; {len(actions)} things would go.",
        where="uninstall",
        remedy="Nothing was changed. If you want it, run this again with --yes.",
        detail="\n".join(f"- {action.phrase}" for action in actions),
    )
