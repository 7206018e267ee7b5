"""Ctrl-C, SIGTERM and SIGHUP while no server runs: the message says so, and names the command that finishes."""

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


def interrupted(site, words: list[str], held: str, number: int, skip: int = 0) -> Outcome:
    with site.held(words, *held.split(), skip=skip) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=200)
    return Outcome(process.returncode, out, err)


@pytest.mark.parametrize(("given", "held", "number", "message"), MOMENTS)
def test_an_interruption_without_a_server_names_the_command_to_resume(
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
    if given.startswith("upgrade"):
        assert "The upgrade has not changed the database." in error["what"]
        assert " upgrade --roll-back --sandbox   # to return to the previous release\n" in ended.err
    command = shlex.split(error["remedy"])
    assert command[-len(words) :] == words
    again = site.run(capsys, *command[-len(words) :])
    assert again.code == 0, again.err
    if "uninstall" in words:
        assert not site.owner().get("deployments")
    else:
        assert running(site)["state"] == "started"
        assert opens(site, stored(site)) == 200


def test_an_interrupted_rollback_is_finished_by_a_rollback(site, capsys):
    bench = site
    volume_of(bench).joinpath("db").write_text("schema-1\n")  # whatever was upgraded before
    assert bench.install(capsys, "--replace").code == 0
    broken = make_snapshotting_release(bench.folder / "broken.tar.gz", schema="schema-3", version="4.0.0")
    volume_of(bench).joinpath("break-server-schema-3").touch()
    words = ["upgrade", "--sandbox", "--json", "--yes", "--no-rehearsal", "--release", str(broken)]

    ended = interrupted(bench, words, "POST /projects/upload$", signal.SIGTERM, skip=1)  # of the previous project

    assert ended.code == 130
    assert ended.data["error"]["remedy"].endswith("upgrade --roll-back --sandbox")
    assert "upgrade --roll-back --sandbox   # to finish\n" in ended.err
    assert "No server runs." in ended.err
    assert bench.run(capsys, "upgrade", "--roll-back", "--sandbox", "--yes").code == 0
    assert opens(bench, stored(bench)) == 200


def test_a_closed_terminal_does_not_prevent_an_orderly_end(site, capsys):
    """The kernel sends SIGHUP, and every write to that terminal fails from then on."""
    bench = site
    volume_of(bench).joinpath("db").write_text("schema-1\n")  # whatever was upgraded before
    assert bench.install(capsys, "--replace").code == 0
    ours, theirs = os.openpty()
    words = ("rotate-token", "--restart", "--yes", "--sandbox")
    terminal = {"stdout": theirs, "stderr": theirs, "start_new_session": True}
    with bench.held(words, "POST", "/deployments$", **terminal) as process:
        os.close(theirs)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as to the session's leader, which the test cannot easily be
        assert process.wait(60) == 130
    journal = (bench.state_folder / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["event"] == "interrupted"
    assert bench.run(capsys, "rotate-token", "--sandbox").code == 0
