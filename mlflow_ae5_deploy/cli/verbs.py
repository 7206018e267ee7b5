"""The verbs: names, order and help. The module of a verb is imported only where that verb is asked for."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import typer

from mlflow_ae5_deploy.cli.options import command

PROGRAM = "mlflow-ae5-deploy"
# verb -> its help in one line. `cli/commands/` has a module for each, with a function `command`.
VERBS = {
    "init": "Write an annotated configuration file.",
    "plan": "Preview the changes `install` would make.",
    "install": "Install or update the server. Safe to re-run.",
    "status": "Show the installation's health. Exits 0 only if healthy.",
    "doctor": "Run preflight checks and suggest fixes.",
    "verify": "Test the server end to end, as a client would.",
    "rotate-token": "Issue, test and distribute a new access token.",
    "schedule-rotation": "Print a crontab line that rotates the token when needed.",
    "schedule-gc": "Create, change, pause, run or remove the GC schedule.",
    "share": "Show or change who may open the server's web pages.",
    "env": "Print the environment variables a client needs.",
    "open": "Open the server's web pages in a browser.",
    "logs": "Show the log of the server or of a job's run.",
    "history": "Show the operations that were run from this machine.",
    "backup": "Create, verify, list, show, prune or schedule snapshots.",
    "restore": "Restore a snapshot and verify the server. Can be undone.",
    "drill": "Test a snapshot: restore it to a temporary location.",
    "upgrade": "Upgrade to another release, with rollback on failure.",
    "uninstall": "Delete the server and its jobs. Keeps the data.",
    "runbook": "Print the 14 steps as Markdown, with `ae5` commands.",
}
# Modules with verbs of their own, in an `app`.
GROUPS = {
    "release": "The bundled release: export it as an archive.",
    "sandbox": "The local platform: up, down, status, logs, reset.",
}


@functools.cache
def command_tree(verb: str | None = None) -> Any:
    """Every verb as a command; only `verb` has its options and can be run. None: all of them, for completion."""
    app = typer.Typer(
        name=PROGRAM,
        help="Install and run an MLflow tracking server on Anaconda Enterprise 5 (AE5).",
        epilog="Every verb takes --help. Try everything first with --sandbox, a local platform.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, text in (VERBS | GROUPS).items():
        if verb not in (None, name):
            app.command(name, help=text, short_help=text)(_not_loaded)
        elif name in VERBS:
            app.command(name, help=text, short_help=text)(command(_module(name).command))
        else:
            app.add_typer(_module(name).app, name=name, help=text)
    return typer.main.get_command(app)


def _module(verb: str) -> Any:
    return importlib.import_module(f"mlflow_ae5_deploy.cli.commands.{verb.replace('-', '_')}")


def _not_loaded() -> None:
    """Stand in for a verb that this run lists only."""


def _show_version(given: bool) -> None:
    if given:
        from mlflow_ae5_deploy.release.bundled import bundled_version

        typer.echo(f"{PROGRAM} {bundled_version()}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of the program itself."""
