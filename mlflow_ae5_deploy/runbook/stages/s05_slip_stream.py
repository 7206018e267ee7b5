"""Stage 5: the customized archive is built, the same bytes from the same input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import copy_private
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import BuiltArchive
from mlflow_ae5_deploy.resources.release import BuildArchive

_NAMED = 3  # changes that are named


@dataclass(frozen=True)
class CustomizationState:
    built: BuiltArchive | None  # None while the release is not on this machine
    saved: bool  # the same bytes were built and saved before


class SlipStreamStage(Stage[CustomizationState]):
    number = 5
    name = "slip-stream"

    def observe(self, context: Context) -> CustomizationState:
        if context.outputs.release is None:
            return CustomizationState(None, False)
        built = build(context.outputs.release, context.settings.slipstream, context.folders.scratch / "project.tar.gz")
        needed = {context.settings.deployment.command, context.settings.gc.command}
        if absent := sorted(needed - set(built.commands)):
            raise ReleaseRefused(
                f"The release has no command {', '.join(f'`{name}`' for name in absent)}.",
                where=context.outputs.release.source,
                remedy=f"It has: {', '.join(built.commands)}. Set deployment.command and gc.command to two of them, "
                "or add the command with slipstream.commands.",
            )
        context.outputs.built = built
        return CustomizationState(built, _saved_at(context, built).is_file())

    def diff(self, state: CustomizationState) -> Diff:
        if state.built is None:
            return Changes((BuildArchive(reason="possible once the release is on this machine", guess=True),))
        if state.saved:
            return NoChange(f"the archive is already built, {_describe(state.built)}")
        return Changes((BuildArchive(reason=f"not built before: {_describe(state.built)}"),))

    def apply(self, change: Change, state: CustomizationState, context: Context) -> None:
        built = context.outputs.built
        if built is None:
            raise ReleaseRefused("The release is not on this machine, so nothing can be built from it.")
        saved = _saved_at(context, built)
        copy_private(built.path, saved)
        context.outputs.built = replace(built, path=saved)

    def verify(self, context: Context) -> str | None:
        return f"built, {_describe(context.outputs.built)}" if context.outputs.built else None


def _saved_at(context: Context, built: BuiltArchive) -> Path:
    return context.folders.state / "archives" / f"{built.sha256}.tar.gz"


def _describe(built: BuiltArchive) -> str:
    return f"{size(built.size)}, content {built.content_digest[:12]}, {_changes(built)}"


def _changes(built: BuiltArchive) -> str:
    """What was done to the release; the archive's provenance has all of it."""
    if not built.changes:
        return "the release unchanged"
    named = [change[:1].lower() + change[1:].rstrip(".") for change in built.changes[:_NAMED]]
    more = len(built.changes) - len(named)
    return "changed: " + "; ".join(named) + (f"; and {more} more" if more else "")
