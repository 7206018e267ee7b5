"""Obtain a release, and look at what came of it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.release.fetch import obtain
from mlflow_ae5_deploy.release.models import FetchSettings, Release
from tests.manual_clock import ManualClock

NAME = "mlflow.tracking.server.1.2.3.tar.gz"
ASSET = f"/download/1.2.3/{NAME}"


def get(desired: str, settings: FetchSettings, clock: ManualClock | None = None, **more: Any) -> Release:
    return obtain(desired, settings, clock=clock or ManualClock(), **more)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refusal(kind: type[DeployError], *args: Any, **more: Any) -> DeployError:
    with pytest.raises(kind) as caught:
        get(*args, **more)
    assert type(caught.value) is kind
    return caught.value


def parts(settings: FetchSettings) -> list[str]:
    return sorted(p.name for p in (settings.cache_dir / "releases").iterdir() if ".part" in p.name)
