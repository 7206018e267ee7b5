"""The verbs: names, order and summaries. The module of a verb is imported only where that verb is requested."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import typer

from mlflow_ae5_deploy.cli.help import VerbGroup, VerbPage, epilog
from mlflow_ae5_deploy.cli.options import command
from mlflow_ae5_deploy.common.text import PROGRAM

# heading -> verb -> summary. `cli/commands/` has a module for each, with a function `command`.
SECTIONS = {
    "Install": {
        "init": "Write an annotated configuration file.",
        "plan": "Preview the changes `install` would make.",
        "install": "Install or update the server. Safe to re-run.",
        "uninstall": "Delete the server, its jobs and its project.",
        "runbook": "Print the 14 steps as Markdown, with `ae5` commands.",
        "release": "Export the bundled release as an archive.",
    },
    "Operate": {
        "rotate-token": "Issue, test and distribute a new access token.",
        "schedule-rotation": "Print a crontab line that rotates the token.",
        "schedule-gc": "Schedule, run, pause or delete the GC job.",
        "share": "Show or change who may open the server's web pages.",
        "upgrade": "Upgrade, with rollback on failure. Causes downtime.",
    },
    "Data": {
        "backup": "Create, list, verify, prune and schedule snapshots.",
        "restore": "Restore a snapshot. Causes downtime; can be undone.",
        "drill": "Test a snapshot: restore it to a temporary location.",
    },
    "Inspect": {
        "status": "Show the installation's health.",
        "doctor": "Run preflight checks and suggest fixes.",
        "verify": "Test the server end to end, as a client would.",
        "env": "Print the environment variables that a client needs.",
        "open": "Open the server's web pages in a browser.",
        "logs": "Show the log of the server or of a job's run.",
        "history": "Show the operations run from this machine.",
    },
    "Sandbox": {
        "sandbox": "Manage the local AE5 that --sandbox uses.",
    },
}
VERBS = {verb: summary for verbs in SECTIONS.values() for verb, summary in verbs.items()}
# verb -> its own verbs, each with its summary; the module has a function for each in `COMMANDS`.
GROUPS = {
    "release": {
        "export": "Write the bundled release as an archive. Safe to re-run.",
    },
    "backup": {
        "create": "Create a snapshot of database and artifacts.",
        "list": "List the snapshots in the repository.",
        "show": "Show what one snapshot contains.",
        "verify": "Read a snapshot back and compare it with its manifest.",
        "prune": "Remove old snapshots. Without --yes: a preview.",
        "schedule": "Show, set or remove the schedule of backups.",
    },
    "drill": {
        "run": "Restore a snapshot to a temporary location and test it.",
        "schedule": "Show, set or remove the schedule of drills.",
    },
    "sandbox": {
        "up": "Start the sandbox. Safe to re-run.",
        "down": "Stop the sandbox. Keeps its data.",
        "status": "Show where the sandbox runs and how to sign in.",
        "logs": "Show the end of the sandbox's own log.",
        "reset": "Stop the sandbox and delete all its data.",
    },
}
DEFAULTS = {"backup": "create", "drill": "run"}  # the verb that is meant where none is named
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_ABOUT = "Install and operate an MLflow tracking server on Anaconda Enterprise 5 (AE5)."
_EXAMPLES = {
    "install --sandbox": "Install on a local AE5 that needs no cluster",
    "plan --config ae5.yaml": "Preview an installation on a cluster",
    "backup list --help": "Every verb has a help page",
}


@functools.cache
def command_tree(verb: str | None = None) -> Any:
    """Every verb as a command; only `verb` has its options and can be run. None: all of them, for completion."""
    app = _typer(_ABOUT, _EXAMPLES)
    app.callback()(_root)
    for section, verbs in SECTIONS.items():
        for name, summary in verbs.items():
            if verb not in (None, name):
                _add(app, name, summary, _not_loaded, section)
            elif name in GROUPS:
                app.add_typer(_group(name, summary), name=name, rich_help_panel=section)
            else:
                _add(app, name, summary, command(_module(name).command), section)
    tree: Any = typer.main.get_command(app)
    tree.commands = {name: tree.commands[name] for name in VERBS}  # typer puts groups last
    tree.inner = [f"{name} {own}" for name, group in GROUPS.items() for own in group]
    for name, default in DEFAULTS.items():
        if isinstance(tree.commands[name], VerbGroup):
            tree.commands[name].default = default
    return tree


def resolved(tree: Any, arguments: Sequence[str]) -> tuple[list[str], Any]:
    """The words at the beginning of a command line that name a verb, and the command to run."""
    command, words = tree, list[str]()
    for argument in arguments:
        if argument not in getattr(command, "commands", ()):
            break
        command = command.commands[argument]
        words.append(argument)
    default = getattr(command, "default", "")
    return words, command.commands[default] if default else command


def _group(name: str, summary: str) -> typer.Typer:
    module = _module(name)
    group = _typer("\n\n".join(filter(None, (summary, module.ABOUT))), module.EXAMPLES, summary)
    for own, own_summary in GROUPS[name].items():
        _add(group, own, own_summary, command(module.COMMANDS[own]))
    return group


def _typer(about: str, examples: dict[str, str], summary: str = "") -> typer.Typer:
    return typer.Typer(
        name=PROGRAM,
        cls=VerbGroup,
        context_settings=_HELP,
        help=about,
        short_help=summary,
        epilog=epilog(examples),
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def _add(app: typer.Typer, name: str, summary: str, function: Callable[..., int], section: str | None = None) -> None:
    details = "" if function is _not_loaded else function.__doc__ or ""
    app.command(
        name,
        cls=VerbPage,
        context_settings=_HELP,
        help="\n\n".join(filter(None, (summary, details))),
        short_help=summary,
        epilog=epilog(getattr(function, "examples", {})),
        rich_help_panel=section,
    )(function)


def _module(verb: str) -> Any:
    return importlib.import_module(f"mlflow_ae5_deploy.cli.commands.{verb.replace('-', '_')}")


def _not_loaded() -> int:
    """Stand in for a verb that this run lists only."""
    return 0


def _show_version(given: bool) -> None:
    if given:
        from mlflow_ae5_deploy.release.bundled import bundled_version

        typer.echo(f"{PROGRAM} {bundled_version()}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options of the program itself."""
