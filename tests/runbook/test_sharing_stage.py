"""Stage 13: what is shared, what is taken back, and what is left alone."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.errors import StageFailed
from mlflow_ae5_deploy.resources.sharing import ShareWith, StopSharing
from mlflow_ae5_deploy.runbook.stages.s13_sharing import SharingStage, SharingState
from tests.runbook.runbook_support import context, deployment

EVERYONE, TEAM, ANN = ("group", "everyone"), ("group", "team"), ("user", "ann")


def shared(present, desired, ours=()):
    return SharingState("a2-x", frozenset(present), frozenset(desired), frozenset(ours))


ROWS = [
    ("nothing shared yet", shared([], [EVERYONE]), [(ShareWith, *EVERYONE)], 0),
    ("as configured", shared([EVERYONE], [EVERYONE]), [], 0),
    ("a user too", shared([EVERYONE], [EVERYONE, ANN]), [(ShareWith, *ANN)], 0),
    (
        "narrowed after we shared it widely",
        shared([EVERYONE], [TEAM], [EVERYONE]),
        [(ShareWith, *TEAM), (StopSharing, *EVERYONE)],
        0,
    ),
    ("somebody else added a person", shared([EVERYONE, ANN], [EVERYONE]), [], 1),
    ("shared with nobody, as configured", shared([], []), [], 0),
]


@pytest.mark.parametrize(("case", "state", "changes", "warnings"), ROWS, ids=[row[0] for row in ROWS])
def test_changes_that_follow_from_a_state(case, state, changes, warnings):
    diff = SharingStage().diff(state)

    assert [(type(change), change.type, change.name) for change in diff.changes] == changes
    assert len(diff.warnings) == warnings


def test_the_error_names_nobody_where_the_platform_lists_nobody(tmp_path):
    run = context(tmp_path, sharing={"groups": ["team"]})
    run.outputs.deployment = deployment()
    with pytest.raises(StageFailed, match=r"than were set: nobody\."):
        SharingStage().verify(run)
