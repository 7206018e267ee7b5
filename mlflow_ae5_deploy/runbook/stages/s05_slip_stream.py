"""Stage 5: the customized archive is built, the same bytes from the same input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import copy_private
from mlflow_ae5_deploy.common.text import counted, size
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import BuiltArchive


@dataclass(frozen=True, kw_only=True)
class BuildArchive(Change):
    verb, resource = "build", "the project archive"
    local = True
    customizations: tuple[str, ...] = ()

    @property
    def details(self) -> tuple[str, ...]:
        return self.customizations


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
            return NoChange(f"project archive: {_describe(state.built)}", state.built.warnings)
        change = BuildArchive(reason=_describe(state.built), customizations=state.built.changes)
        return Changes((change,), state.built.warnings)

    def apply(self, change: Change, state: CustomizationState, context: Context) -> None:
        built = context.outputs.built
        if built is None:
            raise ReleaseRefused("The release is not on this machine.")
        saved = _saved_at(context, built)
        copy_private(built.path, saved)
        context.outputs.built = replace(built, path=saved)


def _saved_at(context: Context, built: BuiltArchive) -> Path:
    return context.folders.state / "archives" / f"{built.sha256}.tar.gz"


def _describe(built: BuiltArchive) -> str:
    customized = counted(len(built.changes), "customizations") if built.changes else "no customizations"
    return f"{size(built.size)}, {customized}"
