"""What is said of the gap: only what was observed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.operations.token_downtime import PreviousToken, at_most, message, seconds

STORED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ISSUED = STORED - timedelta(seconds=2)
SINCE = STORED - timedelta(seconds=90)
ROWS = [
    (PreviousToken("works"), 0.0, 2.0, "was not tried"),
    (PreviousToken("restart", SINCE), 90.0, None, "from the stop of the former deployment"),
    (PreviousToken("ended", SINCE), 90.0, None, "had ended at 2026-03-01 11:58:30 UTC"),
    (
        PreviousToken("replaced", SINCE),
        None,
        90.0,
        "not known: somebody else started this deployment at 2026-03-01 11:58:30",
    ),
    (PreviousToken("replaced"), None, None, "not known: somebody else"),
    (PreviousToken("refused"), None, None, "not known: the server did not accept"),
    (PreviousToken("unknown"), None, None, "not known: which token"),
]


@pytest.mark.parametrize(("previous", "gap", "bound", "words"), ROWS, ids=[f"{r[0].cause}-{r[2]}" for r in ROWS])
def test_only_what_was_observed(previous, gap, bound, words):
    most = at_most(previous, ISSUED, STORED)

    assert (seconds(previous, STORED), most) == (gap, bound)
    told = message(previous, most)
    assert words in told
    assert ("at most" in told) == (bound is not None)


def test_a_clock_that_was_set_back_makes_no_negative_gap():
    assert seconds(PreviousToken("restart", STORED + timedelta(seconds=5)), STORED) == 0.0
