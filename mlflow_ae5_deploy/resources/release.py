"""Changes of the release and of its archive on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.engine.change import Change


@dataclass(frozen=True, kw_only=True)
class DownloadRelease(Change):
    """Until then, whether the platform has its content is unknown."""

    verb, resource = "download", "release"
    local = True
    guess: bool = True


@dataclass(frozen=True, kw_only=True)
class BuildArchive(Change):
    verb, resource = "build", "the project archive"
    local = True
    customizations: tuple[str, ...] = ()

    @property
    def details(self) -> tuple[str, ...]:
        return self.customizations
