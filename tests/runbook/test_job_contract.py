"""The client's view of the jobs against contract.json of the project template, and reports that break it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.common.variable_names import GC_DRY_RUN
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.jobs import contract, reports, tasks
from mlflow_ae5_deploy.jobs.contract import last_line, progress_of, read, without_progress
from mlflow_ae5_deploy.jobs.reports import BackupReport, GcReport, Report, RestoreReport
from tests.contract import CONTRACT

PLAIN = {str: "text", int: "integer", float: "number", bool: "flag"}
EXIT_CODES = {
    "done": errors.EXIT_DONE,
    "failed": errors.EXIT_BUG,
    "usage": contract.USAGE,
    "configuration": errors.Configuration.exit_code,
    "unreachable": errors.Unreachable.exit_code,
    "login_failed": errors.LoginFailed.exit_code,
    "not_found": contract.NOT_FOUND,
    "locked": errors.Locked.exit_code,
    "incomplete": contract.INCOMPLETE,
    "snapshot_damaged": contract.SNAPSHOT_DAMAGED,
    "target_not_empty": errors.TargetNotEmpty.exit_code,
    "target_in_use": errors.TargetInUse.exit_code,
    "repository_failed": contract.REPOSITORY_FAILED,
    "schema_mismatch": errors.SchemaMismatch.exit_code,
    "interrupted": errors.EXIT_INTERRUPTED,
}


def form_of(hint: Any) -> Any:
    """A type hint of the client in the contract's words."""
    if get_origin(hint) is UnionType:
        return form_of(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return [form_of(get_args(hint)[0])]
    return PLAIN.get(hint) or ("object" if get_origin(hint) else hint.__name__)


def forms(kind: type) -> dict[str, Any]:
    return {name: form_of(hint) for name, hint in get_type_hints(kind).items() if name != "data"}


@pytest.mark.parametrize("command", sorted(CONTRACT["commands"]))
def test_a_report_has_only_fields_of_the_contract_with_the_same_types(command):
    agreed = CONTRACT["report"] | CONTRACT["commands"][command]["report"]
    assert forms(reports.REPORTS[command]).items() <= agreed.items()


NESTED = [
    kind
    for kind in vars(reports).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and not issubclass(kind, Report)
]


@pytest.mark.parametrize("kind", NESTED, ids=[kind.__name__ for kind in NESTED])
def test_a_part_of_a_report_has_only_fields_of_the_contract(kind):
    assert forms(kind).items() <= CONTRACT["types"][kind.__name__].items()


def test_names_and_numbers_are_those_of_the_contract():
    assert CONTRACT["exit_codes"] == EXIT_CODES
    assert contract.OUTCOME_INCOMPLETE in CONTRACT["outcomes"]["other"]
    assert CONTRACT["commands"]["GarbageCollection"]["variables"]["dry_run"] == GC_DRY_RUN


REQUESTS = [
    tasks.backup("create", "--rehash", "--allow-external", "--allow-empty"),
    tasks.backup("verify", "--snapshot", "S1", "--sample", "1%", "--all"),
    tasks.backup("list"),
    tasks.backup("show", "--snapshot", "S1"),
    tasks.backup(
        "prune", "--keep-last", "1", "--keep-daily", "1", "--keep-weekly", "1", "--drop-damaged", "S", "--yes"
    ),
    tasks.restore("--snapshot", "S1", "--replace", "--shorten-text", "--no-upgrade", "--same-artifacts", "--dry-run"),
    tasks.restore("--undo", "--saved", "K"),
    tasks.list_saved(),
    tasks.drop_saved("K", act=False),
    tasks.drill("latest"),
    tasks.database_upgrade(),
    tasks.rehearsal(),
]


@pytest.mark.parametrize("task", REQUESTS, ids=lambda task: " ".join((task.command, *task.words)))
def test_a_request_uses_options_of_the_contract(task):
    agreed = CONTRACT["commands"][task.command]
    options = agreed["actions"][task.words[0]] if "actions" in agreed else agreed["options"]
    assert {word for word in task.words if word.startswith("--")} <= set(options)
    assert reports.REPORTS[task.command] is task.report


HOSTILE = [
    ("a text for a number", BackupReport, {"runs": "3", "exit_code": "0"}, {"runs": None, "exit_code": None}),
    ("a number for a text", BackupReport, {"snapshot": 3, "hint": ["x"]}, {"snapshot": "", "hint": ""}),
    ("a flag for a number", BackupReport, {"runs": True}, {"runs": None}),
    ("a text for a list", BackupReport, {"external": "s3://b"}, {"external": ()}),
    ("items of other types", BackupReport, {"external": ["a", 5, None, {"root": "b"}]}, {"external": ("a",)}),
    ("a list for an object", RestoreReport, {"dialect": ["sqlite"]}, {"dialect": None}),
    ("a number for a flag", RestoreReport, {"database_identical": 1}, {"database_identical": False}),
    ("a whole number of seconds", RestoreReport, {"estimated_seconds": 3}, {"estimated_seconds": 3}),
    ("an object without its fields", GcReport, {"runs": {"due": "x"}}, {"runs": reports.GcCount()}),
    ("unknown fields", GcReport, {"since": 1}, {"outcome": ""}),
    ("the reader's own field", GcReport, {"data": 1}, {"data": {"data": 1}}),
]


@pytest.mark.parametrize(("case", "form", "line", "fields"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_a_field_of_another_type_counts_as_absent(case, form, line, fields):
    report = read(form, line)
    assert {name: getattr(report, name) for name in fields} == fields


def test_the_report_is_the_last_line_that_has_an_outcome():
    lines = ["working", '{"outcome": "failed"}', '{"outcome": "done"}', '{"level": "info"}', "[1]", "{broken}", ""]
    assert last_line("\n".join(lines)) == {"outcome": "done"}
    assert last_line("no report\n") == {}


WHOLE = {"phase": "examine-artifacts", "step": 2, "steps": 3, "done": 5, "total": 10, "unit": "bytes", "seconds": 1.5}
PHASE = Phase("examining artifacts", 2, 3, 5, 10, "bytes", 1.5)
LINES = [
    ("as agreed", WHOLE, PHASE),
    ("its last line", WHOLE | {"ended": True}, replace(PHASE, ended=True)),
    ("a phase of a newer release", WHOLE | {"phase": "warm-up"}, replace(PHASE, text="warm up")),
    ("unknown fields", WHOLE | {"eta": 5}, PHASE),
    ("nothing but a phase", {"phase": "publish"}, Phase("publishing the snapshot")),
    ("a step beyond the last", WHOLE | {"step": 4}, replace(PHASE, step=None, steps=None)),
    ("texts for numbers", WHOLE | {"step": "2", "done": "5"}, Phase("examining artifacts", total=None, seconds=1.5)),
    ("an unknown unit", WHOLE | {"unit": "sheep"}, replace(PHASE, done=None, total=None)),
    ("negative numbers", WHOLE | {"done": -1, "seconds": -1}, replace(PHASE, done=None, total=None, seconds=None)),
    ("a flag for a number", WHOLE | {"total": True}, replace(PHASE, total=None)),
    ("a sentence for a phase", WHOLE | {"phase": "\x1b[2J Pay now"}, None),
    ("no phase", {"done": 5}, None),
]


@pytest.mark.parametrize(("case", "fields", "phase"), LINES, ids=[row[0] for row in LINES])
def test_a_progress_line_is_read_as_far_as_it_is_as_agreed(case, fields, phase):
    assert progress_of(f"progress {json.dumps(fields)}") == phase


@pytest.mark.parametrize(
    "line", ["progress", "progress {", "progress []", "progress is slow", ' progress {"phase": "publish"}']
)
def test_any_other_line_is_no_progress_line(line):
    assert progress_of(line) is None


def test_a_log_without_its_progress_lines():
    log = 'one\nprogress {"phase": "publish"}\nprogress is slow\n'
    assert without_progress(log) == "one\nprogress is slow\n"
