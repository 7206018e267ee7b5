"""The command line: `tracking-server`, and the jobs around it.

AE5 appends `--anaconda-project-*` options to web commands. Every command accepts all of them, also unknown ones.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from mlflow_ae5_server.common import arguments, outcomes, redaction, settings
from mlflow_ae5_server.common.contract import ARGUMENTS, COMMANDS
from mlflow_ae5_server.common.errors import Interrupted, ProjectError, Usage
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.common.settings import Settings

_AE5 = "--anaconda-project-"
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "backup": arguments.backup,
    "restore": arguments.restore,
    "drill": arguments.drill,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(redaction.scrub(message), f"{self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse `argv`. Unknown options of AE5 are dropped, others are errors."""
    parser = _Parser(prog="python -m mlflow_ae5_server", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for name, text in (
        ("tracking-server", "serve the MLflow UI and API"),
        ("garbage-collection", "permanently delete what users deleted longer ago than MLFLOW_TRACKING_GC_TTL"),
        ("database-upgrade", "upgrade the database's schema to the installed MLflow"),
        ("check", "check that database, artifact store, keys and server can be used from here; change nothing"),
        ("backup", "back up database and artifacts, or verify, list, show or prune snapshots"),
        ("restore", "restore a snapshot to an empty database and artifact store"),
        ("drill", "test a backup: restore it to a temporary location, start a server on it, check it, clean up"),
    ):
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        command.set_defaults(dry_run=False)
        if name in _ARGUMENTS:
            _ARGUMENTS[name](command)
        if name in ("garbage-collection", "database-upgrade"):
            command.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
        if name == "database-upgrade":
            command.add_argument(
                "--rehearse", action="store_true", help="migrate a copy of the database, and report how long it took"
            )
        if name == "garbage-collection":
            command.add_argument(
                "--orphans",
                choices=("ignore", "show", "remove", "remove-all"),
                help="orphaned artifact folders; remove-all also where more are orphaned than not",
            )
        command.add_argument(_AE5 + "host", dest="hosts", action="extend", nargs="+", default=[], metavar="HOST")
        command.add_argument(_AE5 + "iframe-hosts", action="extend", nargs="+", default=[], dest="iframe_hosts")
        command.add_argument(_AE5 + "port", type=int, default=8086, dest="port")
        command.add_argument(_AE5 + "address", default="0.0.0.0", dest="address")  # noqa: S104 - AE5 needs all addresses
        command.add_argument(_AE5 + "url-prefix", default="", dest="url_prefix")
        for switch in ("use-xheaders", "no-browser"):
            command.add_argument(_AE5 + switch, nargs="?", const="true", default="", dest=switch.replace("-", "_"))
    options, rest = parser.parse_known_args(argv)
    unknown = _without_ae5_options(rest)
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    if options.command == "restore":
        arguments.check_restore(parser, options)
    return options


def _reads_variable(argv: Sequence[str]) -> bool:
    """Whether `argv` is a command without arguments that has a variable for them."""
    return len(argv) > 0 and argv[0] in ARGUMENTS and not _without_ae5_options(argv[1:])


def _without_ae5_options(arguments: Sequence[str]) -> list[str]:
    """`arguments` without unknown options of AE5 and their values."""
    own, after_option = [], False
    for argument in arguments:
        if argument.startswith(_AE5):
            after_option = "=" not in argument
        elif after_option and not argument.startswith("-"):
            after_option = False
        else:
            own.append(argument)
            after_option = False
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; jobs end with a JSON line."""
    redaction.install()
    report: Report | None = None
    resolved = Settings()
    try:
        argv = sys.argv[1:] if argv is None else argv
        from_variable = _reads_variable(argv)
        options = argparse.Namespace(command=argv[0]) if from_variable else parse(argv)
        if options.command != "tracking-server":
            report = Report(COMMANDS[options.command])
            signal.signal(signal.SIGTERM, _terminated)
        if getattr(options, "orphans", None):
            os.environ["MLFLOW_TRACKING_GC_ORPHANS"] = options.orphans
        resolved = settings.load(os.environ)
        print(resolved.table(), file=sys.stderr, flush=True)
        if from_variable:
            options = parse([options.command, *arguments.from_variable(options.command, resolved)])
        return _finish(report, resolved, _run(options, resolved, report))
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if report:
            report.failed(error)
        return _finish(report, resolved, report.exit_code(error) if report else error.exit_code)
    except (KeyboardInterrupt, Interrupted) as stop:
        print("interrupted", file=sys.stderr, flush=True)
        if report:
            report.add(outcome="interrupted")
        return _finish(report, resolved, stop.exit_code if isinstance(stop, Interrupted) else 130)
    except Exception as error:  # unforeseen; the last line of a job must still report that it failed
        traceback.print_exc()
        unforeseen = ProjectError(f"{type(error).__name__}: {error}".splitlines()[0], "see the traceback in this log")
        print(f"error: {unforeseen}", file=sys.stderr, flush=True)
        if report:
            report.failed(unforeseen)
        return _finish(report, resolved, unforeseen.exit_code)


def _run(options: argparse.Namespace, resolved: Settings, report: Report | None) -> int:
    if report is None:
        return _serve(options, resolved)
    module = importlib.import_module(f"mlflow_ae5_server.commands.{options.command.replace('-', '_')}")
    run = module.rehearse if getattr(options, "rehearse", False) else module.run
    code: int = run(resolved, report, options if options.command in ARGUMENTS else options.dry_run)
    return code


def _serve(options: argparse.Namespace, resolved: Settings) -> int:
    from mlflow_ae5_server.commands import tracking_server

    http = tracking_server.HttpOptions(
        address=options.address,
        port=options.port,
        hosts=options.hosts,
        iframe_hosts=options.iframe_hosts,
        use_xheaders=options.use_xheaders.lower() not in {"", "false", "0"},
        url_prefix=options.url_prefix,
    )
    return tracking_server.run(http, resolved)


def _terminated(_number: int, _frame: object) -> NoReturn:
    """Let a job that is stopped write its last line, whatever signals come."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Interrupted


def _finish(report: Report | None, resolved: Settings, exit_code: int) -> int:
    if report is not None:
        report.print(exit_code, lambda fields: _ended(resolved, fields))
    return exit_code


def _ended(resolved: Settings, fields: Mapping[str, Any]) -> None:
    outcomes.record(resolved, fields)
    if resolved.value(settings.NOTIFY_URLS):
        from mlflow_ae5_server import notify

        notify.about(resolved, fields)
