"""Signs, times, ids and tables of the text that people read."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.common.durations import duration, moment
from mlflow_ae5_deploy.common.errors import Conflict
from mlflow_ae5_deploy.common.text import with_short_ids
from mlflow_ae5_deploy.operations.doctor import findings
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.doctor import DoctorReporter
from mlflow_ae5_deploy.render.format import Mark
from tests.cli.terminal import lines, screen

NOW = datetime(2026, 11, 29, 14, 9, tzinfo=UTC)
DEPLOYMENT = "a2-c20dfe1561f749d0a72f03636339746b"


@pytest.fixture
def shown(monkeypatch):
    """shown(width, print, **of the reporter) -> lines; width None: no terminal."""

    return lambda width, write, **given: lines(monkeypatch, write, width, **given)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-300, "0 s"),
        (0, "0 s"),
        (119, "119 s"),
        (240, "4 min"),
        (7200, "2 h"),
        (86400 * 2, "2 days"),
        (86400 * 365, "365 days"),
    ],
)
def test_a_duration_is_in_the_largest_unit_worth_reading(seconds, words):
    assert duration(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (-240, "2026-11-29 14:05 UTC (4 min ago)"),
        (0, "2026-11-29 14:09 UTC (0 s ago)"),
        (60, "2026-11-29 14:10 UTC (in 60 s)"),
    ],
)
def test_a_time_is_shown_with_its_distance_from_now(away, text):
    assert moment(NOW + timedelta(seconds=away), NOW) == text


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (f"deployment ({DEPLOYMENT})", "deployment (a2-c20dfe15)"),
        (f"run `logs --run {DEPLOYMENT}` on {DEPLOYMENT}", f"run `logs --run {DEPLOYMENT}` on a2-c20dfe15"),
        ("a2-c20dfe15", "a2-c20dfe15"),
        ("6a8be7863dc943fc83594755e7adea36", "6a8be7863dc943fc83594755e7adea36"),
        (f"saved as /state/removed/{DEPLOYMENT}.tar.gz", f"saved as /state/removed/{DEPLOYMENT}.tar.gz"),
        (f"project (https://ae5/{DEPLOYMENT}), {DEPLOYMENT}", f"project (https://ae5/{DEPLOYMENT}), a2-c20dfe15"),
    ],
)
def test_ids_of_the_platform_are_short_except_where_they_are_copied(text, short):
    assert with_short_ids(text) == short


def test_ids_are_whole_with_verbose(shown):
    assert shown(None, lambda reporter: reporter.line(DEPLOYMENT), verbose=True) == [DEPLOYMENT]
    assert shown(None, lambda reporter: reporter.line(DEPLOYMENT)) == ["a2-c20dfe15"]


@pytest.mark.parametrize(
    ("locale", "signs"),
    [
        ({"LANG": "C.UTF-8"}, "✓ + ! ✗ - a → b"),
        ({"LANG": "de_DE.utf8"}, "✓ + ! ✗ - a → b"),
        ({"LANG": "C"}, "= + ! x - a -> b"),
        ({"LC_ALL": "POSIX", "LANG": "C.UTF-8"}, "= + ! x - a -> b"),
        ({"LC_CTYPE": "en_US.ISO-8859-1", "LANG": "C.UTF-8"}, "= + ! x - a -> b"),
        ({}, "✓ + ! ✗ - a → b"),
    ],
)
def test_marks_are_ascii_where_the_locale_is(shown, monkeypatch, locale, signs):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    marks = " ".join(mark.sign for mark in Mark)
    assert shown(None, lambda reporter: reporter.line(f"{marks} a → b")) == [signs]


def test_marks_are_ascii_where_the_encoding_is():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Reporter(out=out, err=out).marked(Mark.OK, "healthy")
    out.flush()
    assert raw.getvalue() == b"= healthy\n"


HEADS = ("snapshot", "runs", "verified")
ROWS = [("20261130T021246Z-fd882b", "3", "2026-11-30 02:12 UTC"), ("20261130T021246Z-aaaaaa", "12345", "never")]


def test_a_table_has_aligned_columns(shown):
    assert shown(None, lambda reporter: reporter.table(HEADS, ROWS, right=("runs",))) == [
        "snapshot                  runs  verified",
        "20261130T021246Z-fd882b      3  2026-11-30 02:12 UTC",
        "20261130T021246Z-aaaaaa  12345  never",
    ]


MARKED = ("", "when", "verb", "result")
RUNS = [
    ("✓", "2026-11-30 02:12", "install", "done"),
    ("✗", "2026-11-29 14:05", "backup schedule", "failed (verification failed)"),
]
# width, heads, rows, heads of columns that may fold -> the lines
TABLES = [
    (
        60,
        MARKED,
        RUNS,
        ("verb", "result"),
        [
            "   when              verb             result",
            "✓  2026-11-30 02:12  install          done",
            "✗  2026-11-29 14:05  backup schedule  failed (verification",
            "                                      failed)",
        ],
    ),
    (
        40,
        MARKED,
        RUNS,
        ("result",),
        [
            "✓ when 2026-11-30 02:12",
            "  verb install, result done",
            "✗ when 2026-11-29 14:05",
            "  verb backup schedule, result failed",
            "  (verification failed)",
        ],
    ),
    (
        40,
        HEADS,
        ROWS,
        (),
        [
            "snapshot 20261130T021246Z-fd882b",
            "  runs 3, verified 2026-11-30 02:12 UTC",
            "snapshot 20261130T021246Z-aaaaaa",
            "  runs 12345, verified never",
        ],
    ),
]


@pytest.mark.parametrize(("width", "heads", "rows", "folds", "expected"), TABLES)
def test_a_table_that_does_not_fit_folds_words_or_becomes_paragraphs(shown, width, heads, rows, folds, expected):
    assert shown(width, lambda reporter: reporter.table(heads, rows, folds=folds)) == expected


@pytest.mark.parametrize("width", [80, 60, 40, 20])
def test_a_table_loses_nothing(shown, width):
    table = shown(width, lambda reporter: reporter.table(HEADS, ROWS, right=("runs",)))
    assert max(map(len, table)) <= max(width, len("snapshot 20261130T021246Z-fd882b"))
    text = " ".join(" ".join(table).replace(",", "").split())
    assert all(cell in text for row in ROWS for cell in row)


PATH = "/var/lib/mlflow/" + "/".join(["folder"] * 5)  # 50 characters
WRAPPED = [
    ("short", ["    title  short"]),
    ("a word " * 4 + "end", ["    title  a word a word a word a word", "           end"]),
    # moved left, and whole
    (f"in {PATH[:34]} now", ["    title  in", f"      {PATH[:34]}", "           now"]),
    # an address, a path, an id or a command is copied, whatever its length
    (f"https://{PATH}", ["    title", f"https://{PATH}"]),
    (f"see {PATH}", ["    title  see", PATH]),
]


@pytest.mark.parametrize(("text", "expected"), WRAPPED)
def test_a_long_word_stays_whole(shown, text, expected):
    assert shown(40, lambda reporter: reporter.hanging("    title  ", text)) == expected


LOG = [
    # 40 columns: the lead, a line of a log, what is shown
    ("", "2026-11-30 14:05 gc: nothing to do", ["2026-11-30 14:05 gc: nothing to do"]),
    (
        "",
        "2026-11-30 14:05 gc: 12 runs and 3 experiments are due",
        ["2026-11-30 14:05 gc: 12 runs and 3", "  experiments are due"],
    ),
    (
        "  | ",
        '    File "/opt/project/server.py", line 12, in run',
        ['  |     File "/opt/project/server.py",', "          line 12, in run"],
    ),
    ("", f"see {'x' * 38} for more", ["see", f"  {'x' * 38}", "  for more"]),
    ("", "x" * 50, ["x" * 40, "x" * 10]),  # broken by the terminal
    ("", " " * 60 + "deep", [" " * 20 + "deep"]),
]


@pytest.mark.parametrize(("lead", "line", "expected"), LOG, ids=[str(number) for number in range(len(LOG))])
def test_a_line_of_a_log_is_wrapped_between_words_where_a_person_watches(shown, lead, line, expected):
    for write in (lambda reporter: reporter.foreign(line, lead), lambda reporter: reporter.log(lead + line)):
        assert screen("\n".join(shown(40, write)), 40) == expected
        assert shown(None, write) == [lead + line]


def test_what_is_copied_is_never_wrapped(shown):
    assert shown(40, lambda reporter: reporter.copied(f"  export X={PATH} # {PATH}")) == [f"  export X={PATH} # {PATH}"]


def test_a_table_hides_secrets_and_shows_control_characters(shown):
    (_, line) = shown(None, lambda reporter: reporter.table(("name",), [("a\x1b[2Jb",)]))
    assert "\x1b" not in line


def test_a_table_without_rows_is_nothing(shown):
    assert shown(None, lambda reporter: reporter.table(HEADS, [])) == []


@pytest.mark.parametrize(
    ("remedy", "shown_as"),
    [
        ("Run `status`.", "Run `mlflow-ae5-deploy status --sandbox`."),
        ("`mlflow-ae5-deploy plan`", "`mlflow-ae5-deploy plan --sandbox`"),
        ("Set `gc.cron`, or run `ae5 job list`.", "Set `gc.cron`, or run `ae5 job list`."),
    ],
)
def test_a_remedy_has_commands_that_can_be_pasted(shown, remedy, shown_as):
    error = Conflict("It differs.", remedy=remedy)
    block = shown(None, lambda reporter: reporter.error(error), target=(("--sandbox",),))
    assert f"  do this  {shown_as}" in block
    (document,) = shown(
        None, lambda reporter: reporter.data({"remedy": remedy}, compact=True), target=(("--sandbox",),), json_mode=True
    )
    assert json.loads(document) == {"remedy": shown_as}


FINDINGS = [
    findings.ok("python", "3.12"),
    findings.ok("ae5-tools", "0.7.3"),
    findings.warning("tls", "expires soon", "Renew it."),
]


@pytest.mark.parametrize(
    ("verbose", "expected"),
    [
        (False, ["✓ machine  2 checks ok", "  request", "! platform tls  expires soon", "           Renew it."]),
        (
            True,
            [
                "  request",
                "✓ machine  python     3.12",
                "✓          ae5-tools  0.7.3",
                "! platform tls  expires soon",
                "           Renew it.",
            ],
        ),
    ],
)
def test_the_whole_list_of_doctor_follows_the_log(shown, verbose, expected):
    def write(reporter):
        groups = DoctorReporter(reporter)
        for finding in FINDINGS:
            groups.add(finding)
        reporter.log("  request")
        groups.flush()

    assert shown(80, write, verbose=verbose) == expected
