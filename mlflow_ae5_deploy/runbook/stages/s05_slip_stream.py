"""Stage 5: the customised archive is built, the same bytes from the same input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import copy_private
from mlflow_ae5_deploy.common.text import size
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision
from mlflow_ae5_deploy.release.customize import BuiltArchive, Customization, build

_NAMED = 3  # changes told in words


@dataclass(frozen=True)
class CustomizationState:
    """built is None while the release is not at hand; kept tells that the same bytes were built before."""

    built: BuiltArchive | None
    kept: bool


class SlipStreamStage:
    number: ClassVar[int] = 5
    name: ClassVar[str] = "slip-stream"
    promise: ClassVar[str] = "the customised archive is built and its provenance is inside it"

    def observe(self, context: Context) -> CustomizationState:
        if context.outputs.release is None:
            return CustomizationState(None, False)
        desired = context.settings.slipstream
        built = build(
            context.outputs.release,
            Customization(
                variables=desired.variables,
                dependencies=desired.dependencies,
                channels=tuple(desired.channels),
                commands={name: command.model_dump(exclude_none=True) for name, command in desired.commands.items()},
                overlay=desired.overlay,
            ),
            context.scratch / "project.tar.gz",
        )
        needed = {context.settings.deployment.command, context.settings.gc.command}
        if absent := sorted(needed - set(built.commands)):
            raise ReleaseRefused(
                f"The release has no command {', '.join(f'`{name}`' for name in absent)}.",
                where=context.outputs.release.source,
                remedy=f"It has: {', '.join(built.commands)}. Set deployment.command and gc.command to two of them, "
                "or add the command with slipstream.commands.",
            )
        context.outputs.built = built
        return CustomizationState(built, _kept(context, built).is_file())

    def plan(self, state: CustomizationState, context: Context) -> Decision:
        if state.built is None:
            return Decision.do(Action("build", "the project archive", "possible once the release is at hand"))
        if state.kept:
            return Decision.nothing(f"the archive is already built, {_describe(state.built)}")
        return Decision.do(Action("build", "the project archive", f"not built before: {_describe(state.built)}"))

    def apply(self, action: Action, state: CustomizationState, context: Context) -> None:
        built = context.outputs.built
        if built is None:
            raise ReleaseRefused("The release is not at hand, so nothing can be built from it.")
        kept = _kept(context, built)
        copy_private(built.path, kept)
        context.outputs.built = replace(built, path=kept)

    def verify(self, context: Context) -> str | None:
        return f"built, {_describe(context.outputs.built)}" if context.outputs.built else None


def _kept(context: Context, built: BuiltArchive) -> Path:
    return context.folder / "archives" / f"{built.sha256}.tar.gz"


def _describe(built: BuiltArchive) -> str:
    return f"{size(built.size)}, content {built.content_digest[:12]}, {_changes(built)}"


def _changes(built: BuiltArchive) -> str:
    """What was done to the release; the archive's provenance has all of it."""
    if not built.changes:
        return "the release unchanged"
    named = [change[:1].lower() + change[1:].rstrip(".") for change in built.changes[:_NAMED]]
    more = len(built.changes) - len(named)
    return "changed: " + "; ".join(named) + (f"; and {more} more" if more else "")
