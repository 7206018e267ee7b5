"""The journal as runs of verbs."""

from __future__ import annotations

import json

import pytest

from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.jobs.runner import RunCommand
from mlflow_ae5_deploy.operations.history import history_of, interrupted_install, read
from mlflow_ae5_deploy.resources.deployment import RestartDeployment
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob
from mlflow_ae5_deploy.resources.token import IssueToken, StoreToken
from tests.manual_clock import ManualClock


def line(event, second=0, verb="install", who="a@b", **fields):
    time = f"2026-01-01T00:00:{second:02d}+00:00"
    return json.dumps({"time": time, "who": who, "verb": verb, "event": event, **fields})


def deleting(name):
    return DeleteJob(name=name, id=f"a1-{name}", purpose="backup", reason="requested").record()


def running(purpose):
    return RunCommand(name="Backup", purpose=purpose, reason="requested").record()


def storing(account):
    return StoreToken(name=account, reason="requested").record()


RESTART = RestartDeployment(name="x", reason="requested").record()
ISSUE = IssueToken(reason="requested").record()
BEGIN, END = line("begin"), line("end", 5, outcome="done", what="")
EFFECT = line("effect", 1, action="set", resource="secrets", name="A, B", account="service")
ROWS = [
    ("nothing", [], []),
    ("a whole run", [BEGIN, EFFECT, END], [("install", "done", ["set secrets A, B for service"], [])]),
    ("without a change", [BEGIN, END], [("install", "done", [], [])]),
    ("killed", [BEGIN, EFFECT], [("install", "unfinished", ["set secrets A, B for service"], [])]),
    ("killed, and run again", [BEGIN, BEGIN, END], [("install", "unfinished", [], []), ("install", "done", [], [])]),
    ("interrupted", [BEGIN, line("interrupted", 2)], [("install", "interrupted", [], [])]),
    (
        "failed at a stage, reported once",
        [BEGIN, line("failed", 1, stage=8, what="no luck"), line("end", 2, outcome="StageFailed", what="no luck")],
        [("install", "StageFailed", [], ["stage 8: no luck"])],
    ),
    (
        "failed with nothing before",
        [BEGIN, line("end", 2, outcome="Unreachable", what="no answer")],
        [("install", "Unreachable", [], ["no answer"])],
    ),
    (
        "one consumer failed",
        [BEGIN, line("failed", 1, account="dev", what="wrong password"), END],
        [("install", "done", [], ["dev: wrong password"])],
    ),
    (
        "an effect without a frame",
        [line("effect", verb="env", action="issue", resource="token of deployment", id="a2-1")],
        [("env", "noted", ["issue token of deployment (a2-1)"], [])],
    ),
    (
        "an id is shown, too",
        [BEGIN, line("effect", 1, action="stop", resource="deployment", name="x", id="a2-1"), END],
        [("install", "done", ["stop deployment x (a2-1)"], [])],
    ),
    (
        "two people at a time",
        [BEGIN, line("begin", who="c@d", verb="share"), EFFECT, line("end", 3, who="c@d", verb="share"), END],
        [("install", "done", ["set secrets A, B for service"], []), ("share", "done", [], [])],
    ),
    (
        "an intent is no change",
        [BEGIN, line("intent", 1, **RESTART), END],
        [("install", "done", [], [])],
    ),
    ("an end of nothing", [END], []),
    (
        "killed right after a stop was sent",
        [BEGIN, line("intent", 1, stage=8, **RESTART)],
        [("install", "unfinished", [], ["started to restart deployment x; result not recorded"])],
    ),
    (
        "killed between stop and start",
        [
            BEGIN,
            line("intent", 1, stage=7, **ISSUE),
            line("done", 1, stage=7, **ISSUE),
            line("intent", 1, stage=8, **RESTART),
            line("effect", 1, action="stop", resource="deployment", name="x", id="a2-1"),
        ],
        [
            (
                "install",
                "unfinished",
                ["stop deployment x (a2-1)"],
                ["started to restart deployment x; result not recorded"],
            )
        ],
    ),
    (
        "restarted, then killed",
        [
            BEGIN,
            line("intent", 1, **RESTART),
            line("effect", 1, action="stop", resource="deployment", name="x", id="a2-1"),
            line("effect", 1, action="start", resource="deployment", name="x", id="a2-2"),
            line("done", 2, **RESTART),
        ],
        [("install", "unfinished", ["stop deployment x (a2-1)", "start deployment x (a2-2)"], [])],
    ),
    (
        "interrupted when one of two jobs was gone",
        [
            BEGIN,
            line("intent", 1, **deleting("a")),
            line("effect", 1, action="delete", resource="job", name="a", id="a1-a"),
            line("done", 1, **deleting("a")),
            line("intent", 1, **deleting("b")),
            line("interrupted", 2),
        ],
        [
            (
                "install",
                "interrupted",
                ["delete job a (a1-a)"],
                ["started to delete the backup job (a1-b); result not recorded"],
            )
        ],
    ),
    (
        "a snapshot was made, and its verification killed",
        [
            BEGIN,
            line("intent", 1, **running("backup")),
            line("done", 1, **running("backup")),
            line("note", 1, action="backup", outcome="done", what="snapshot S1: 3 runs"),
            line("effect", 1, action="back up", resource="snapshot", name="S1"),
            line("intent", 1, **running("backup verify")),
        ],
        [
            (
                "install",
                "unfinished",
                ["back up snapshot S1"],
                ["started to run backup verify (Backup); result not recorded"],
            )
        ],
    ),
    (
        "a token for another account",
        [
            BEGIN,
            line("intent", 1, **storing("ann")),
            line("intent", 1, **storing("bob")),
            line("effect", 1, action="set", resource="secret", name="T", account="bob"),
            line("done", 1, **storing("bob")),
        ],
        [
            (
                "install",
                "unfinished",
                ["set secret T for bob"],
                ["started to store the token for ann; result not recorded"],
            )
        ],
    ),
]


