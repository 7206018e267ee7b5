"""--verbose: what is logged, where, and that nothing else changes. Secrets are looked for in test_secrecy."""

from __future__ import annotations

import logging

import pytest

from mlflow_ae5_deploy.cli.main import main

ROWS = [
    ("-v", ["ae5.session: sign in as", "common.http_log: GET localhost:", "/api/v2/deployments 200, "], ["received:"]),
    ("-vv", ["common.http_log:   received: ["], []),
]


@pytest.mark.parametrize(("option", "logged", "not_logged"), ROWS, ids=[row[0] for row in ROWS])
def test_requests_are_logged_to_stderr_and_json_is_the_same(bench, capsys, option, logged, not_logged):
    assert bench.install(capsys).code == 0
    plain = bench.run(capsys, "share", "--sandbox", "--json")

    verbose = bench.run(capsys, "share", "--sandbox", "--json", option)
    again = bench.run(capsys, "share", "--sandbox", "--json")

    assert (verbose.code, verbose.out) == (plain.code, plain.out) == (again.code, again.out)
    assert plain.err == again.err == ""  # off by default, and off again
    assert all(words in verbose.err for words in logged), verbose.err
    assert not any(words in verbose.err for words in not_logged)


def test_a_verb_of_the_sandbox_logs_too(bench, capsys):
    plain = bench.run(capsys, "sandbox", "status", "--json")
    verbose = bench.run(capsys, "sandbox", "status", "--json", "-v")

    assert (verbose.code, verbose.out) == (0, plain.out)
    assert "cli.sandbox_up: status: begin, " in verbose.err
    assert plain.err == ""


def test_stages_lock_journal_state_and_retries_are_logged(bench, capsys):
    fault = {"method": "GET", "path": "/api/v2/projects$", "times": 1, "status": 503}
    bench.control("POST", "/faults", fault)
    bench.owner().call("DELETE", "credentials/user/MLFLOW_TRACKING_URI")

    done = bench.install(capsys, "-v")

    assert done.code == 0, done.err
    for words in (
        "engine.lock: lock acquired: ",
        "engine.executor: stage 10 (store-url): begin",
        "engine.executor: stage 10 (store-url): changed, ",
        "engine.journal: effect action=set resource=secrets name=MLFLOW_TRACKING_URI",
        "engine.state: state written: ",
        "ae5.transport: retry 1 of ",
        "engine.lock: lock released",
    ):
        assert words in done.err, words


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ((), "a2-01234567"),
        (("--verbose",), "a2-0123456789abcdef0123456789abcdef"),
        (("-vv",), "a2-0123456789abcdef0123456789abcdef"),
    ],
)
def test_an_error_has_ids_in_full(tmp_path, capsys, monkeypatch, option, shown):
    monkeypatch.chdir(tmp_path)
    assert main(["status", *option, "--profile", "a2-0123456789abcdef0123456789abcdef"]) == 3
    assert f"there is no profile '{shown}'." in capsys.readouterr().err


@pytest.fixture
def root_records():
    """What a library that configures the root logger for itself would print, and not mask."""
    records, root = list[logging.LogRecord](), logging.getLogger()
    handler, level = logging.Handler(), root.level
    handler.emit = records.append
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield records
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("options", [[], ["-vv"]], ids=str)
def test_no_other_handler_gets_the_log(bench, capsys, root_records, options):
    bench.run(capsys, "share", "--sandbox", *options)

    assert [record.name for record in root_records if record.name.startswith("mlflow_ae5_deploy")] == []
