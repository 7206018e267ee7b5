from __future__ import annotations

from datetime import timedelta

import pytest

from mlflow_ae5_deploy.common.durations import parse_ttl
from mlflow_ae5_deploy.common.errors import Configuration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d0h0m0s", timedelta(days=30)),
        ("0d0h10m0s", timedelta(minutes=10)),
        ("8h", timedelta(hours=8)),
        ("2m4s", timedelta(minutes=2, seconds=4)),
        ("1.5d3h", timedelta(days=1.5, hours=3)),
        (".5h", timedelta(minutes=30)),
        ("1.d", timedelta(days=1)),
        ("0d0h0m0s", timedelta(0)),
    ],
)
def test_accepts_what_mlflow_accepts(text, expected):
    assert parse_ttl(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "30",
        "30 d",
        "d",
        "1.2.3d",
        ".d",
        "1h1d",
        "1d1d",
        "-1d",
        "30D",
        "1d\n",
        "1e3d",
        "٣d",
        "nan d",
        "9" * 400 + "d",
    ],
)
def test_other_durations_are_refused(text):
    with pytest.raises(Configuration) as caught:
        parse_ttl(text)
    assert "0m0s" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "right_form"),
    [
        ("30 days", "30d0h0m0s"),
        ("12 hours", "0d12h0m0s"),
        ("1 day and 90 minutes", "1d0h90m0s"),
        ("3 months", "30d0h0m0s"),  # no guess is better than a wrong one
        ("forever", "30d0h0m0s"),
    ],
)
def test_remedy_shows_the_right_form(text, right_form):
    with pytest.raises(Configuration) as caught:
        parse_ttl(text, where="gc.ttl")
    assert caught.value.remedy.endswith(right_form)
    assert caught.value.where == "gc.ttl"
    assert repr(text) in caught.value.what
