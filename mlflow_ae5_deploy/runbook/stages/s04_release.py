"""Stage 4: the release is on this machine, its checksum verified."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.common.errors import Unreachable
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage
from mlflow_ae5_deploy.release.fetch import latest_version, obtain
from mlflow_ae5_deploy.release.models import FetchSettings, Release

_CHECKED = {
    "given": "SHA-256 as configured",
    "recorded": "SHA-256 as at its first use",
    "first-use": "SHA-256 recorded (first use)",
    "announced": "SHA-256 as published",
    "none": "no checksum to compare with",
}


@dataclass(frozen=True, kw_only=True)
class DownloadRelease(Change):
    """Until then, whether the platform has its content is unknown."""

    verb, resource = "download", "release"
    local = True
    guess: bool = True


@dataclass(frozen=True)
class ReleaseState:
    desired: str  # the configured release, with `latest` resolved to a version
    release: Release | None  # None if it must be downloaded first


class ReleaseStage(Stage[ReleaseState]):
    number = 4
    name = "release"

    def observe(self, context: Context) -> ReleaseState:
        desired = context.settings.release.source
        if desired == "latest":
            desired = latest_version(self._fetch(context, offline=False), clock=context.clock)
        try:
            release = obtain(desired, self._fetch(context, offline=True), clock=context.clock)
        except Unreachable:
            return ReleaseState(desired, None)
        context.outputs.release = release
        return ReleaseState(desired, release)

    def diff(self, state: ReleaseState) -> Diff:
        if state.release is None:
            return Changes((DownloadRelease(name=state.desired, reason="not in the cache"),))
        return NoChange(_describe(state.release))

    def apply(self, change: Change, state: ReleaseState, context: Context) -> None:
        report = context.progress.phase
        context.outputs.release = obtain(
            state.desired,
            self._fetch(context, offline=False),
            clock=context.clock,
            on_progress=lambda done, total: report(Phase("downloading the release", done=done, total=total)),
        )

    def verify(self, context: Context) -> str | None:
        return _describe(context.outputs.release) if context.outputs.release else None

    def _fetch(self, context: Context, *, offline: bool) -> FetchSettings:
        desired = context.settings.release
        platform = context.settings.platform
        return FetchSettings(
            cache_dir=context.folders.cache,
            mirror=desired.mirror,
            sha256=desired.sha256,
            ca_file=platform.ca_file,
            connect_timeout=platform.connect_timeout,
            read_timeout=platform.read_timeout,
            offline=offline,
            record=not context.options.dry,
        )


def _describe(release: Release) -> str:
    if release.kind == "bundled":
        return f"bundled release {release.version}"
    version = f" {release.version}" if release.version else ""
    return f"release{version} from {release.source}, {_CHECKED[release.checked]}"
