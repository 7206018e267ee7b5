"""Stage 5: the customized archive is built, the same bytes from the same input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import copy_private
from mlflow_ae5_deploy.common.text import counted, size
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.models import BuiltArchive, Release
from mlflow_ae5_deploy.resources.project import REPLACED

_AS_IT_WAS = (
    "The archive of a replaced project is used as it was, without the settings `slipstream`. `install` without it "
    "applies them again."
)


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
        slipstream, as_it_was = context.settings.slipstream, _was_replaced(context, context.outputs.release)
        scratch = context.folders.scratch / "project.tar.gz"
        built = build(context.outputs.release, SlipstreamSettings() if as_it_was else slipstream, scratch)
        if as_it_was and slipstream != SlipstreamSettings():
            built = replace(built, warnings=(*built.warnings, _AS_IT_WAS))
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


def _was_replaced(context: Context, release: Release) -> bool:
    """Whether this is the archive of a project that was replaced, with the customizations of then."""
    return release.path.parent == (context.folders.state / REPLACED).resolve()


def _saved_at(context: Context, built: BuiltArchive) -> Path:
    return context.folders.state / "archives" / f"{built.sha256}.tar.gz"


def _describe(built: BuiltArchive) -> str:
    customized = counted(len(built.changes), "customizations") if built.changes else "no customizations"
    return f"{size(built.size)}, {customized}"
