"""Help pages, and the words that an error of the command line suggests."""

from __future__ import annotations

import os
import pty
import re
import shlex

import pytest

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.cli.verbs import GROUPS, SECTIONS, VERBS, command_tree, resolved
from tests.cli.terminal import read_all

PAGES = ["", *VERBS, *(f"{group} {verb}" for group, verbs in GROUPS.items() for verb in verbs)]
LEAVES = [name for name in PAGES if name and name not in GROUPS]
EXAMPLE = re.compile(r"^  mlflow-ae5-deploy (.*)$", re.M)


def page(capsys, name, *, program=main) -> str:
    assert program([*name.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_terminal(capsys, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))

    shown = page(capsys, name)

    to_copy = set(EXAMPLE.findall(shown))
    too_long = [line for line in shown.splitlines() if len(line) > min(columns, 100)]
    assert [line for line in too_long if line.removeprefix("  mlflow-ae5-deploy ") not in to_copy] == []
    assert not re.search(r"\S-\n", shown)  # no word broken at its hyphen


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_own_options_first_and_examples_last(capsys, name):
    shown = page(capsys, name)

    headings = re.findall(r"^(\w[\w ]*):$", shown, re.M)
    options = [heading for heading in headings if "ptions" in heading]
    assert shown.startswith(f"Usage: mlflow-ae5-deploy{f' {name}' if name else ''} ")
    assert options in (["Options"], ["Common options"], ["Options", "Common options"])
    assert headings[-1] == "Examples"
    assert ("Marks" in headings) == (name == "")
    assert not re.search(r"<\w|\[default|range", shown)


@pytest.mark.parametrize("name", PAGES)
def test_examples_are_command_lines(capsys, name):
    examples = EXAMPLE.findall(page(capsys, name))

    assert 2 <= len(examples) <= 3 or name == "release"  # which has one verb
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        assert main([*words, "--help"]) == 0, capsys.readouterr().err
    if name in LEAVES:
        commands = [resolved(command_tree(), shlex.split(example))[1] for example in examples]
        assert resolved(command_tree(), name.split())[1] in commands


@pytest.mark.parametrize("name", LEAVES)
def test_every_value_has_a_name(name):
    _, command = resolved(command_tree(), name.split())

    with_value = [
        param for param in command.params if param.param_type_name == "argument" or not (param.is_flag or param.count)
    ]
    assert [param.name for param in with_value if not param.metavar] == []


@pytest.mark.parametrize("summary", [*VERBS.values(), *(text for verbs in GROUPS.values() for text in verbs.values())])
def test_a_summary_is_short(summary):
    assert len(summary) <= 60
    assert re.match(r"[A-Z].*\.$", summary)


def test_verbs_stand_under_headings(capsys):
    shown = page(capsys, "")

    for heading, verbs in SECTIONS.items():
        listed = shown.split(f"\n{heading}:\n")[1].split("\n\n")[0]
        assert re.findall(r"^  ([a-z-]+) ", listed, re.M) == list(verbs)


@pytest.mark.parametrize(
    ("locale", "marks"), [("C.UTF-8", "✓ ok or unchanged, + change, ! warning, ✗ failed, - skipped"), ("C", "= ok or")]
)
def test_marks_are_explained_in_signs_that_the_terminal_has(capsys, monkeypatch, locale, marks):
    monkeypatch.setenv("LC_ALL", locale)

    assert marks in page(capsys, "")


@pytest.mark.parametrize(("settings", "bold"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_headings_are_bold_where_a_terminal_shows_it(bench, settings, bold):
    terminal, end = pty.openpty()
    with bench.spawn(
        "plan", "--help", environment=bench.environment(**{"TERM": "xterm", **settings}), stdout=end, stderr=end
    ) as process:
        os.close(end)
        written = read_all(terminal)
        process.wait(timeout=200)

    assert ("\x1b[1mOptions:\x1b[0m" in written) == bold
    assert ("\x1b" in written) == bold


@pytest.mark.parametrize("name", ["", "plan", "backup", "backup list", "sandbox"])
def test_a_short_option_shows_the_same(capsys, name):
    assert main([*name.split(), "-h"]) == 0
    assert capsys.readouterr().out == page(capsys, name)


def test_without_a_verb_the_page_is_an_error(capsys):
    assert main([]) == 2

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == page(capsys, "")


SUGGESTIONS = [
    (["instal"], "There is no verb 'instal'.", "Did you mean `mlflow-ae5-deploy install`?"),
    (["Status"], "There is no verb 'Status'.", "Did you mean `mlflow-ae5-deploy status`?"),
    (["gc"], "There is no verb 'gc'.", "Did you mean `mlflow-ae5-deploy schedule-gc`?"),
    (["export"], "There is no verb 'export'.", "Did you mean `release export`?"),
    (["prune"], "There is no verb 'prune'.", "Did you mean `mlflow-ae5-deploy backup prune`?"),
    (["xyzzy"], "There is no verb 'xyzzy'.", "See `mlflow-ae5-deploy --help`."),
    (["sandbox", "stat"], "`sandbox` has no verb 'stat'.", "Did you mean `sandbox status`?"),
    (["backup", "lst"], "`backup` has no verb 'lst'.", "Did you mean `mlflow-ae5-deploy backup list`?"),
    (["backup", "--dry-run"], "`backup` has no option --dry-run.", "See `mlflow-ae5-deploy backup --help`."),
    (
        ["backup", "verify", "--snapshto", "x"],
        "`backup verify` has no option --snapshto.",
        "Did you mean `--snapshot`?",
    ),
    (["plan", "--exitcode"], "`plan` has no option --exitcode.", "Did you mean `--exit-code`?"),
    (["--sandbox", "install"], "The program has no option --sandbox.", "Options come after the verb: `mlflow-ae5-dep"),
    (["sandbox", "--json", "up"], "`sandbox` has no option --json.", "`mlflow-ae5-deploy sandbox VERB --json`"),
    (["--versoin"], "The program has no option --versoin.", "Did you mean `--version`?"),
    (["env", "--format", "shel"], "--format takes shell, dotenv,", "Did you mean `shell`?"),
    (["plan", "--session", "builtin"], "--session takes auto, ae5-tools or built-in,", "Did you mean `built-in`?"),
    (
        ["sandbox", "up", "--database", "postgres"],
        "--database takes sqlite or postgresql, not 'postgres'.",
        "Did you mean `postgresql`?",
    ),
    (["logs", "--part", "event"], "--part takes app, events or proxy", "Did you mean `events`?"),
    (["--install-completion", "zhs"], "--install-completion takes bash, zsh or fish", "Did you mean `zsh`?"),
    (
        ["logs", "--lines", "many"],
        "--lines takes a whole number of at least 0, not 'many'.",
        "See `mlflow-ae5-deploy logs --help`.",
    ),
    (
        ["status", "--watch", "0"],
        "--watch takes a number of at least 0.5, not '0'.",
        "See `mlflow-ae5-deploy status --help`.",
    ),
    (
        ["backup", "prune", "--keep-last", "0"],
        "--keep-last takes a whole number of at least 1, not '0'.",
        "See `mlflow-ae5-deploy backup prune --help`.",
    ),
    (
        ["sandbox", "up", "--database", "oracle"],
        "--database takes sqlite or postgresql, not 'oracle'.",
        "Use one of these values, such as `--database sqlite",
    ),
    (
        ["backup", "show", "latest"],
        "Unexpected argument: latest.",
        "`mlflow-ae5-deploy backup show --snapshot latest`.",
    ),
    (["restore", "latest"], "Unexpected argument: latest.", "`mlflow-ae5-deploy restore --snapshot latest`."),
    (["drill", "latest"], "Unexpected argument: latest.", "`mlflow-ae5-deploy drill --snapshot latest`."),
    (
        ["release", "--output", "m"],
        "`release` has no option --output.",
        "argument: `mlflow-ae5-deploy release export FOLDER`.",
    ),
    (
        ["release", "export", "--output", "m"],
        "`release export` has no option --output.",
        "`mlflow-ae5-deploy release export FOLDER`.",
    ),
    (["schedule-gc", "--run"], "`schedule-gc` has no option --run.", "Did you mean `--run-now`?"),
    (["schedule-gc", "0 3 * * 1"], "Unexpected argument: 0 3 * * 1.", "as an option: --cron '30 2 * * *'."),
    (["plan", "--config"], "--config needs a value.", "See `mlflow-ae5-deploy plan --help`."),
    (["plan", "--json=yes"], "--json takes no value.", "See `mlflow-ae5-deploy plan --help`."),
    (["install", "now"], "Unexpected argument: now.", "See `mlflow-ae5-deploy install --help`."),
]


@pytest.mark.parametrize(("words", "what", "remedy"), SUGGESTIONS, ids=[" ".join(row[0]) for row in SUGGESTIONS])
def test_an_error_names_the_nearest_word(bench, capsys, words, what, remedy):
    bench.forget_calls()

    refused = bench.run(capsys, *words)

    assert refused.code == 2
    assert f"Error: {what}" in refused.err
    assert remedy in refused.err
    assert bench.calls() == []
