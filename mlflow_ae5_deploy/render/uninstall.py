"""The result of an uninstall, for people and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.operations.uninstall import UninstallResult
from mlflow_ae5_deploy.render.changes import show_consequences
from mlflow_ae5_deploy.render.console import Reporter


def show_plan(reporter: Reporter, changes: Sequence[Change], kept: Sequence[str]) -> None:
    show_consequences(reporter, changes)
    reporter.note(f"Kept: {'; '.join(kept)}.")


def show_uninstalled(reporter: Reporter, result: UninstallResult, program: str) -> None:
    """program: how the reader calls this tool."""
    if result.unchanged:
        secrets = f"only the secrets {', '.join(result.secrets)} are left; --purge-secrets deletes them"
        reporter.hanging("", f"Unchanged: {secrets if result.secrets else 'nothing is installed'}.")
        return
    for change in result.changes:
        reporter.hanging("+ ", change.phrase, "cyan")
    for warning in result.warnings:
        reporter.note(f"warning: {warning}", style="yellow")
    if not result.failed:
        reporter.line("The server is uninstalled.", style="bold")
    if result.archive is not None:
        command = f"{program} {reporter.command(shlex.join(['install', '--release', str(result.archive)]))}"
        reporter.hanging("", f"The project's archive is kept. To install it again on the same data: `{command}`")


def write_document(reporter: Reporter, result: UninstallResult) -> None:
    reporter.document(
        "uninstall",
        "unchanged" if result.unchanged else "changed",
        changes=[change.data() for change in result.changes],
        kept=result.kept,
        archive=str(result.archive) if result.archive else None,
        warnings=result.warnings,
    )
