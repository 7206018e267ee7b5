"""Rendering a rehearsal: every migration by its revision, with its author's description."""

from __future__ import annotations

import io

import pytest

from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import UpgradeReport
from mlflow_ae5_deploy.jobs.result import JobResult
from mlflow_ae5_deploy.operations.upgrade.apply import UpgradeResult, down_for
from mlflow_ae5_deploy.operations.upgrade.plan import UpgradePlan
from mlflow_ae5_deploy.operations.verify import Check, Verification
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.upgrade import show_changes, show_passed, show_rehearsal, show_upgraded
from tests.runbook.runbook_support import OURS


def test_migrations_are_shown_with_their_descriptions():
    out = io.StringIO()
    migrations = [{"revision": "867495a8f9d4", "what": "add trace tables"}, {"revision": "bf29a5ff90ea"}]
    report = read(UpgradeReport, {"outcome": "rehearsed", "migrations": migrations})

    show_rehearsal(Reporter(out=out, err=out), JobResult("a2-1", "completed", report, "the schema would change"))

    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[1:] == ["867495a8f9d4  add trace tables", "bf29a5ff90ea"]


STEP = {"revision": "b", "what": "x"}
# the rehearsal's report; None: not rehearsed -> what the server is down for
REHEARSALS = [
    (None, "a last snapshot, the migration (not rehearsed) and the start"),
    (
        {"revision": "a", "expected_revision": "b", "migrations": [STEP], "migration_seconds": 0.2},
        "a last snapshot, the migration (0.2 s on a copy) and the start",
    ),
    (
        {"revision": "a", "expected_revision": "b", "migrations": [STEP]},
        "a last snapshot, the migration (duration unknown) and the start",
    ),
    (
        {"revision": "a", "expected_revision": "a", "migrations": [], "migration_seconds": 0.0},
        "a last snapshot and the start (no migration needed)",
    ),
    ({"revision": "a", "expected_revision": "a"}, "a last snapshot and the start (no migration needed)"),
    ({}, "a last snapshot, the migration (duration unknown) and the start"),
]


@pytest.mark.parametrize(("fields", "words"), REHEARSALS)
def test_the_downtime_names_a_duration_only_where_one_was_measured(fields, words):
    rehearsed = None
    if fields is not None:
        report = read(UpgradeReport, {"outcome": "rehearsed", **fields})
        rehearsed = JobResult("a2-1", "completed", report, "")

    assert down_for(rehearsed) == f"the server is down for {words}"


def test_an_unknown_duration_of_a_rehearsal_is_not_zero():
    out = io.StringIO()
    fields = {"outcome": "rehearsed", "revision": "a", "expected_revision": "b", "migrations": [STEP]}
    report = read(UpgradeReport, fields)

    show_rehearsal(Reporter(out=out, err=out), JobResult("a2-1", "completed", report, ""))

    assert "a → b (1 migration, an unknown time on a copy)" in out.getvalue()


@pytest.mark.parametrize(
    ("revisions", "words"),
    [
        (("s1", "s2"), "Rehearsal passed: the migration works on a copy of the data. The server was not started."),
        (("s2", "s2"), "The server was not started. Nothing was changed. The job took 2.5 s."),
    ],
)
def test_a_rehearsal_ends_with_a_verdict(revisions, words):
    out, (before, after) = io.StringIO(), revisions
    report = read(UpgradeReport, {"revision": before, "expected_revision": after, "seconds": 2.5})

    show_passed(Reporter(out=out, err=out), JobResult("a2-1", "completed", report, "passed"))

    assert words in " ".join(out.getvalue().split())


def test_an_upgrade_counts_the_checks_that_passed():
    out, checks = io.StringIO(), [Check(f"check {number}", True, "", 0.1) for number in range(9)]
    done = UpgradeResult("S1", None, Verification("https://it", checks), "old.tar.gz", 12.0)

    show_upgraded(Reporter(out=out, err=out), done, "release 2", "mlflow-ae5-deploy")

    assert out.getvalue().startswith("All 9 checks passed.\n")
    assert "Works until retention or `backup prune` deletes snapshot S1." in out.getvalue()


@pytest.mark.parametrize(
    ("installed", "same", "words"),
    [
        ("release mine.tar.gz", False, "mine.tar.gz → bundled 0.1.0"),
        ("release mine.tar.gz", True, "mine.tar.gz, the same content as bundled 0.1.0 (unchanged)"),
        ("bundled release 0.1.0", True, "bundled 0.1.0 (unchanged)"),
    ],
)
def test_the_release_differs_or_it_does_not(installed, same, words):
    out = io.StringIO()
    plan = UpgradePlan(OURS, None, (installed, "bundled release 0.1.0"), ("3", "3"), same, True)
    show_changes(Reporter(out=out), plan)
    assert f"  Release   {words}\n" in out.getvalue()


RELEASE = "bundled release 0.1.0"
SUMMARIES = [
    (("release 1", "release 2"), ("variable A: 1 → 2",), "release 1 → release 2"),
    ((RELEASE, RELEASE), ("variable A: 1 → 2",), "variable A: 1 → 2"),
    ((RELEASE, RELEASE), ("variable A: 1 → 2", "file x: added"), f"2 differences, the release stays {RELEASE}"),
    ((RELEASE, RELEASE), (), f"other content, the release stays {RELEASE}"),
]


@pytest.mark.parametrize(("release", "differences", "words"), SUMMARIES, ids=[words for *_, words in SUMMARIES])
def test_the_question_says_what_changes(release, differences, words):
    plan = UpgradePlan(OURS, None, release, ("3", "3"), False, True, differences)
    assert plan.summary == words
