"""One line in a table that belongs to somebody else: put in once, replaced in its place, taken out without a trace."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.operations.crontab import has_line, line, mark, with_line, without_line

OURS = line("*/10 * * * *", ["/opt/python", "-m", "tool"], {}, "host_svc_x")
OTHER = line("0 * * * *", ["/opt/python", "-m", "tool"], {}, "host_svc_other")
CHANGED = line("5 * * * *", ["/opt/python", "-m", "tool"], {}, "host_svc_x")
THEIRS = "# mine\nMAILTO=ops@example.com\n0 3 * * * /usr/bin/backup # mlflow-ae5-deploy\n"

ROWS = [
    ("an empty table", "", f"{OURS}\n"),
    ("other lines", THEIRS, f"{THEIRS}{OURS}\n"),
    ("without a line break at the end", THEIRS.rstrip("\n"), f"{THEIRS}{OURS}\n"),
    ("it is there", f"{OURS}\n{THEIRS}", f"{OURS}\n{THEIRS}"),
    ("another one is there", f"{CHANGED}\n{THEIRS}", f"{OURS}\n{THEIRS}"),
    ("twice", f"{OURS}\n{THEIRS}{CHANGED}\n", f"{OURS}\n{THEIRS}"),
    ("another installation's", f"{OTHER}\n", f"{OTHER}\n{OURS}\n"),
]


@pytest.mark.parametrize(("case", "before", "after"), ROWS, ids=[row[0] for row in ROWS])
def test_the_line_is_there_once(case, before, after):
    assert with_line(before, OURS, "host_svc_x") == after
    assert with_line(after, OURS, "host_svc_x") == after
    assert has_line(after, "host_svc_x")


@pytest.mark.parametrize("table", [THEIRS, "", f"{OTHER}\n", "\n\n# form\x0cfeed\u2028\n"])
def test_taking_it_out_leaves_the_rest_as_it_was(table):
    assert without_line(with_line(table, OURS, "host_svc_x"), "host_svc_x") == table
    assert not has_line(table, "host_svc_x")


def test_what_a_shell_or_cron_would_take_apart_is_quoted():
    text = line("* * * * *", ["/opt/my python", "--config", "/srv/100%/a;b.yaml"], {"STATE": "/var/it's"}, "x")

    assert text.startswith("* * * * * env STATE=")
    assert "'/opt/my python'" in text
    assert r"'/srv/100\%/a;b.yaml'" in text
    assert text.endswith(mark("x"))


def test_a_line_break_cannot_be_smuggled_in():
    with pytest.raises(Configuration):
        line("* * * * *", ["tool", "a\n* * * * * rm"], {}, "x")
