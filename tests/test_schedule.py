from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mlflow_ae5_deploy.common.cron import parse_cron
from mlflow_ae5_deploy.common.errors import Configuration

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expression", "words", "first"),
    [
        ("*/10 * * * *", "*/10 * * * *", "Every 10 minutes", "2026-01-01T12:10"),
        ("  30\t3 *  * * ", "30 3 * * *", "At 03:30", "2026-01-02T03:30"),
        ("0 */6 * * *", "0 */6 * * *", "Every 6 hours", "2026-01-01T18:00"),
        ("0 0 29 2 *", "0 0 29 2 *", "At 00:00, on day 29 of the month, only in February", "2028-02-29T00:00"),
        ("0 0 * * 7", "0 0 * * 7", "At 00:00, only on Sunday", "2026-01-04T00:00"),
        ("0 9 * jan mon-fri", "0 9 * jan mon-fri", None, "2026-01-02T09:00"),
        ("0 0 30 2 1", "0 0 30 2 1", None, "2026-02-02T00:00"),  # the weekday still comes
        ("*/60 * * * *", "*/60 * * * *", None, "2026-01-01T13:00"),
        ("0-30/15 * * * *", "0-30/15 * * * *", None, "2026-01-01T12:15"),
    ],
)
def test_valid_schedules_are_described_in_words(text, expression, words, first):
    schedule = parse_cron(text)
    assert schedule.expression == expression
    assert schedule.words
    if words is not None:
        assert schedule.words == words
    assert schedule.next_times(NOON, 1)[0].strftime("%Y-%m-%dT%H:%M") == first


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("*/8 * * * *", "minute"),
        ("0,*/8 * * * *", "minute"),
        ("0-59/7 * * * *", "minute"),
        ("60 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("*/ * * * *", "minute"),
        ("-5 * * * *", "minute"),
        ("1, * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("x * * * *", "minute"),
        ("0 */5 * * *", "hour"),
        ("0 24 * * *", "hour"),
        ("0 5-3 * * *", "hour"),
        ("0 0 */2 * *", "day of month"),
        ("0 0 32 * *", "day of month"),
        ("0 0 L * *", "day of month"),
        ("0 0 ? * *", "day of month"),
        ("0 0 30 2 *", "day of month"),
        ("0 0 31 4,6,9,11 *", "day of month"),
        ("0 0 * 13 *", "month"),
        ("0 0 * mon *", "month"),
        ("0 0 * */5 *", "month"),
        ("0 0 * * 8", "day of week"),
        ("0 0 * * 1#2", "day of week"),
        ("0 0 * * 5L", "day of week"),
        ("0 0 * * */2", "day of week"),
        ("9" * 150 + " * * * *", "minute"),
        ("*/" + "9" * 5000 + " * * * *", "too long"),
    ],
)
def test_bad_schedules_name_the_field(text, named):
    with pytest.raises(Configuration) as caught:
        parse_cron(text)
    assert named in caught.value.what
    assert caught.value.remedy
    assert caught.value.exit_code == 3


def test_refused_step_lists_the_good_ones():
    with pytest.raises(Configuration) as caught:
        parse_cron("*/8 * * * *")
    assert "does not divide 60" in caught.value.what
    assert "2, 3, 4, 5, 6, 10, 12, 15, 20, 30." in caught.value.remedy


@pytest.mark.parametrize(
    ("expression", "example"), [("0 0 */2 * *", "1,11,21"), ("0 0 * * */2", "1,3,5"), ("0 0 * * */5", "1,3,5")]
)
def test_a_step_where_none_divides_leads_to_a_list_that_is_valid(expression, example):
    with pytest.raises(Configuration) as caught:
        parse_cron(expression)
    assert f"({example})" in caught.value.remedy
    field = next(part for part in expression.split() if "/" in part)
    parse_cron(expression.replace(field, example))


def test_times_are_in_utc_and_after_the_given_moment():
    tokyo = timezone(timedelta(hours=9))
    times = parse_cron("0 0 * * *").next_times(datetime(2026, 1, 2, 9, 0, tzinfo=tokyo))  # midnight UTC exactly
    assert [t.isoformat() for t in times] == [
        "2026-01-03T00:00:00+00:00",
        "2026-01-04T00:00:00+00:00",
        "2026-01-05T00:00:00+00:00",
    ]


def test_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        parse_cron("* * * * *").next_times(datetime(2026, 1, 1))


def test_words_do_not_depend_on_the_machines_locale():
    script = "from mlflow_ae5_deploy.common.cron import parse_cron; print(parse_cron('0 15 * * *').words)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"LC_ALL": "C", "LANG": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("At 15:00\n", "")
