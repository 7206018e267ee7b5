"""`status --format prometheus`, and the switch of the server's own metrics."""

from __future__ import annotations

import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlflow_ae5_deploy.operations.health_problem import CODES
from mlflow_ae5_deploy.render import prometheus
from tests.cli.test_status import run_gc, stop

FORMAT = ("status", "--sandbox", "--format", "prometheus")


def samples(text):
    """(name, labels) -> value; what promtool requires of each line is checked by the parser."""
    assert text.endswith("\n")
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            key = (sample.name.removeprefix("mlflow_ae5_"), *sorted(sample.labels.values()))
            assert key not in found
            found[key] = sample.value
    return found


def problems(found):
    return {key[1:] for key, value in found.items() if key[0] == "problem" and value == 1}


def test_a_textfile_collector_reads_what_was_observed(bench, capsys):
    bench.install(capsys, "--yes")
    run_gc(bench)
    words = (*FORMAT, "--release", str(bench.release))

    healthy = bench.run(capsys, *words)
    stop(bench.owner(), bench.owner().get("deployments")[0])
    down = bench.run(capsys, *words)
    absent = bench.run(capsys, *words, "--username", "nobody-here")
    with bench.fault("GET", "/api/v2/", status=403, times=None):
        refused = bench.run(capsys, *words)
    with bench.fault("GET", "/api/v2/", drop="before", times=None):
        unreachable = bench.run(capsys, *words)
    bench.install(capsys, "--yes")

    assert [one.code for one in (healthy, down, absent, refused, unreachable)] == [0] * 5
    assert [one.err for one in (healthy, down, absent, refused, unreachable)] == [""] * 5
    target = "--sandbox"
    seen = samples(healthy.out)
    assert seen["healthy", target] == seen["installed", target] == 1
    assert seen["status_failed", target] == 0
    assert abs(seen["status_timestamp_seconds", target] - time.time()) < 600
    of_problems = {tuple(sorted((target, row.code, row.severity))) for row in CODES.values()}
    assert {key[1:] for key in seen if key[0] == "problem"} == of_problems
    assert ("gc_last_run_timestamp_seconds", target) in seen
    assert ("newest_backup_timestamp_seconds", target) not in seen, "there is none"
    assert (target, "error", "no-server") in problems(samples(down.out))
    assert samples(down.out)["healthy", target] == 0
    assert samples(absent.out)["installed", "--sandbox --username nobody-here"] == 0
    for failed in (refused, unreachable):
        assert failed.out.startswith("# ")
        assert {key[0]: value for key, value in samples(failed.out).items() if value in (0, 1)} == {"status_failed": 1}


@pytest.mark.parametrize(
    ("more", "code"), [(["--nonsense"], 2), (["--watch", "5"], 2), (["--json"], 2), (["--config", "absent.yml"], 0)]
)
def test_a_wrong_command_line_replaces_nothing_and_a_failed_check_does(bench, capsys, more, code):
    seen = bench.run(capsys, *FORMAT, *more)
    assert (seen.code, seen.err == "") == (code, code == 0)
    assert {key[0] for key in samples(seen.out)} == {"status_failed", "status_timestamp_seconds"}


@pytest.mark.parametrize("value", ['a "quoted" name', "back\\slash", "two\nlines", "plain"])
def test_labels_come_back_as_they_were(value):
    assert next(iter(samples(f"# HELP a b\n# TYPE a gauge\na{prometheus._labels({'x': value})} 1\n"))) == ("a", value)


def test_the_switch_of_the_server_s_metrics_is_a_secret(bench, capsys):
    bench.install(capsys, "--yes")
    without = names(bench)
    on = bench.configure("server: {metrics: true}\n")

    switched = bench.install(capsys, "--yes", "--config", str(on))
    again = bench.install(capsys, "--yes", "--config", str(on))
    off = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release))

    assert switched.code == again.code == 0, switched.err
    assert names(bench) - without == {"MLFLOW_TRACKING_METRICS"}
    assert again.data["outcome"] == "unchanged"
    changes = json.dumps([stage["changes"] for stage in off.data["stages"]])
    assert "MLFLOW_TRACKING_METRICS" in changes
    assert bench.install(capsys, "--yes").code == 0


def names(bench):
    return set(bench.owner().get("credentials/user")["data"])
