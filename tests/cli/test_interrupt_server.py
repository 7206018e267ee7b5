"""Ctrl-C, SIGTERM and SIGHUP while no server runs: it is said so, and the command that is named goes on."""

from __future__ import annotations

import json
import os
import shlex
import signal

import pytest

from tests.cli.answers import assert_no_accident
from tests.cli.bench import Outcome
from tests.cli.rotating import opens, running, stored
from tests.cli.rotating import volume as volume_of
from tests.cli.snapshotting import make_snapshotting_release
from tests.sandbox.support import wait_for

# verb and options, the request that hangs, the signal, what is said of the server
MOMENTS = [
    ("rotate-token --restart --yes", "DELETE /deployments/", signal.SIGTERM, "The server is stopped, or about to stop"),
    ("rotate-token --restart --yes", "POST /deployments$", signal.SIGHUP, "No server runs yet"),
    ("install --replace --release OTHER", "POST /projects/upload$", signal.SIGTERM, "No server runs."),
    ("install --replace --release FIRST", "POST /deployments$", signal.SIGINT, "No server runs yet"),
    (
        "restore --replace --stop-server --yes --release FIRST",
        "POST /deployments$",
        signal.SIGHUP,
        "No server runs yet",
    ),
    ("upgrade --yes --no-rehearsal --release SECOND", "POST /projects/upload$", signal.SIGHUP, "No server runs."),
    ("uninstall --yes", "DELETE /projects/", signal.SIGTERM, "No server runs."),
]


@pytest.fixture(scope="module")
def releases(module_bench):
    folder = module_bench.folder
    return {
        "FIRST": make_snapshotting_release(folder / "first.tar.gz"),
        "OTHER": make_snapshotting_release(folder / "other.tar.gz", version="3.18.0"),
        "SECOND": make_snapshotting_release(folder / "second.tar.gz", schema="schema-2", version="3.19.0"),
    }


@pytest.fixture
def site(bench, capsys, releases):
    bench.control("DELETE", "/faults")
    if bench.release != releases["FIRST"]:
        bench.release = releases["FIRST"]
        assert bench.install(capsys).code == 0
        assert bench.run(capsys, "backup", "--sandbox").code == 0
    return bench


def interrupted(site, words: list[str], held: str, number: int) -> Outcome:
    method, path = held.split()
    site.control("POST", "/faults", {"method": method, "path": path, "hold": True})
    with site.spawn(*words) as process:
        wait_for(lambda: site.control("GET", "/")["held"] or process.poll() is not None, held)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    site.control("DELETE", "/faults")
    wait_for(lambda: not site.control("GET", "/")["held"], "the request to end")
    return Outcome(process.returncode, out, err)


@pytest.mark.parametrize(("given", "held", "number", "message"), MOMENTS)
def test_it_says_that_no_server_runs_and_names_the_command_that_goes_on(
    site, capsys, releases, given, held, number, message
):
    words = [str(releases.get(word, word)) for word in given.split()]
    words += ["--sandbox", "--json"]

    ended = interrupted(site, words, held, number)

    assert ended.code == 130
    assert f"Interrupted. {message}" in " ".join(ended.err.split())
    assert_no_accident(ended)
    error = ended.data["error"]
    assert message in error["what"]
    assert f"do this  {error['remedy']}" in ended.err
    journal = (site.state_folder / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["event"] == "interrupted"
    command = shlex.split(error["remedy"])
    assert command[-len(words) :] == words
    again = site.run(capsys, *command[-len(words) :])
    assert again.code == 0, again.err
    if "uninstall" in words:
        assert not site.owner().get("deployments")
    else:
        assert running(site)["state"] == "started"
        assert opens(site, stored(site)) == 200


def test_on_the_way_back_from_an_upgrade_that_is_what_goes_on(site, capsys):
    bench = site
    volume_of(bench).joinpath("db").write_text("schema-1\n")  # whatever was upgraded before
    assert bench.install(capsys, "--replace").code == 0
    broken = make_snapshotting_release(bench.folder / "broken.tar.gz", schema="schema-3", version="4.0.0")
    volume_of(bench).joinpath("break-server-schema-3").touch()
    words = ["upgrade", "--sandbox", "--json", "--yes", "--no-rehearsal", "--release", str(broken)]
    bench.control("POST", "/faults", {"method": "POST", "path": "/projects/upload$", "skip": 1, "hold": True})
    with bench.spawn(*words) as process:
        wait_for(lambda: bench.control("GET", "/")["held"], "the former project to be uploaded again", seconds=60)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    bench.control("DELETE", "/faults")

    assert process.returncode == 130
    remedy = json.loads(out)["error"]["remedy"]
    assert remedy.endswith("upgrade --roll-back --sandbox")
    assert "No server runs." in err
    assert bench.run(capsys, "upgrade", "--roll-back", "--sandbox", "--yes").code == 0
    assert opens(bench, stored(bench)) == 200


def test_a_terminal_that_hangs_up_does_not_keep_it_from_ending_in_order(site, capsys):
    """The kernel sends SIGHUP, and every write to that terminal fails from then on."""
    bench = site
    volume_of(bench).joinpath("db").write_text("schema-1\n")  # whatever was upgraded before
    assert bench.install(capsys, "--replace").code == 0
    bench.control("POST", "/faults", {"method": "POST", "path": "/deployments$", "hold": True})
    ours, theirs = os.openpty()
    with bench.spawn(
        "rotate-token", "--restart", "--yes", "--sandbox", stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        wait_for(lambda: bench.control("GET", "/")["held"], "the start")
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as to the session's leader, which the test cannot easily be
        assert process.wait(60) == 130
    bench.control("DELETE", "/faults")
    journal = (bench.state_folder / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["event"] == "interrupted"
    assert bench.run(capsys, "rotate-token", "--sandbox").code == 0
