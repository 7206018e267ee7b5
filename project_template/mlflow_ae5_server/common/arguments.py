"""The words that Backup, Restore and Drill understand, on the command line as in the variable that a job is given.

A job of AE5 passes variables only, so each of these commands reads one with words as on its command line:
`MLFLOW_TRACKING_BACKUP_ARGUMENTS: verify --sample 1%`. Words on the command line itself count more than the variable.
"""

from __future__ import annotations

import argparse
import shlex

from mlflow_ae5_server.common.contract import ARGUMENTS
from mlflow_ae5_server.common.errors import UsageError
from mlflow_ae5_server.common.settings import Settings

# Where the variable says nothing at all; a restore does not begin to write because somebody cleared a variable.
_NO_MESSAGE = {"backup": ["create"], "restore": ["--dry-run"], "drill": []}


def words(command: str, settings: Settings) -> list[str]:
    """The words in the variable of `command`. Raises UsageError where they cannot be told apart."""
    name = ARGUMENTS[command]
    try:
        found = shlex.split(settings.value(name) or "")
    except ValueError as error:
        raise UsageError(f"{name} cannot be split into words: {error}", "mind its quotation marks") from None
    return found or _NO_MESSAGE[command]


def restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", default="latest", metavar="ID", help="which one; latest where nothing is said")
    parser.add_argument("--dry-run", action="store_true", help="check the snapshot, say what would be done, do nothing")
    parser.add_argument("--replace", action="store_true", help="keep aside what the target holds, for --undo")
    parser.add_argument("--no-upgrade", action="store_true", help="leave an older schema as the snapshot has it")
    parser.add_argument(
        "--same-artifacts",
        action="store_true",
        help="with --replace: leave the artifacts in place where all of the snapshot's are among them, unchanged",
    )
    parser.add_argument(
        "--shorten-text",
        action="store_true",
        help="shorten run names, descriptions and values of params and tags that another kind of database cannot keep",
    )
    parser.add_argument("--undo", action="store_true", help="bring back what --replace kept aside")
    parser.add_argument("--saved", metavar="NAME", help="with --undo: bring back what is kept under that name")
    parser.add_argument("--list-saved", action="store_true", help="name what is kept aside")
    parser.add_argument("--drop-saved", metavar="NAME", help="remove for good what is kept under that name")


def check_restore(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse words that contradict each other."""
    others = options.replace or options.no_upgrade or options.same_artifacts or options.snapshot != "latest"
    others = others or options.shorten_text
    if options.same_artifacts and not options.replace:
        parser.error("--same-artifacts goes with --replace only")
    if options.saved is not None and not options.undo:
        parser.error("--saved goes with --undo only: it names what to bring back")
    if options.undo and (others or options.drop_saved or options.list_saved):
        parser.error("--undo goes with --saved and --dry-run only: it brings back what a --replace kept aside")
    if options.list_saved and (others or options.dry_run or options.drop_saved):
        parser.error("--list-saved stands alone: it names what is kept aside")
    if options.drop_saved is not None and others:
        parser.error("--drop-saved goes with --dry-run only: it removes what was kept aside")


def drill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", default="latest", metavar="ID", help="which one; latest where nothing is said")


def backup(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, parser_class=type(parser))
    create = actions.add_parser("create", help="take a snapshot", allow_abbrev=False)
    create.add_argument(
        "--rehash", action="store_true", help="read every artifact again, also where it looks unchanged"
    )
    create.add_argument("--allow-external", action="store_true", help="succeed although artifacts lie elsewhere")
    create.add_argument(
        "--allow-empty",
        action="store_true",
        help="take a snapshot without any artifact, or any run, where there should be some",
    )
    verify = actions.add_parser("verify", help="read a snapshot's objects again and compare", allow_abbrev=False)
    verify.add_argument("--snapshot", default="latest", metavar="ID")
    extent = verify.add_mutually_exclusive_group()
    extent.add_argument("--sample", metavar="PERCENT", help="how many of the objects to read, as 1%%")
    extent.add_argument("--all", action="store_true", help="read all of them")
    actions.add_parser("list", help="name the snapshots", allow_abbrev=False)
    show = actions.add_parser("show", help="show one snapshot's manifest", allow_abbrev=False)
    show.add_argument("--snapshot", default="latest", metavar="ID")
    prune = actions.add_parser("prune", help="say which snapshots would go, or remove them", allow_abbrev=False)
    for kept in ("last", "daily", "weekly"):
        prune.add_argument(f"--keep-{kept}", type=int, metavar="N")
    prune.add_argument(
        "--drop-damaged", action="append", default=[], metavar="ID", help="a damaged snapshot that is to go as well"
    )
    prune.add_argument("--yes", action="store_true", help="remove them")
