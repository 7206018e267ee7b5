"""Stage 13: what is shared, what is taken back, and what is left alone."""

from __future__ import annotations

import pytest
from runbook_support import context

from mlflow_ae5_deploy.runbook.stages.s13_sharing import SharingStage, SharingState

EVERYONE, TEAM, ANN = ("group", "everyone"), ("group", "team"), ("user", "ann")


def report(present, desired, ours=()):
    return SharingState("a2-x", frozenset(present), frozenset(desired), frozenset(ours))


ROWS = [
    ("nothing shared yet", report([], [EVERYONE]), ["share with group everyone"], 0),
    ("as wanted", report([EVERYONE], [EVERYONE]), [], 0),
    ("a user too", report([EVERYONE], [EVERYONE, ANN]), ["share with user ann"], 0),
    (
        "narrowed after we shared it widely",
        report([EVERYONE], [TEAM], [EVERYONE]),
        ["share with group team", "stop sharing with group everyone"],
        0,
    ),
    ("somebody else added a person", report([EVERYONE, ANN], [EVERYONE]), [], 1),
    ("shared with nobody, as wanted", report([], []), [], 0),
]


@pytest.mark.parametrize(("case", "seen", "phrases", "warnings"), ROWS, ids=[row[0] for row in ROWS])
def test_what_follows(tmp_path, case, seen, phrases, warnings):
    decision = SharingStage().plan(seen, context(tmp_path))

    assert [action.phrase for action in decision.actions] == phrases
    assert len(decision.warnings) == warnings
