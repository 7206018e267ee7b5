"""Which accounts get a new token: a row is options, a state, and the expected accounts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions, RotationState, decide

RIGHT = RotationState("a2-1", ("svc", "ann", "bob"), {"svc": "a2-1", "ann": "a2-1", "bob": "a2-1"})
ALL = ("svc", "ann", "bob")
PLAIN, NEEDED, RESTART, EVERYONE = (
    RotationOptions(),
    RotationOptions(if_needed=True),
    RotationOptions(restart=True),
    RotationOptions(everyone=True),
)

NEW_CONSUMER = replace(RIGHT, stored={"svc": "a2-1", "ann": "a2-1"})
RESTARTED_ELSEWHERE = replace(RIGHT, deployment_id="a2-2")
UNLISTED = replace(RIGHT, listed=False)
DUE = replace(RIGHT, due=True)
BOB_LEFT = replace(RIGHT, left=("bob",))
GC_LEFT = replace(RIGHT, left=())
INTERRUPTED = replace(RIGHT, stored={}, left=ALL)
LEFT_HAS_GONE = replace(RIGHT, left=("carl",))
NOTHING_LEFT = replace(LEFT_HAS_GONE, gc_tested=True)

ROWS = [
    ("requested", PLAIN, RIGHT, ALL, True),
    ("not needed", NEEDED, RIGHT, (), False),
    ("nobody has one", NEEDED, replace(RIGHT, stored={}), ALL, True),
    ("restarted by somebody else", NEEDED, RESTARTED_ELSEWHERE, ALL, True),
    ("the secret was deleted", NEEDED, UNLISTED, ("svc",), True),
    ("a new consumer", NEEDED, NEW_CONSUMER, ("bob",), True),
    ("a new consumer, requested", PLAIN, NEW_CONSUMER, ALL, True),
    ("it ends soon", NEEDED, DUE, ALL, True),
    ("it ends soon and one is left", PLAIN, replace(BOB_LEFT, due=True), ALL, True),
    ("one was left", PLAIN, BOB_LEFT, ("bob",), True),
    ("one was left, by cron", NEEDED, BOB_LEFT, ("bob",), True),
    ("one was left, but --all was given", EVERYONE, BOB_LEFT, ALL, True),
    ("one was left, but it was restarted", RESTART, BOB_LEFT, ALL, True),
    ("one was left, and another is new", PLAIN, replace(NEW_CONSUMER, left=("ann",)), ("ann", "bob"), True),
    ("interrupted before the first", PLAIN, INTERRUPTED, ALL, True),
    ("only the gc job is unproved", PLAIN, GC_LEFT, (), True),
    ("only the gc job is unproved, by cron", NEEDED, GC_LEFT, (), True),
    ("the one left is no consumer any more", NEEDED, LEFT_HAS_GONE, (), True),
    ("nor is the gc job unproved", NEEDED, NOTHING_LEFT, (), False),
    ("nor is the gc job unproved, requested", PLAIN, NOTHING_LEFT, ALL, True),
    ("one was left, and the gc job proved", NEEDED, replace(BOB_LEFT, gc_tested=True), ("bob",), True),
]


@pytest.mark.parametrize(("case", "requirement", "now", "accounts", "test_gc"), ROWS, ids=[row[0] for row in ROWS])
def test_the_decision(case, requirement, now, accounts, test_gc):
    decision = decide(requirement, now)

    assert (decision.accounts, decision.test_gc) == (accounts, test_gc)
    assert decision.nothing == (not accounts and not test_gc)
    assert decision.reason
