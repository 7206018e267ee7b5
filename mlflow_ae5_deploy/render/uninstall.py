"""What an uninstall deletes and keeps, for people and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.operations.uninstall import UninstallResult
from mlflow_ae5_deploy.operations.uninstall_plan import Kept
from mlflow_ae5_deploy.render.changes import consequences_of
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.format import Mark
from mlflow_ae5_deploy.resources.project import DeleteProject
from mlflow_ae5_deploy.resources.secrets import DeleteSecrets

QUESTION = "Uninstall the server?"


def show_plan(reporter: Reporter, changes: Sequence[Change], kept: Sequence[Kept]) -> None:
    """On stderr, because a question follows."""
    with reporter.one_piece():
        reporter.warning("Uninstall the MLflow tracking server")
        for change in changes:
            reporter.note(f"    {change.phrase}")
            for line in change.details if reporter.verbose or isinstance(change, DeleteSecrets) else ():
                reporter.note(f"      {line}")
        reporter.note("  Consequences")
        for text in consequences_of(changes):
            reporter.note(f"  - {text}")
        if reporter.verbose:
            reporter.note("  Stays")
            for thing in kept:
                reporter.note(f"  - {thing}")
        else:
            reporter.note(f"  {stays(kept)}")
        if warning := may_be_lost(changes, kept):
            reporter.warning(warning)


def stays(kept: Sequence[Kept]) -> str:
    """What is kept in any case, in short."""
    certain = [f"{thing.what} ({thing.note})" if thing.note else thing.what for thing in kept if not thing.at_risk]
    return f"Stays (-v shows where): {', '.join(certain)}."


def may_be_lost(changes: Sequence[Change], kept: Sequence[Kept]) -> str:
    """A warning; empty where all is kept in any case."""
    things = ", ".join(thing.what for thing in kept if thing.at_risk)
    if not things or not any(isinstance(change, DeleteProject) for change in changes):
        return ""
    return f"Lost with the project unless on a persistent volume: {things}."


def show_uninstalled(reporter: Reporter, result: UninstallResult, program: str) -> None:
    """program: how the reader calls this tool."""
    if result.unchanged:
        reporter.marked(Mark.OK, "Unchanged: nothing is installed.")
        if result.secrets:
            reporter.hanging("  ", f"Left: {counted(len(result.secrets), 'secrets')} ({', '.join(result.secrets)})")
            reporter.copied(f"  To delete them: {program} {reporter.command('uninstall --purge-secrets')}")
        return
    for change in result.changes:
        reporter.marked(Mark.CHANGE, change.phrase)
        for line in change.details if isinstance(change, DeleteSecrets) else ():
            reporter.line(f"    {line}")
    for warning in result.warnings:
        reporter.warning(warning)
    if not result.failed:
        warning = may_be_lost(result.changes, result.kept)
        reporter.marked(Mark.OK, "Uninstalled." if warning else "Uninstalled. Database, artifacts and snapshots stay.")
        if warning:
            reporter.marked(Mark.WARNING, warning)
    if result.archive is not None:
        reporter.line()
        reporter.line("To install it again", style="bold")
        command = shlex.join(["install", "--release", str(result.archive)])
        reporter.copied(f"  {program} {reporter.command(command)}")


def write_document(reporter: Reporter, result: UninstallResult) -> None:
    reporter.document(
        "uninstall",
        "unchanged" if result.unchanged else "changed",
        changes=[change.data() for change in result.changes],
        kept=[str(thing) for thing in result.kept],
        archive=str(result.archive) if result.archive else None,
        warnings=result.warnings,
    )
