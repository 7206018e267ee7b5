"""The pure parts behind schedule-gc, logs and share, as rows of data."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_ae5_deploy.ae5.models import Project, Run
from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import DeadlineExceeded
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import Journal
from mlflow_ae5_deploy.jobs import one_off
from mlflow_ae5_deploy.jobs.contract import last_line
from mlflow_ae5_deploy.jobs.logs import CUT, LogTail, follow_run
from mlflow_ae5_deploy.jobs.one_off import surplus
from mlflow_ae5_deploy.jobs.reports import GcReport
from mlflow_ae5_deploy.jobs.result import read_result
from mlflow_ae5_deploy.operations.logs import newest
from mlflow_ae5_deploy.operations.schedule_gc import differences
from mlflow_ae5_deploy.operations.share import kept_by_install, undone_by_install
from mlflow_ae5_deploy.operations.verify import purged
from mlflow_ae5_deploy.render.schedule_gc import next_times, to_keep
from mlflow_ae5_deploy.resources.job_specs import gc_job
from tests.json_bombs import BOMBS
from tests.manual_clock import ManualClock
from tests.no_progress import NoProgress

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OURS = Project(id="a0-" + "1" * 32, name="mlflow.tracking.server", owner="service", resource_profile="default")


def run(number: int = 1, **changes: Any) -> Run:
    values: dict[str, Any] = {"id": f"a2-{number:032x}", "name": "gc", "owner": "service", "project_id": OURS.id}
    values |= {"state": "completed", "created": NOON + timedelta(minutes=number)}
    return Run(**{**values, **changes})


def report(**report: Any) -> str:
    return "collecting\n" + json.dumps({"command": "GarbageCollection", **report}) + "\n"


RUNS = {"runs": {"due": 3, "removed": 3, "remaining": 0}}
SKIPPED = {"skipped": [{"id": "r1", "kind": "run", "why": "a link leads out"}], "skipped_total": 4}
RESULTS = [
    (
        "what it freed",
        "completed",
        report(outcome="done", exit_code=0, bytes=3_500_000, **RUNS),
        True,
        "deleted 3 runs; 3.5 MB of artifacts",
    ),
    (
        "what it would free, and what stays",
        "completed",
        report(outcome="dry-run", exit_code=0, runs={"due": 3}, bytes=12, **SKIPPED),
        True,
        "would delete 3 runs; 12 bytes of artifacts; 4 skipped (run r1: a link leads out)",
    ),
    (
        "without the server",
        "completed",
        report(outcome="done", exit_code=0, server="x did not accept the token", **RUNS),
        True,
        "deleted 3 runs; the server was not used: x did not accept the token",
    ),
    (
        "not everything could be removed",
        "failed",
        report(outcome="incomplete", exit_code=23, bytes=0, **RUNS, **SKIPPED),
        False,
        "deleted 3 runs; 4 skipped (run r1: a link leads out)",
    ),
    ("collected", "completed", report(outcome="done", exit_code=0, **RUNS), True, "deleted 3 runs"),
    ("a dry run", "completed", report(outcome="dry-run", exit_code=0, runs={"due": 3}), True, "would delete 3 runs"),
    (
        "a dry run that cannot remove all",
        "completed",
        report(outcome="dry-run", exit_code=0, runs={"due": 3, "remaining": 1}),
        True,
        "would delete 2 runs",
    ),
    (
        "nothing had expired",
        "completed",
        report(outcome="done", exit_code=0, runs={"due": 0, "removed": 0, "remaining": 0}, experiments={"due": 0}),
        True,
        "no run or experiment to delete",
    ),
    (
        "orphans",
        "completed",
        report(outcome="done", exit_code=0, orphans={"mode": "remove", "removed": 1, "removed_bytes": 5}, **RUNS),
        True,
        "deleted 3 runs; 1 orphaned artifact folder (5 bytes)",
    ),
    (
        "some of several kinds",
        "failed",
        report(
            outcome="incomplete",
            exit_code=23,
            runs={"due": 2, "removed": 1, "remaining": 1},
            experiments={"due": 1, "removed": 1, "remaining": 0},
        ),
        False,
        "deleted 1 of 2 runs, 1 experiment",
    ),
    (
        "the database is in use",
        "completed",
        report(outcome="skipped", exit_code=0),
        True,
        "skipped: another job or a starting server uses the database",
    ),
    ("a release that does not report", "completed", "collecting\n", False, "no report; it ends with `collecting`"),
    (
        "crashed, its exit code lost",
        "completed",
        "Traceback (most recent call last):\nOperationalError: disk I/O error\n\n",
        False,
        "no report; it ends with `OperationalError: disk I/O error`",
    ),
    ("no log at all", "completed", "", False, "its log has no report; it is empty"),
    (
        "the job failed, the platform did not see it",
        "completed",
        report(outcome="failed", exit_code=3),
        False,
        "code 3",
    ),
    ("an exit code against the words", "completed", report(outcome="done", exit_code=5), False, "code 5"),
    ("failed with its reason", "failed", report(outcome="failed", exit_code=3, error="no token"), False, "no token"),
    (
        "a restore was interrupted",
        "failed",
        report(outcome="failed", exit_code=75, error="a restore has not ended", hint="run Restore again"),
        False,
        "a restore has not ended",
    ),
    ("killed without a word", "failed", "collecting\n", False, "the run is failed"),
    ("stopped", "stopped", report(outcome="interrupted", exit_code=143), False, "interrupted"),
    ("stopped though it was done", "stopped", report(outcome="done", exit_code=0), False, "the run is stopped"),
    ("an error of the platform", "error", "", False, "the run is error"),
]


@pytest.mark.parametrize(("case", "state", "log", "succeeded", "words"), RESULTS, ids=[row[0] for row in RESULTS])
def test_a_run_has_a_result_and_a_sentence(case, state, log, succeeded, words):
    job_result = read_result(GcReport, run(state=state), log)

    assert job_result.succeeded is succeeded
    assert words in job_result.message


REPORTS = [
    ("the last one counts", '{"outcome": "failed"}\n{"outcome": "done"}\n', "done"),
    ("text behind it", '{"outcome": "done"}\nbye\n', "done"),
    ("JSON of somebody else", '{"outcome": "done"}\n{"level": "info"}\n', "done"),
    ("truncated", '{"outcome": "done"}\n{"outcome": "fai', "done"),
    ("broken", "{not json}\n", None),
    ("a list", "[1]\n", None),
    *((case, '{"outcome": "done"}\n' + bomb.decode(), "done") for case, bomb in BOMBS.items()),
]


@pytest.mark.parametrize(("case", "log", "outcome"), REPORTS, ids=[row[0] for row in REPORTS])
def test_the_report_is_the_last_line_that_is_one(case, log, outcome):
    assert last_line(log).get("outcome") == outcome


TAILS = [
    ("grows by lines", ["a\n", "a\nb\n", "a\nb\nc\n"], ["a", "b", "c"]),
    ("half a line waits until it is whole", ["a\nb", "a\nbc\n"], ["a", "bc"]),
    ("the same again", ["a\n", "a\n"], ["a"]),
    ("an older answer for once", ["a\nb\n", "a\n", "a\nb\nc\n"], ["a", "b", "c"]),
    ("the beginning is lost", ["a\nb\nc\n", "b\nc\nd\n"], ["a", "b", "c", CUT, "b", "c", "d"]),
    ("everything is lost", ["a\n", "y\nz\n"], ["a", CUT, "y", "z"]),
    ("empty at first", ["", "", "a\n"], ["a"]),
]


@pytest.mark.parametrize(("case", "answers", "lines"), TAILS, ids=[row[0] for row in TAILS])
def test_what_is_new_in_a_log(case, answers, lines):
    tail = LogTail()

    assert [line for answer in answers for line in tail.feed(answer)] == lines


def test_a_log_that_lost_its_beginning_goes_on_where_it_was():
    tail, lines = LogTail(), [f"line {number}\n" for number in range(100)]

    shown = [*tail.feed("".join(lines[:60])), *tail.feed("".join(lines[30:]))]

    assert shown == [line.rstrip("\n") for line in lines]


def test_an_unfinished_last_line_is_shown_at_the_end():
    tail = LogTail()

    assert [tail.feed("a\nb"), tail.feed("a\nb", ended=True)] == [["a"], ["b"]]


def test_the_first_read_of_a_log_returns_the_last_lines():
    tail = LogTail(2)
    assert [tail.feed("a\nb\nc\n"), tail.feed("a\nb\nc\nd\ne\nf\n")] == [["b", "c"], ["d", "e", "f"]]


def test_a_log_that_starts_after_the_first_read_is_shown_whole():
    tail = LogTail(1)
    assert [tail.feed(""), tail.feed("a\nb\n")] == [[], ["a", "b"]]


def test_the_late_log_of_an_ended_run_is_cut_too():
    tail = LogTail(1)
    assert [tail.feed("", ended=True), tail.feed("a\nb", ended=True)] == [[], ["b"]]


KEEP = [
    ("fewer than kept", [run(1), run(2)], 3, []),
    ("the newest stay, in whatever order they come", [run(2), run(3), run(1)], 1, [2, 1]),
    ("none kept", [run(1), run(2)], 0, [2, 1]),
    ("active ones stay and do not count", [run(1), run(2, state="running"), run(3)], 1, [1]),
    ("those of unknown age stay and do not count", [run(1), run(2, created=None), run(3)], 1, [1]),
    ("failed and stopped ones are records too", [run(1, state="failed"), run(2, state="stopped")], 0, [2, 1]),
]


@pytest.mark.parametrize(("case", "runs", "keep", "gone"), KEEP, ids=[row[0] for row in KEEP])
def test_all_but_the_newest_records_are_surplus(case, runs, keep, gone):
    assert [item.id for item in surplus(runs, keep)] == [run(number).id for number in gone]


LATEST = [
    ("none", [], None),
    ("the newest of the project, of whatever job", [run(1), run(3, name="by hand"), run(2)], 3),
    ("not of another project", [run(1), run(5, project_id="a0-" + "2" * 32)], 1),
    ("by its name where the record names no project", [run(1), run(5, project_id="")], 5),
    ("and not by another name", [run(1), run(5, project_id="", name="other")], 1),
    ("a known age before an unknown one", [run(1), run(5, created=None)], 1),
]


@pytest.mark.parametrize(("case", "runs", "number"), LATEST, ids=[row[0] for row in LATEST])
def test_which_run_is_the_latest(case, runs, number):
    found = newest(runs, OURS, "gc")

    assert (found.id if found else None) == (run(number).id if number else None)


class TestAgainstTheConfiguration:
    def job(self, **gc):
        return gc_job(Settings.model_validate({"gc": gc}))

    def test_an_equal_job_has_no_differences(self):
        assert differences(self.job(schedule="*/10  * * * *"), self.job()) == []
        assert to_keep([], None) == []

    def test_every_difference_is_listed_with_the_lines_that_keep_it(self):
        found = differences(
            self.job(schedule="0 3 * * *", variables={"A": "it's", "B": "1"}), self.job(variables={"B": "1"})
        )

        assert [(item.setting, item.desired, item.configured) for item in found] == [
            ("gc.schedule", "0 3 * * *", "*/10 * * * *"),
            ("gc.variables.A", "it's", "not set"),
        ]
        assert to_keep(found, None) == ["gc:", "  schedule: '0 3 * * *'", "  variables:", "    A: 'it''s'"]
        assert to_keep(found, "prod")[:3] == ["profiles:", "  prod:", "    gc:"]

    def test_a_hidden_value_is_listed_and_never_shown(self):
        uri = Secret("postgresql://u:planted-password@h/d")
        desired = replace(self.job(), hidden=(("MLFLOW_BACKEND_STORE_URI", uri),))

        found = differences(desired, self.job())

        assert [item.hidden for item in found] == [True]
        assert to_keep(found, None) == []
        assert "planted" not in repr(found) + repr(desired)


def test_the_next_times_are_shown_in_both_time_zones():
    zone = timezone(timedelta(hours=5, minutes=30), "IST")

    assert next_times(parse_cron("30 20 * * *"), NOON, zone)[0] == ("2026-01-01 20:30 UTC", "2026-01-02 02:00 IST")


SHARES = [
    ([("user", "a")], set(), "users: [a]", ""),
    ([("user", "a"), ("group", "b")], set(), "groups: [b], users: [a]", ""),
    ([("group", "b")], {("group", "b")}, "", "set sharing.groups without them"),
    ([("group", "b"), ("user", "a")], {("group", "b")}, "users: [a]", "set sharing.groups without them"),
]


@pytest.mark.parametrize(("pairs", "configured", "after_adding", "after_removing"), SHARES)
def test_what_install_will_make_of_a_change_in_sharing(pairs, configured, after_adding, after_removing):
    added, removed = " ".join(kept_by_install(pairs, configured)), " ".join(undone_by_install(pairs, configured))

    assert (after_adding in added) if after_adding else added == ""
    assert (after_removing in removed) if after_removing else removed == ""


class Scripted:
    """Stands where Platform stands: a run that is never over, or not there."""

    def __init__(self, found: Run | None) -> None:
        self.found = found

    def run(self, run_id: str) -> Run | None:
        return self.found

    def run_log(self, run_id: str) -> str:
        return "working\n"


@pytest.mark.parametrize(("found", "seconds"), [(run(state="running"), 90.0), (None, 30.0)], ids=["hangs", "not there"])
def test_a_run_is_followed_until_its_deadline_and_no_longer(found, seconds):
    clock, lines = ManualClock(), []

    class Context:
        platform, progress = Scripted(found), NoProgress()

    Context.clock = clock
    with pytest.raises(DeadlineExceeded) as caught:
        follow_run(Context, run().id, lines.append, seconds=seconds)

    assert clock.elapsed == pytest.approx(seconds)
    assert lines == (["working"] if found else [])
    assert "logs --follow" in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "after 30 days"),
        ({"server": {"gc_ttl": "36h"}}, "after 36 h"),
        ({"gc": {"variables": {"MLFLOW_TRACKING_GC_TTL": "7d"}}}, "after 7 days"),
        ({"server": {"gc_ttl": "0s"}}, "at its next run"),
    ],
)
def test_verify_tells_when_its_data_is_purged(settings, words):
    assert purged(Settings(**settings)) == words


class StoppingPlatform:
    def __init__(self) -> None:
        self.stopped: list[str] = []

    def stop_run(self, run_id: str) -> None:
        self.stopped.append(run_id)

    def run(self, run_id: str) -> Run:
        return run(state="stopped" if run_id in self.stopped else "running")


def test_a_run_that_is_listed_as_active_more_than_once_is_stopped_once(tmp_path):
    platform, journal = StoppingPlatform(), Journal(tmp_path, ManualClock(), verb="backup")
    context: Any = SimpleNamespace(platform=platform, clock=ManualClock(), progress=NoProgress(), journal=journal)
    context.poll = partial(Context.poll, context)
    active = run(state="running")

    one_off.stop(context, [active, active])
    one_off.stop(context, [active])

    assert (platform.stopped, journal.effects) == ([active.id], 1)
