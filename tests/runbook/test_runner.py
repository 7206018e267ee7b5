"""The runner: order, consent, the end of a run, and what reaches the journal."""

from __future__ import annotations

import json

import pytest
from runbook_support import context

from mlflow_ae5_deploy.common.clock import SystemClock
from mlflow_ae5_deploy.common.errors import Conflict, Locked, PartlyDone, StageFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import RunOptions
from mlflow_ae5_deploy.engine.executor import recorded, run
from mlflow_ae5_deploy.engine.stage import Changes, NoChange, Stage
from tests.manual_clock import ManualClock


class Scripted(Stage):
    """A stage with a given diff that notes what is asked of it."""

    def __init__(self, number, found, *, fail=None):
        self.number, self.name = number, f"stage-{number}"
        self.found, self.fail, self.done = found, fail, []

    def observe(self, context):
        self.done.append("observe")
        return "state"

    def diff(self, state):
        return self.found

    def apply(self, change, state, context):
        self.done.append(change.phrase)
        if self.fail:
            raise self.fail

    def verify(self, context):
        self.done.append("verify")
        return "seen"


class CreateThing(Change):
    verb, resource = "create", "thing"


class ReplaceThing(Change):
    verb, resource = "replace", "thing"


DOWNTIME = (Consequence(Impact.DOWNTIME, "the thing is down"),)
CREATE = Changes((CreateThing(name="a", reason="it is missing"),))
WEIGHTY = Changes((ReplaceThing(name="a", reason="it differs", consequences=DOWNTIME),))
NOTHING = NoChange("it is there")


def journal(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_stages_run_in_order_and_say_why(tmp_path):
    first, second = Scripted(1, NOTHING), Scripted(2, CREATE)

    result = run([first, second], context(tmp_path))

    assert [(s.outcome, s.reason) for s in result.stages] == [("unchanged", "it is there"), ("changed", "seen")]
    assert second.done == ["observe", "create thing a", "verify"]
    assert result.changed
    assert result.error is None


def test_a_failing_stage_ends_the_run_and_is_in_the_result(tmp_path):
    failing, never = Scripted(1, CREATE, fail=StageFailed("No.", stage=1)), Scripted(2, CREATE)

    result = run([failing, never], context(tmp_path))

    assert [s.outcome for s in result.stages] == ["failed"]
    assert result.error.exit_code == 20
    assert never.done == []


class Tolerant(Scripted):
    """Its changes may fail; `broken`: its verification fails as well."""

    def __init__(self, fail, *, broken=False):
        super().__init__(1, CREATE, fail=fail)
        self.broken = broken

    def can_fail(self, change, state):
        return True

    def partly_done(self, failed, state, context):
        self.done.append("left")
        return PartlyDone("a is left")

    def verify(self, context):
        if self.broken:
            raise StageFailed("not there", stage=1)
        return super().verify(context)


PARTLY = [
    ("a change that may fail", StageFailed("no", stage=1), False, PartlyDone, ["changed"], True),
    ("the lock is lost", Locked("no"), False, Locked, [], False),
    ("and its verification fails", StageFailed("no", stage=1), True, StageFailed, [], False),
]


@pytest.mark.parametrize(("case", "fail", "broken", "error", "rest", "only_partly"), PARTLY, ids=[r[0] for r in PARTLY])
def test_a_change_that_may_fail_ends_no_run(tmp_path, case, fail, broken, error, rest, only_partly):
    stage, after = Tolerant(fail, broken=broken), Scripted(2, CREATE)

    result = run([stage, after], context(tmp_path))

    assert type(result.error) is error
    assert [item.outcome for item in result.stages] == ["failed", *rest]
    assert result.only_partly is only_partly
    assert ("left" in stage.done) is not isinstance(fail, Locked)  # what is left is recorded before the verification


def test_a_dry_run_applies_nothing_and_writes_nothing(tmp_path):
    stage = Scripted(1, CREATE)
    where = context(tmp_path / "never-made")
    where.options = RunOptions(dry=True)
    where.journal._read_only = True

    result = run([stage], where)

    assert [s.outcome for s in result.stages] == ["planned"]
    assert result.pending
    assert stage.done == ["observe"]
    assert not (tmp_path / "never-made").exists()


@pytest.mark.parametrize("agreed", [True, False])
def test_what_interrupts_needs_consent(tmp_path, agreed):
    stage = Scripted(6, WEIGHTY)
    where = context(tmp_path)
    questions = []
    where.options = RunOptions(consent=lambda changes: questions.append(changes) or agreed)

    result = run([stage], where)

    assert [a.phrase for a in questions[0]] == ["replace thing a"]
    assert ("replace thing a" in stage.done) is agreed
    if not agreed:
        assert isinstance(result.error, Conflict)
        assert result.error.what == "Not confirmed: replace thing a."


def test_the_time_at_a_question_is_not_part_of_a_run(tmp_path):
    time = ManualClock()
    clock = SystemClock(time.monotonic)
    where = context(tmp_path)

    def thinks(_changes):
        with clock.asking():
            time.sleep(600)
        return True

    class Slow(Scripted):
        def apply(self, change, state, context):
            time.sleep(7)

    where.clock, where.options = clock, RunOptions(consent=thinks)
    with recorded(where):
        result = run([Slow(6, WEIGHTY)], where)

    assert (result.seconds, result.stages[0].seconds) == (7, 7)
    assert journal(tmp_path)[-1]["seconds"] == 7
    assert clock.monotonic() == 607


def test_every_intent_is_on_disk_before_its_effect(tmp_path):
    where = context(tmp_path)
    seen = []

    class Looks(Scripted):
        def apply(self, change, state, context):
            seen.extend(line["event"] for line in journal(tmp_path))

    with recorded(where):
        run([Looks(1, CREATE)], where)

    assert seen == ["begin", "intent"]
    assert [line["event"] for line in journal(tmp_path)] == ["begin", "intent", "done", "end"]
    assert journal(tmp_path)[-1]["outcome"] == "done"


def test_an_interrupt_is_noted_and_passed_on(tmp_path):
    where = context(tmp_path)

    with pytest.raises(KeyboardInterrupt), recorded(where):
        run([Scripted(1, CREATE, fail=KeyboardInterrupt())], where)

    assert journal(tmp_path)[-1]["event"] == "interrupted"


def test_a_bug_is_not_dressed_up_as_a_failed_stage(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run([Scripted(1, CREATE, fail=ZeroDivisionError())], context(tmp_path))


def test_secrets_do_not_reach_the_journal(tmp_path):
    Secret("correct-horse-battery")
    failing = Scripted(1, CREATE, fail=StageFailed("it said correct-horse-battery", stage=1))

    run([failing], context(tmp_path))

    assert "correct-horse" not in (tmp_path / "journal.jsonl").read_text()


def test_the_journal_is_private(tmp_path):
    where = context(tmp_path / "new")
    with recorded(where):
        run([Scripted(1, NOTHING)], where)

    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "journal.jsonl").stat().st_mode & 0o777 == 0o600
