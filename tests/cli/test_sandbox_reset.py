"""`sandbox reset` removes what was remembered of installations on this sandbox, and nothing else."""

from __future__ import annotations

import json

import pytest

from mlflow_ae5_deploy.config.state_dir import installation_dir


@pytest.mark.parametrize("running", [True, False])
def test_reset_takes_its_own_installation_folders_only(bench, capsys, running):
    bench.start()
    state, hostname = bench.folder / "state", bench.info.hostname
    others = []
    for host in (f"{hostname}0", hostname.replace(":", "-"), "ae5.example.com"):
        others.append(installation_dir(state, host, "mlflow-service", "p"))
        others[-1].mkdir(exist_ok=True)
        (others[-1] / "journal.jsonl").write_text(json.dumps({"host": host}) + "\n")
    assert bench.install(capsys).code == 0
    (own,) = [path for path in state.glob(f"{hostname.replace(':', '-')}_*") if path not in others]
    if not running:
        bench.run(capsys, "sandbox", "down")

    refused = bench.run(capsys, "sandbox", "reset", "--json")
    assert refused.code != 0
    assert own.is_dir()

    told = bench.run(capsys, "sandbox", "reset", "--yes", *(["--json"] if running else []))

    assert told.code == 0, told.err
    assert str(own) in told.out
    assert not own.exists()
    assert not (state / "sandbox").exists()
    assert all((path / "journal.jsonl").is_file() for path in others)
    if running:
        assert told.data["removed"] == [str(own)]
