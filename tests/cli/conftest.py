"""A sandbox per test module, driven through the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cli.bench import Bench
from tests.cli.rotating import make_rotatable


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench") / "t" / "analytics-2026"  # where a scrubber of channel tokens would bite
    folder.mkdir(parents=True)
    bench = Bench(folder)
    bench.start()
    yield bench
    bench.stop()


@pytest.fixture
def bench(module_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in [n for n in os.environ if n.startswith(("AE5_", "MLFLOW_", "CF_ACCESS_")) or n == "REQUESTS_CA_BUNDLE"]:
        monkeypatch.delenv(name)  # no test may reach the cluster of whoever runs it
    monkeypatch.setenv("AE5_TOOLS_CONFIG_DIR", str(module_bench.folder / "ae5-tools"))
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(module_bench.folder / "state"))
    monkeypatch.chdir(module_bench.folder)
    return module_bench


@pytest.fixture
def rotatable(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Installed, with a consumer, and with a collection that uses its token."""
    return make_rotatable(bench, capsys)
