"""The client's view of the jobs against contract.json of the project template, and reports that break it."""

from __future__ import annotations

import dataclasses
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.jobs import contract, reports, tasks
from mlflow_ae5_deploy.jobs.contract import last_line, read
from mlflow_ae5_deploy.jobs.reports import BackupReport, GcReport, Report, RestoreReport
from tests.contract import CONTRACT

PLAIN = {str: "text", int: "integer", float: "number", bool: "flag"}
EXIT_CODES = {
    "done": errors.EXIT_DONE,
    "failed": errors.EXIT_BUG,
    "usage": contract.USAGE,
    "configuration": errors.Configuration.exit_code,
    "unreachable": errors.Unreachable.exit_code,
    "credentials": errors.LoginFailed.exit_code,
    "absent": contract.ABSENT,
    "busy": errors.Locked.exit_code,
    "incomplete": contract.INCOMPLETE,
    "damaged": contract.DAMAGED,
    "not_empty": errors.TargetNotEmpty.exit_code,
    "in_use": errors.TargetInUse.exit_code,
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
    variables = {command: agreed["variables"] for command, agreed in CONTRACT["commands"].items()}
    assert CONTRACT["exit_codes"] == EXIT_CODES
    assert set(CONTRACT["outcomes"]["success"]) == contract.SUCCESS
    assert contract.OUTCOME_INCOMPLETE in CONTRACT["outcomes"]["other"]
    assert {name: own["arguments"] for name, own in variables.items() if "arguments" in own} == contract.ARGUMENTS
    assert variables["DatabaseUpgrade"]["rehearse"] == contract.REHEARSE
    assert variables["GarbageCollection"]["dry_run"] == contract.GC_DRY_RUN
    assert variables["Check"]["check_values"] == contract.CHECK_VALUES
    assert variables["Backup"]["destination"] == contract.BACKUP_DESTINATION


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
