"""sandbox: the local platform to rehearse on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlflow_ae5_deploy.cli import options
from mlflow_ae5_deploy.cli.sandbox_up import _folder, _lifecycle, _trouble, bring_up
from mlflow_ae5_deploy.common.errors import EXIT_DONE, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.sandbox.lifecycle import SandboxInfo

HELP = "The local platform: up, down, status, logs, reset."

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
def up(
    database: options.Database = None,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Start it, or say that it is up."""
    info, _ = bring_up(os.environ, database=database)
    return _tell(info, "sandbox up", json=json)


@app.command()
def down(json: options.Json = False, traceback: options.Traceback = False) -> int:
    """Stop it and every process it started; its state is kept."""
    from mlflow_ae5_deploy.render.console import Reporter

    lifecycle = _lifecycle()
    was_up = _told(lifecycle, lambda: lifecycle.down(_folder(os.environ)))
    reporter = Reporter(json_mode=json)
    if json:
        reporter.data({"schema": 1, "verb": "sandbox down", "outcome": "done", "was_up": was_up})
    reporter.line("The sandbox is down; its state is kept." if was_up else "The sandbox was not up.")
    return EXIT_DONE


@app.command()
def status(json: options.Json = False, traceback: options.Traceback = False) -> int:
    """Where it runs, and how to sign in."""
    from mlflow_ae5_deploy.render.console import Reporter

    lifecycle = _lifecycle()
    info = _told(lifecycle, lambda: lifecycle.status(_folder(os.environ)))
    if info is not None:
        return _tell(info, "sandbox status", json=json)
    reporter = Reporter(json_mode=json)
    if json:
        reporter.data({"schema": 1, "verb": "sandbox status", "outcome": "done", "up": False})
    reporter.line("The sandbox is not up. Start it with `mlflow-ae5-deploy sandbox up`.")
    return EXIT_DONE


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end.")] = 100,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """The end of the sandbox's own log."""
    from mlflow_ae5_deploy.jobs.logs import lines_of
    from mlflow_ae5_deploy.render.console import Reporter

    lifecycle = _lifecycle()
    text = _told(lifecycle, lambda: lifecycle.logs(_folder(os.environ), lines))
    reporter = Reporter(json_mode=json)
    if json:
        reporter.data({"schema": 1, "verb": "sandbox logs", "outcome": "done", "lines": lines_of(text)})
    for line in lines_of(text):
        reporter.foreign(line)
    return EXIT_DONE


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: options.Json = False,
    traceback: options.Traceback = False,
) -> int:
    """Stop it and delete all its state: projects, deployments, experiments and artifacts in it, and what was
    remembered of the installations on it (journals, old archives)."""
    import shutil

    from mlflow_ae5_deploy.config.state_dir import installations_on, state_root, storage_error
    from mlflow_ae5_deploy.render.console import Reporter

    if not yes and not _agreed(json):
        raise Usage(
            "The sandbox was not reset: that was not agreed to.", remedy="Add --yes to do it without a question."
        )
    lifecycle = _lifecycle()
    folder = _folder(os.environ)
    hostname = _told(lifecycle, lambda: lifecycle.hostname(folder))
    _told(lifecycle, lambda: lifecycle.reset(folder))
    installations = installations_on(state_root(None, os.environ), hostname) if hostname else []
    for installation in installations:
        try:
            shutil.rmtree(installation)
        except OSError as error:
            raise storage_error(error, installation) from None
    reporter = Reporter(json_mode=json)
    if json:
        removed = [str(installation) for installation in installations]
        reporter.data({"schema": 1, "verb": "sandbox reset", "outcome": "done", "removed": removed})
    for installation in installations:
        reporter.line(f"Removed what was remembered of an installation on {hostname}: {installation}")
    reporter.line("The sandbox is gone; the next --sandbox starts a new one.")
    return EXIT_DONE


def _agreed(json: bool) -> bool:
    """Nobody is asked where nobody could answer."""
    if json or sys.stdin is None or not sys.stdin.isatty():
        return False
    return typer.confirm("Delete everything in the sandbox, experiments and artifacts included?", err=True)


def _tell(info: SandboxInfo, verb: str, *, json: bool) -> int:
    from mlflow_ae5_deploy.render.console import Reporter

    reporter = Reporter(json_mode=json)
    if json:
        reporter.data(
            {
                "schema": 1,
                "verb": verb,
                "outcome": "done",
                "up": True,
                "hostname": info.hostname,
                "ca_file": str(info.ca_file),
                "pid": info.pid,
                "state_dir": str(info.state_dir),
                "credentials_file": str(info.credentials_file),
            }
        )
    reporter.line(f"The sandbox is up at https://{info.hostname}/ (process {info.pid}).", style="bold")
    reporter.line(f"  Certificate authority  {info.ca_file}")
    reporter.line(f"  Accounts, passwords    {info.credentials_file} (readable by you only)")
    reporter.line(f"  State                  {info.state_dir}")
    reporter.line("  It runs commands in the Python environment it was started from; it solves no conda environment.")
    return EXIT_DONE


def _told(lifecycle: Any, act: Any) -> Any:
    try:
        return act()
    except lifecycle.SandboxError as error:
        raise _trouble(error, _folder(os.environ)) from None
