"""sandbox: the local stand-in for AE5."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli.context import can_ask, confirmed
from mlflow_ae5_deploy.cli.options import CommonOptions, Database, Yes, examples
from mlflow_ae5_deploy.cli.sandbox_up import bring_up, called, sandbox_folder, sandbox_lifecycle
from mlflow_ae5_deploy.common.errors import EXIT_DONE, NotConfirmed
from mlflow_ae5_deploy.render.format import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow_ae5_deploy.sandbox.lifecycle import SandboxInfo


ABOUT = "It really runs the server, to rehearse on. Every verb with --sandbox uses it, and starts it if needed."
EXAMPLES = {
    "install --sandbox": "Start the sandbox and install on it",
    "sandbox status": "Show how to sign in",
    "sandbox down": "Stop it",
}

Lines = Annotated[int, typer.Option("--lines", "-n", metavar="N", min=1, help="Show the last N lines.")]


@examples(
    {
        "sandbox up": "Start it with SQLite, or with the database it has",
        "sandbox up --database postgresql": "Start it with PostgreSQL",
    }
)
def up(options: CommonOptions, database: Database = None, yes: Yes = False) -> int:
    """Runs on this machine only, reachable at a loopback address."""
    info, _ = bring_up(options.reporter, database=database)
    return _show(info, "sandbox up", options)


@examples({"sandbox down": "Stop it", "sandbox up": "Start it again with its data"})
def down(options: CommonOptions, yes: Yes = False) -> int:
    """Stops every process that it started."""
    options.reporter.doing("stopping the sandbox")
    was_running = called(sandbox_lifecycle().down, sandbox_folder())
    reporter = options.reporter
    reporter.document("sandbox down", was_running=was_running)
    reporter.marked(Mark.OK, "Sandbox stopped, data kept" if was_running else "Unchanged: the sandbox was not running")
    return EXIT_DONE


@examples({"sandbox status": "Show address, accounts and files", "sandbox status --json": "The same for a program"})
def status(options: CommonOptions) -> int:
    """For the health of an installation on it: `status --sandbox`."""
    info = called(sandbox_lifecycle().status, sandbox_folder())
    if info is not None:
        return _show(info, "sandbox status", options)
    reporter = options.reporter
    reporter.document("sandbox status", running=False)
    reporter.line("Sandbox not running. Start it: `mlflow-ae5-deploy sandbox up`")
    return EXIT_DONE


@examples({"sandbox logs": "Show the last 100 lines", "sandbox logs -n 20": "Show fewer"})
def logs(options: CommonOptions, lines: Lines = 100) -> int:
    """For the log of the server on it: `logs --sandbox`."""
    from mlflow_ae5_deploy.jobs.logs import lines_of

    text = called(sandbox_lifecycle().logs, sandbox_folder(), lines)
    reporter = options.reporter
    reporter.document("sandbox logs", lines=lines_of(text))
    for line in lines_of(text):
        reporter.foreign(line)
    return EXIT_DONE


@examples(
    {"sandbox reset": "Delete everything after a question", "sandbox reset --yes": "The same without the question"}
)
def reset(options: CommonOptions, yes: Yes = False) -> int:
    """Deletes its projects, deployments, experiments and artifacts, and the state that this machine keeps of
    installations on it, such as journals, previous archives and keys.
    """
    import shutil

    from mlflow_ae5_deploy.common.files import storage_error
    from mlflow_ae5_deploy.config.state_dir import installations_on, state_root

    lifecycle = sandbox_lifecycle()
    folder = sandbox_folder()
    hostname = called(lifecycle.hostname, folder)
    installations = installations_on(state_root(None, os.environ), hostname) if hostname else []
    if not yes:
        _show_reset(options, folder, installations)
        if not confirmed(options, "Delete all of this?"):
            remedy = "Nothing was deleted." + ("" if can_ask(options) else " Re-run with --yes to confirm.")
            raise NotConfirmed("Not confirmed: delete the sandbox.", where=str(folder), remedy=remedy)
    called(lifecycle.reset, folder)
    for installation in installations:
        try:
            shutil.rmtree(installation)
        except OSError as error:
            raise storage_error(error, installation) from None
    reporter = options.reporter
    reporter.document("sandbox reset", removed=[str(installation) for installation in installations])
    for installation in installations:
        reporter.line(f"Deleted the state of the installation in {installation}")
    reporter.marked(Mark.OK, "Sandbox deleted. The next verb with --sandbox starts a new one.")
    return EXIT_DONE


def _show_reset(options: CommonOptions, folder: Path, installations: Sequence[Path]) -> None:
    """On stderr, because a question follows."""
    note = options.reporter.note
    options.reporter.warning("Delete the sandbox and this machine's state of the installations on it")
    note(f"    {folder}: all projects, deployments, experiments, artifacts, snapshots and saved copies")
    for installation in installations:
        note(f"    {installation}: {', '.join(_contents(installation))}")
    note("  Consequences")
    note("  - nothing of this can be undone")


def _contents(installation: Path) -> list[str]:
    """What the state folder of an installation holds that nothing else does."""
    from mlflow_ae5_deploy.common.text import counted

    archives = [file for name in ("archives", "replaced", "removed") for file in (installation / name).glob("*")]
    logs = list((installation / "runs").glob("*"))
    return [
        "journal",
        *(["key file `keys` (the only copy unless you made one)"] if (installation / "keys").exists() else []),
        *([counted(len(archives), "saved project archives")] if archives else []),
        *([counted(len(logs), "saved job logs")] if logs else []),
    ]


def _show(info: SandboxInfo, verb: str, options: CommonOptions) -> int:
    reporter = options.reporter
    fields: dict[str, Any] = {
        "url": f"https://{info.hostname}/",
        "hostname": info.hostname,
        "accounts": sandbox_lifecycle().accounts(info.state_dir),
        "credentials_file": str(info.credentials_file),
        "ca_file": str(info.ca_file),
        "pid": info.pid,
        "state_dir": str(info.state_dir),
    }
    reporter.document(verb, running=True, **fields)
    rows = {
        "Sign in": fields["url"],
        "Accounts": ", ".join(fields["accounts"]) or "not readable",
        "Passwords": f"{fields['credentials_file']} (only you can read it)",
        "Certificate": f"{fields['ca_file']} (trust it, or accept the browser's warning)",
        "State": fields["state_dir"],
    }
    reporter.marked(Mark.OK, f"Sandbox running (pid {info.pid})")
    for title, text in rows.items():
        reporter.hanging(f"  {title:<13}", text)
    return EXIT_DONE


COMMANDS = {"up": up, "down": down, "status": status, "logs": logs, "reset": reset}
