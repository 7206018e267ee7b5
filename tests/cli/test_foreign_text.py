"""Text from outside acts upon no terminal, and stays exact in JSON and with --raw."""

from __future__ import annotations

import io
import json

import pytest

from mlflow_ae5_deploy.common.errors import Refused
from mlflow_ae5_deploy.common.visible import json_text, visible
from mlflow_ae5_deploy.render.console import Reporter
from tests.cli.answers import assert_error
from tests.cli.terminal import Terminal
from tests.sandbox.support import APP, PROJECT_FILE, make_project_archive

# What is in a name or a line, and how a person is shown it.
HOSTILE = [
    ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
    ("a\rb", r"a\rb"),
    ("\x9b31m", r"\x9b31m"),
    ("\x7f\x08", r"\x7f\x08"),
    ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
    ("zero\u200bwidth\ufeff\u2060", r"zero\u200bwidth\ufeff\u2060"),
    ("line\u2028break\x85", r"line\u2028break\x85"),
    ("\U000e0041tag", r"\U000e0041tag"),
    ("\ud800alone", r"\ud800alone"),
    ("\u3164filler", r"\u3164filler"),
    ("\u2800blank", r"\u2800blank"),
    ("a\ufe0fb", r"a\ufe0fb"),
    ("\U000e0101selector", r"\U000e0101selector"),
    ("\ue000private\U000f0000", r"\ue000private\U000f0000"),
    ("\u0378unassigned\uffff", r"\u0378unassigned\uffff"),
    ("[red]markup[/red] [/x] :fire:", "[red]markup[/red] [/x] :fire:"),
    ("漢字 é ✓", "漢字 é ✓"),
]
LINE = "".join(raw for raw, _ in HOSTILE if "\ud800" not in raw)
SHOWN = "".join(shown for raw, shown in HOSTILE if "\ud800" not in raw)


@pytest.mark.parametrize(("raw", "shown"), HOSTILE, ids=[ascii(row[0]) for row in HOSTILE])
def test_no_output_controls_a_terminal(raw, shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "dumb")
    both = Terminal()
    reporter = Reporter(out=both, err=both)
    reporter.line(raw)
    reporter.hanging("> ", raw)
    reporter.foreign(raw, "| ")
    reporter.note(raw)
    reporter.doing(raw)
    reporter.error(Refused(raw, where=raw, remedy=raw, detail=f"{raw}\n{raw}"))
    reporter.close()

    text = both.getvalue()

    assert text.count(shown) >= 9, text
    if raw != shown:
        assert raw not in text


@pytest.mark.parametrize(("raw", "shown"), HOSTILE, ids=[ascii(row[0]) for row in HOSTILE])
def test_json_is_exact_and_acts_upon_no_terminal(raw, shown):
    out = io.StringIO()
    Reporter(json_mode=True, out=out).data({raw: [raw]})

    written = out.getvalue()

    assert json.loads(written) == {raw: [raw]}
    if raw != shown and "\r" not in raw:
        assert raw not in written


# Unicode's Default_Ignorable_Code_Point, as DerivedCoreProperties has it, and what a terminal shows as a blank.
IGNORABLE = (
    "00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8"
    " 1BCA0-1BCA3 1D173-1D17A E0000-E0FFF 2800"
)
OF_NO_MEANING = "0000-0008 000B-001F 007F-009F 2028-2029 D800-DFFF E000-F8FF FDD0-FDEF F0000-FFFFF 100000-10FFFF"


@pytest.mark.parametrize("span", [*IGNORABLE.split(), *OF_NO_MEANING.split()])
def test_no_character_is_hidden(span):
    first, _, last = span.partition("-")
    for number in range(int(first, 16), int(last or first, 16) + 1):
        shown = visible(chr(number))
        assert shown.isascii(), hex(number)
        assert shown.isprintable(), hex(number)
        assert json_text(chr(number)).isascii(), hex(number)


def test_a_name_cannot_forge_a_line():
    out, err = io.StringIO(), io.StringIO()
    reporter = Reporter(out=out, err=err)
    reporter.line("project a\nError: forged")
    reporter.error(Refused("no\nError: forged", where="a\nb", remedy="c\nd"))

    assert out.getvalue() == "project a\\nError: forged\n"
    assert err.getvalue().count("\nError: ") == 1


@pytest.fixture
def talkative(bench, capsys):
    """Its server prints LINE; so does its command, as a name."""
    app = f"print({LINE!r}, flush=True)\n"
    release = make_project_archive(bench.folder / "talkative.tar.gz", files={"app.py": app + APP})
    assert bench.install(capsys, "--replace", "--yes", "--release", str(release)).code == 0
    return bench


def test_a_log_is_shown_with_escapes_and_exact_with_raw(talkative, capsys):
    shown = talkative.run(capsys, "logs", "--sandbox", "-n", "0")
    raw = talkative.run(capsys, "logs", "--sandbox", "-n", "0", "--raw")
    exact = talkative.run(capsys, "logs", "--sandbox", "-n", "0", "--json")

    assert SHOWN in shown.out
    assert "\x1b" not in shown.out
    assert LINE in raw.out
    assert LINE in exact.data["lines"]
    assert "\x1b" not in exact.out
    assert talkative.run(capsys, "logs", "--sandbox", "--raw", "--json").code == 2


def test_names_and_errors_of_the_platform(bench, capsys):
    assert bench.install(capsys, "--replace", "--yes").code == 0
    reason = "no\x1b[31m\x9b1m \u202eway"
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    with bench.fault("GET", "/api/v2/projects$", status=400, body=reason, headers=headers, times=None):
        refused = bench.run(capsys, "status", "--sandbox")

    assert refused.code == 16, refused.err
    assert r"no\x1b[31m\x9b1m \u202eway" in refused.err
    assert not {"\x1b", "\x9b", "\u202e"} & set(refused.out + refused.err)


def test_a_key_that_is_twice_in_the_configuration(bench, capsys):
    """In quotes, with the escape sequences of YAML."""
    path = bench.configure('project:\n  "a\\e[31m\\u202e": 1\n  "a\\e[31m\\u202e": 2\n')

    refused = bench.run(capsys, "plan", "--sandbox", "--config", str(path))
    exact = bench.run(capsys, "plan", "--sandbox", "--json", "--config", str(path))

    assert_error(refused, 3, r"project.a\x1b[31m\u202e (lines 2 and 3)")
    assert "project.a\x1b[31m\u202e (" in exact.data["error"]["detail"]
    assert not {"\x1b", "\u202e"} & set(refused.out + refused.err + exact.out + exact.err)


def test_a_command_of_a_release_is_shown_with_escapes(bench, capsys):
    file = PROJECT_FILE.replace("TrackingServer:", '"Tracking\\e[31m\\u202eServer":')
    release = make_project_archive(bench.folder / "odd.tar.gz", project_file=file)

    refused = bench.install(capsys, "--replace", "--yes", "--release", str(release))

    assert_error(refused, 3, r"Tracking\x1b[31m\u202eServer")
    assert not {"\x1b", "\u202e"} & set(refused.out + refused.err)
