"""`uninstall` asks a person: nobody waits for the answer, and only what was agreed to goes."""

from __future__ import annotations

import fcntl
import os
import pty
import sys

import pytest

from mlflow_ae5_deploy.cli.context import confirmed, consent
from mlflow_ae5_deploy.cli.options import CommonOptions, WriteOptions
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.resources.secrets import SetSecrets
from tests.cli.answers import assert_error
from tests.cli.bench import make_release
from tests.cli.terminal import Terminal, read_all, read_until


class Person(Terminal):
    """Answers at a terminal, or interrupts there, and may do something before."""

    def __init__(self, *answers, before=lambda: None):
        super().__init__()
        self.answers, self.before = list(answers), before

    def readline(self, *_args):
        self.before()
        answer = self.answers.pop(0)
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer + "\n"


@pytest.fixture
def answer(bench, capsys, monkeypatch):
    """Answers the question of `uninstall`, which does not hold the lock meanwhile."""

    def run(answer, before=lambda: None, *argv):
        asked = []

        def look_at_lock():
            with (bench.state_folder / "lock").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asked.append(True)
            before()

        monkeypatch.setattr(sys, "stdin", Person(answer, before=look_at_lock))
        ended = bench.run(capsys, "uninstall", "--sandbox", *argv)
        assert asked
        return ended

    return run


def history(bench, capsys):
    return bench.run(capsys, "history", "--sandbox", "--json").data["entries"]


def test_no_changes_nothing_and_does_not_suggest_yes(bench, capsys, answer):
    assert bench.install(capsys).code == 0
    before = bench.everything()
    bench.forget_calls()

    refused = answer("n")

    assert_error(refused, 14, "Not confirmed", "Nothing was changed.")
    assert "--yes" not in refused.err
    assert bench.writes() == []
    assert bench.everything() == before


@pytest.mark.parametrize(
    ("answers", "agreed", "explained"),
    [
        (("maybe", "j", "YES"), True, 2),
        (("ja", "no"), False, 1),
        (("",), False, 0),
        ((" y ",), True, 0),
    ],
)
def test_another_answer_is_explained_and_asked_again(capsys, monkeypatch, answers, agreed, explained):
    person = Person(*answers)
    monkeypatch.setattr(sys, "stdin", person)

    assert confirmed(CommonOptions(), "Delete it?") is agreed

    err = capsys.readouterr().err
    assert err.count("Answer y (yes) or n (no); Enter means no.") == explained
    assert err.count("Delete it? [y/N]:") == explained + 1
    assert person.answers == []


def test_the_same_is_asked_once_in_a_run(capsys, monkeypatch):
    """As by `upgrade`, which asks before it stops the server, and whose stages come upon the same change later."""
    purged, more = (Consequence(Impact.DATA, text) for text in ("purged after 7 days", "purged after 1 day"))
    changes = [SetSecrets(reason="", names=("A",), consequences=(found,)) for found in (purged, more)]
    person = Person("no", "yes", "no")
    monkeypatch.setattr(sys, "stdin", person)

    ask = consent(WriteOptions())

    assert [ask([changes[0]]), ask([changes[0]]), ask([changes[0]]), ask(changes)] == [False, True, True, False]
    assert person.answers == []
    assert capsys.readouterr().err.count("purged after 7 days") == 3


def test_what_was_typed_before_the_question_is_no_answer_to_it(bench, capsys):
    assert bench.install(capsys).code == 0
    terminal, end = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), end)
    with bench.held(["uninstall", "--sandbox"], "GET", "/jobs$", **streams) as process:
        os.close(end)
        os.write(terminal, b"y\n")
        bench.control("DELETE", "/faults")
        read_until(terminal, "Uninstall the server? [y/N]")
        os.write(terminal, b"n\n")
        assert "Not confirmed" in read_all(terminal)
        assert process.wait(timeout=200) == 14
    assert len(bench.owner().get("deployments")) == 1


def test_an_interrupted_question_is_no_run_that_was_killed(bench, capsys, answer):
    assert bench.install(capsys).code == 0
    runs = len(history(bench, capsys))

    interrupted = answer(KeyboardInterrupt)

    assert interrupted.code == 130
    assert len(history(bench, capsys)) == runs


def test_an_interrupted_question_of_install_is_recorded_as_an_interruption(bench, capsys, monkeypatch):
    assert bench.install(capsys).code == 0

    monkeypatch.setattr(sys, "stdin", Person(KeyboardInterrupt))
    release = make_release(bench.folder, "changed.tar.gz", notes__txt="another content\n")
    interrupted = bench.run(capsys, "install", "--sandbox", "--release", str(release))

    assert interrupted.code == 130, interrupted.err
    assert history(bench, capsys)[0]["outcome"] == "interrupted"


def test_what_came_up_during_the_question_does_not_go(bench, capsys, answer):
    assert bench.install(capsys).code == 0
    (job,) = bench.owner().get("jobs")
    assert bench.run(capsys, "schedule-gc", "--sandbox", "--remove").code == 0

    def somebody() -> None:
        assert bench.run(capsys, "schedule-gc", "--sandbox").code == 0

    refused = answer("y", somebody)

    assert_error(refused, 14, "more to delete than you confirmed", "job ")
    assert len(bench.owner().get("deployments")) == 1
    assert [j["name"] for j in bench.owner().get("jobs")] == [job["name"]]


def test_yes_takes_it_down(bench, capsys, answer):
    assert bench.install(capsys).code == 0
    (deployment,) = bench.owner().get("deployments")

    done = answer("y")

    assert done.code == 0, done.err
    assert done.err.count("Stays (-v shows where): the account") == 1
    assert deployment["name"] in done.err
    assert bench.owner().get("deployments") == []


def test_history_names_the_new_account_and_how_runs_ended(bench, capsys):
    assert bench.install(capsys).code == 0
    assert bench.run(capsys, "verify", "--sandbox").code in (0, 21)
    assert bench.run(capsys, "share", "--sandbox", "--user", "nobody-of-that-name").code == 16
    shown = bench.run(capsys, "history", "--sandbox", "--limit", "0", "-v").out

    assert "+ create account mlflow-service" in shown
    (verified,) = [line for line in shown.splitlines() if "UTC  verify: " in line]
    assert "done" in verified or "failed (verification failed)" in verified
    (shared,) = [line for line in shown.splitlines() if "UTC  share: " in line]
    assert "failed (refused)" in shared


def test_a_person_who_says_no_to_an_install_is_not_told_how_to_say_yes(bench, capsys, monkeypatch):
    assert bench.install(capsys).code == 0

    monkeypatch.setattr(sys, "stdin", Person("n"))
    release = make_release(bench.folder, "declined.tar.gz", notes__txt="another content\n")
    refused = bench.run(capsys, "install", "--sandbox", "--release", str(release))

    assert_error(refused, 14, "Not confirmed: replace project mlflow.tracking.server.")
    assert "--replace" not in refused.err
    assert "Replace project mlflow.tracking.server? [y/N]" in refused.err
    assert refused.err.count("file notes.txt: added") == 1
    assert "not confirmed" in bench.run(capsys, "history", "--sandbox", "-n", "1").out
