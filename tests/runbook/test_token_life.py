"""When a token ends, read from the token itself, and when that is worth a word or a new token."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.common.durations import duration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.resources.token import store_token
from mlflow_ae5_deploy.resources.token_expiry import expiry, is_due, warning
from tests.json_bombs import BOMBS
from tests.runbook.runbook_support import ACCOUNT, Doors, context, deployment

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def jwt(claims) -> Secret:
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    parts = (b'{"alg":"RS256"}', body, b"signature")
    return Secret(".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts))


TOKENS = [
    ("states an end", jwt({"exp": int(NOW.timestamp())}), NOW),
    ("has a fraction", jwt({"exp": NOW.timestamp() + 0.5}), NOW + timedelta(seconds=0.5)),
    ("states none", jwt({"iat": 1}), None),
    ("zero is Keycloak's never", jwt({"exp": 0}), None),
    ("a text", jwt({"exp": "tomorrow"}), None),
    ("a truth", jwt({"exp": True}), None),
    ("beyond all calendars", jwt({"exp": 1e300}), None),
    ("a list", jwt([1]), None),
    ("not JSON", jwt(b"nothing"), None),
    *((case, jwt(bomb.replace(b"outcome", b"exp")), None) for case, bomb in BOMBS.items()),
    ("not text", jwt(b"\xff\xfe\x00"), None),
    ("opaque", Secret("an-opaque-token-of-a-platform"), None),
    ("dots, but no base64", Secret("one.!!!.three"), None),
]


@pytest.mark.parametrize(("case", "token", "expected"), TOKENS, ids=[row[0] for row in TOKENS])
def test_the_end_is_read_where_it_is_stated(case, token, expected):
    assert expiry(token) == expected


LIVES = [
    ("never ends", None, None, False),
    ("a year, fresh", timedelta(0), timedelta(365), False),
    ("a year, eight days left", timedelta(357), timedelta(8), False),
    ("a year, a week left", timedelta(358), timedelta(7), True),
    ("an hour, fresh", timedelta(0), timedelta(hours=1), False),
    ("an hour, half of it over", timedelta(minutes=30), timedelta(minutes=30), True),
    ("over", timedelta(30), timedelta(seconds=-1), True),
]


@pytest.mark.parametrize(("case", "age", "left", "due"), LIVES, ids=[row[0] for row in LIVES])
def test_a_token_is_due_in_time_and_not_every_time(case, age, left, due):
    stored = NOW - (age or timedelta(0))
    assert is_due(stored, NOW + left if left is not None else None, NOW) is due


@pytest.mark.parametrize(
    ("left", "words"),
    [(timedelta(31), None), (timedelta(10), "in 10 days"), (timedelta(0), "expired on 2026-03-01 00:00 UTC")],
)
def test_the_warning_comes_a_month_before(left, words):
    message = warning(NOW + left, NOW)
    assert message is None if words is None else words in message


def test_a_token_without_an_end_is_not_warned_of():
    assert warning(None, NOW) is None


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(90), "90 days"),
        (timedelta(1), "24 h"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(0), "0 s"),
    ],
)
def test_durations_have_a_readable_unit(span, words):
    assert duration(span) == words


class Platform:
    """Takes a minute to issue a token, and an hour to store it."""

    def __init__(self, clock):
        self.clock = clock

    def issue_token(self, _deployment_id):
        self.clock.sleep(60)
        return Secret("a-token-that-was-issued")

    def put_secret(self, _name, _value):
        self.clock.sleep(3600)


def test_the_age_of_a_token_counts_from_its_issue(tmp_path):
    doors = Doors()
    run = context(tmp_path, doors=doors)
    run.cached.saw_secrets = lambda _names: None
    doors.platform_ = Platform(run.clock)
    issued = run.clock.now()

    run.token_for(deployment().id)
    store_token(run, ACCOUNT, deployment())

    record = run.state.tokens[ACCOUNT]
    assert (record.issued, record.stored) == (issued, issued + timedelta(seconds=3660))
