"""The arguments of Backup, Restore and Drill: command line or variable.

A job of AE5 passes variables only, so each of these commands reads its command line from one:
`MLFLOW_TRACKING_BACKUP_ARGUMENTS: verify --sample 1%`. Arguments on the command line itself beat the variable.
"""

from __future__ import annotations

import argparse
import shlex

from mlflow_ae5_server.common.contract import ARGUMENTS
from mlflow_ae5_server.common.errors import Usage
from mlflow_ae5_server.common.settings import Settings

# Where the variable is empty; a restore does not write because somebody cleared a variable.
_DEFAULTS = {"backup": ["create"], "restore": ["--dry-run"], "drill": []}


def from_variable(command: str, settings: Settings) -> list[str]:
    """The arguments in the variable of `command`. Raises Usage."""
    name = ARGUMENTS[command]
    try:
        return shlex.split(settings.value(name) or "") or _DEFAULTS[command]
    except ValueError as error:
        raise Usage(f"{name} cannot be parsed: {error}", "check its quotes") from None


def restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", default="latest", metavar="ID", help="default: latest")
    parser.add_argument("--dry-run", action="store_true", help="check the snapshot and print what would be done")
    parser.add_argument("--replace", action="store_true", help="move what the target holds to a saved copy, for --undo")
    parser.add_argument("--no-upgrade", action="store_true", help="leave an older schema as the snapshot has it")
    parser.add_argument(
        "--same-artifacts",
        action="store_true",
        help="with --replace: leave the artifacts as they are where all of the snapshot's are among them, unchanged",
    )
    parser.add_argument(
        "--shorten-text",
        action="store_true",
        help="shorten run names, descriptions and values of params and tags that another kind of database cannot store",
    )
    parser.add_argument("--undo", action="store_true", help="bring back the copy that --replace saved")
    parser.add_argument("--saved", metavar="NAME", help="with --undo: the saved copy to bring back")
    parser.add_argument("--list-saved", action="store_true", help="list the saved copies")
    parser.add_argument("--drop-saved", metavar="NAME", help="delete a saved copy")


def check_restore(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    others = options.replace or options.no_upgrade or options.same_artifacts or options.snapshot != "latest"
    others = others or options.shorten_text
    if options.same_artifacts and not options.replace:
        parser.error("--same-artifacts requires --replace")
    if options.saved is not None and not options.undo:
        parser.error("--saved requires --undo: it names the copy to bring back")
    if options.undo and (others or options.drop_saved or options.list_saved):
        parser.error("--undo goes with --saved and --dry-run only: it brings back a saved copy")
    if options.list_saved and (others or options.dry_run or options.drop_saved):
        parser.error("--list-saved goes with no other option: it lists the saved copies")
    if options.drop_saved is not None and others:
        parser.error("--drop-saved goes with --dry-run only: it deletes a saved copy")


def drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", default="latest", metavar="ID", help="default: latest")


def backup(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, parser_class=type(parser))
    create = actions.add_parser("create", help="take a snapshot", allow_abbrev=False)
    create.add_argument(
        "--rehash", action="store_true", help="read every artifact again, also where it looks unchanged"
    )
    create.add_argument(
        "--allow-external", action="store_true", help="succeed although artifacts outside the store are not backed up"
    )
    create.add_argument(
        "--allow-empty",
        action="store_true",
        help="take a snapshot without any artifact, or any run, where there should be some",
    )
    _keep(create, "then delete older snapshots, as `prune` does: keep")
    verify = actions.add_parser("verify", help="read a snapshot's objects again and compare", allow_abbrev=False)
    verify.add_argument("--snapshot", default="latest", metavar="ID")
    extent = verify.add_mutually_exclusive_group()
    extent.add_argument("--sample", metavar="PERCENT", help="how many of the objects to read, as 1%%")
    extent.add_argument("--all", action="store_true", help="read all of them")
    actions.add_parser("list", help="list the snapshots", allow_abbrev=False)
    show = actions.add_parser("show", help="show one snapshot's manifest", allow_abbrev=False)
    show.add_argument("--snapshot", default="latest", metavar="ID")
    prune = actions.add_parser("prune", help="list the snapshots that would go, or remove them", allow_abbrev=False)
    _keep(prune, "keep")
    prune.add_argument(
        "--drop-damaged", action="append", default=[], metavar="ID", help="a damaged snapshot to remove as well"
    )
    prune.add_argument("--yes", action="store_true", help="remove them")


def _keep(parser: argparse.ArgumentParser, what: str) -> None:
    rules = (("last", "the N most recent"), ("daily", "one per day for N days"), ("weekly", "one per week for N weeks"))
    for rule, text in rules:
        parser.add_argument(f"--keep-{rule}", type=int, metavar="N", help=f"{what} {text}")
