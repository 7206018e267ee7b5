"""A sandbox per test module, driven through the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.bench import Bench


@pytest.fixture(scope="module")
def module_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("bench"))
    bench.start()
    yield bench
    bench.stop()


@pytest.fixture
def bench(module_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(module_bench.folder / "state"))
    monkeypatch.chdir(module_bench.folder)
    return module_bench