@pytest.mark.parametrize(("case", "lines", "entries"), ROWS, ids=[row[0] for row in ROWS])
def test_the_journal_becomes_runs(case, lines, entries):
    found = history_of(lines)

    assert [(e.verb, e.outcome, e.changed, e.trouble) for e in found.entries] == entries
    assert found.unreadable == 0


def test_who_when_and_how_long():
    (entry,) = history_of([BEGIN, END]).entries

    assert (entry.who, entry.seconds, entry.began.isoformat()) == ("a@b", 5.0, "2026-01-01T00:00:00+00:00")


def test_the_time_at_a_question_is_not_counted():
    (entry,) = history_of([BEGIN, line("end", 55, outcome="done", what="", seconds=5.0)]).entries

    assert entry.seconds == 5.0


@pytest.mark.parametrize("broken", ["{", "[]", '"text"', "{}", '{"event": "begi'])
def test_lines_that_are_none_are_counted_and_passed_over(broken):
    found = history_of([BEGIN, broken, "", END])

    assert (len(found.entries), found.unreadable) == (1, 1)


def test_a_run_behind_a_torn_line_is_not_lost(tmp_path):
    """Also where it was appended to the torn line itself, as earlier versions did."""
    assert [e.verb for e in history_of([BEGIN, END, BEGIN[:40] + line("begin", verb="share")]).entries] == [
        "install",
        "share",
    ]
    path = tmp_path / "journal.jsonl"
    path.write_text(f"{BEGIN}\n{END}\n{BEGIN[:40]}")
    journal = Journal(tmp_path, ManualClock(), verb="rotate-token")

    journal.write("begin")
    journal.write("end", outcome="done")

    found = read(path)
    assert [(e.verb, e.outcome) for e in found.entries] == [("install", "done"), ("rotate-token", "done")]
    assert found.unreadable == 1


RESTORED = line("begin", 6, verb="restore --undo"), line("end", 7, verb="restore --undo", outcome="done")
ISSUED = line("effect", 6, verb="env", action="issue", resource="token")


@pytest.mark.parametrize(
    ("case", "lines", "second"),
    [
        ("interrupted", [BEGIN, line("interrupted", 4)], 4),
        ("killed", [BEGIN, line("effect", 3)], 0),
        ("done", [BEGIN, END], None),
        ("failed", [BEGIN, line("end", 5, outcome="StageFailed", what="x")], None),
        ("run again since", [BEGIN, line("interrupted", 4), BEGIN, END], None),
        ("completed by a restore", [BEGIN, line("interrupted", 4), *RESTORED], None),
        ("another verb since", [BEGIN, line("interrupted", 4), ISSUED], 4),
        ("another verb only", [*RESTORED], None),
        ("no journal", None, None),
    ],
)
def test_an_interrupted_install_is_seen_until_the_stages_run_again(tmp_path, case, lines, second):
    path = tmp_path / "journal.jsonl"
    if lines is not None:
        path.write_text("\n".join(lines))

    found = interrupted_install(path)

    assert (found.second if found else None) == second


def test_a_journal_that_is_not_there_is_empty(tmp_path):
    assert read(tmp_path / "journal.jsonl").entries == ()


def test_fields_of_a_wrong_type_are_left_out():
    hostile = '{"time": 7, "event": "begin", "who": [1], "verb": {}, "stage": "8", "what": 5}'

    (entry,) = history_of([hostile]).entries

    assert (entry.began, entry.who, entry.verb) == (None, "?", "?")
