"""The form of the document that each verb prints with --json, and the JSON Schema made of it.

tests/cli/bench.py compares every document that a test's run prints with its form: each field has to be here.
tools/reference.py writes the schemas to runbooks/reference/schemas, one for the verbs with the same form. They allow
further fields, because a release may add some.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from typing_extensions import TypedDict  # that of `typing` lacks what pydantic needs before Python 3.12

from mlflow_ae5_deploy.cli.verbs import DEFAULTS
from mlflow_ae5_deploy.engine.change import Impact
from mlflow_ae5_deploy.operations.schedule_gc import ScheduleDifference
from mlflow_ae5_deploy.operations.share import ShareResult
from mlflow_ae5_deploy.operations.verify import Check
from mlflow_ae5_deploy.render.install import Installed

ROOT = Path(__file__).resolve().parents[1]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
Time = str  # ISO 8601 with offset


class Error(TypedDict):
    """What happened, where, and what to do; `kind` and `exit_code` as in the table of exit codes."""

    kind: str
    what: str
    exit_code: int
    where: NotRequired[str]
    remedy: NotRequired[str]
    detail: NotRequired[str]


class Document(TypedDict):
    """Of every verb."""

    schema: Literal[1]
    verb: str
    outcome: str


class Failure(Document):
    """Of a verb that failed or was interrupted before it had a result."""

    error: Error
    changes: NotRequired[list[Change]]
    """Those that were not confirmed."""
    warnings: NotRequired[list[str]]
    """Of jobs that had run before."""


class Consequence(TypedDict):
    """What a change means for users."""

    impact: Impact
    text: str


class Change(TypedDict):
    """A change of one resource, with fields of its kind."""

    change: str
    phrase: str
    reason: str
    """Empty where the differences are all."""
    differences: list[str]
    """`setting: observed → desired`"""
    name: str
    id: str
    consequences: list[Consequence]
    guess: bool
    release: NotRequired[str]
    """Of the replacement of a project: `installed → configured`; empty where the release stays."""


class Stage(TypedDict):
    number: int
    name: str
    outcome: Literal["unchanged", "changed", "planned", "declined", "failed"]
    reason: str
    changes: list[Change]
    warnings: list[str]
    seconds: float


class RunDocument(Document):
    installation: Installed
    client: dict[str, str]
    """Environment of a client, without token."""
    stages: list[Stage]
    warnings: list[str]
    """Of jobs."""
    error: Error | None
    requests: int
    writes: int
    seconds: float
    next: list[str]


class Verification(TypedDict):
    passed: bool
    url: str
    checks: list[Check]


class Run(TypedDict):
    """A run of a job. `passed` is null where the result is unknown."""

    id: str
    state: str
    outcome: str
    passed: bool | None
    message: str
    report: dict[str, Any]
    exit_code: NotRequired[int | None]


class Recovery(RunDocument):
    recovery: Any
    verification: Verification | None


class JobDocument(Document):
    run: Run
    warnings: list[str]
    error: NotRequired[Error]


class Job(TypedDict):
    id: str
    name: str
    schedule: str | None
    command: str
    paused: bool


class ScheduledDocument(Document):
    message: str
    job: Job | None
    changes: list[Change]
    warnings: list[str]


class ScheduleDocument(Document):
    """Of a schedule that was only shown."""

    jobs: list[Job]
    configured: str | None


class HealthProblem(TypedDict):
    code: str
    severity: Literal["error", "warning"]
    message: str
    remedy: str


class StatusDocument(Document):
    headline: str
    observed: Time
    host: str
    account: str
    project: dict[str, str | None]
    deployment: dict[str, Any] | None
    api: dict[str, str]
    release: dict[str, Any]
    mlflow: dict[str, str | None]
    database_schema: dict[str, str | None]
    token: dict[str, Any]
    unfinished: dict[str, Any]
    gc: dict[str, Any]
    backup: dict[str, Any]
    secrets: dict[str, list[str]]
    sharing: list[dict[str, str]]
    drift: list[StageDrift]
    not_compared: list[dict[str, Any]]
    problems: list[HealthProblem]
    requests: int
    seconds: float


class StageDrift(TypedDict):
    stage: int
    name: str
    changes: list[Change]


class Finding(TypedDict):
    group: str
    check: str
    severity: Literal["ok", "info", "warning", "error", "skipped"]
    message: str
    remedy: str


class DoctorDocument(Document):
    counts: dict[str, int]
    findings: list[Finding]


class VerifyDocument(Document):
    url: str
    checks: list[Check]


class RotatedAccount(TypedDict):
    account: str
    outcome: Literal["stored", "kept", "failed"]
    error: Error | None


class RotationDocument(Document):
    reason: str
    deployment_id: str
    url: str
    accounts: list[RotatedAccount]
    remaining: list[str]
    """Accounts without the new token."""
    token_downtime_seconds: float | None
    observed_downtime_seconds: float | None
    gc: dict[str, str] | None
    restarted: bool
    rolled_back: bool
    token: dict[str, Any]
    warnings: list[str]
    error: Error | None


class CrontabDocument(Document):
    line: str
    words: str
    warnings: list[str]


class GcJob(TypedDict):
    id: str
    name: str
    variables: dict[str, str]


class NextTime(TypedDict):
    utc: str
    local: str


class GcSchedule(TypedDict):
    cron: str
    words: str
    next: list[NextTime]


class GcDocument(Document):
    changes: list[Change]
    job: GcJob | None
    schedule: GcSchedule | None
    differences: list[ScheduleDifference]
    """What the next `install` reverts."""
    pruned_runs: int
    run: Run | None
    warnings: list[str]
    error: Error | None


class ShareDocument(Document):
    changes: list[Change]
    shared: list[ShareResult]
    notes: list[str]


class EnvDocument(Document):
    environment: dict[str, str]


class OpenDocument(Document):
    url: str


class LogsDocument(Document):
    source: dict[str, Any]
    lines: list[str]


class Entry(TypedDict):
    began: Time | None
    ended: Time | None
    seconds: float | None
    who: str
    verb: str
    outcome: str
    changed: list[str]
    trouble: list[str]


class HistoryDocument(Document):
    journal: str | None  # null where the sandbox has never run
    entries: list[Entry]
    unreadable_lines: int


class FromTo(TypedDict("FromTo", {"from": str, "to": str})):
    """Before and after."""


class UpgradePlan(TypedDict):
    release: FromTo
    mlflow: FromTo


class UpgradeCheck(TypedDict):
    name: str
    passed: bool
    message: str


class UpgradeDocument(Document):
    changes: UpgradePlan | None
    rehearsal: dict[str, Any] | None
    snapshot: str | None
    migration: dict[str, Any] | None
    kept_archive: str | None
    downtime_seconds: float | None
    checks: list[UpgradeCheck]
    saved_copy: NotRequired[str | None]
    warnings: list[str]


class UninstallDocument(Document):
    changes: list[Change]
    kept: list[str]
    archive: str | None
    warnings: list[str]


class InitDocument(Document):
    path: str


class RunbookDocument(Document):
    markdown: str


class ExportDocument(Document):
    version: str
    archive: str
    checksum: str
    sha256: str
    bytes: int


class SandboxDocument(Document):
    running: bool
    url: NotRequired[str]
    hostname: NotRequired[str]
    accounts: NotRequired[list[str]]
    ca_file: NotRequired[str]
    pid: NotRequired[int]
    state_dir: NotRequired[str]
    credentials_file: NotRequired[str]


class SandboxDownDocument(Document):
    was_running: bool


class SandboxLogsDocument(Document):
    lines: list[str]


class SandboxResetDocument(Document):
    removed: list[str]


# verb -> the forms of its document, besides Failure, and the outcomes besides failed and interrupted
FORMS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "plan": (RunDocument, ("unchanged", "changes pending")),
    "install": (RunDocument | Recovery, ("changed", "unchanged")),
    "status": (StatusDocument, ("healthy", "unhealthy", "not installed")),
    "doctor": (DoctorDocument, ("passed",)),
    "verify": (VerifyDocument, ("passed",)),
    "rotate-token": (RotationDocument, ("rotated", "finished", "unchanged", "incomplete")),
    "schedule-rotation": (CrontabDocument, ("done",)),
    "schedule-gc": (GcDocument, ("changed", "unchanged", "paused", "resumed", "removed", "ran")),
    "share": (ShareDocument, ("changed", "unchanged", "done")),
    "backup": (JobDocument, ("done",)),
    "backup list": (JobDocument, ("done",)),
    "backup show": (JobDocument, ("done",)),
    "backup verify": (JobDocument, ("done",)),
    "backup prune": (JobDocument, ("done",)),
    "backup schedule": (ScheduledDocument | ScheduleDocument, ("done", "changed", "unchanged", "removed")),
    "restore": (Recovery | JobDocument, ("changed", "unchanged", "done")),
    "drill": (JobDocument, ("done",)),
    "drill schedule": (ScheduledDocument | ScheduleDocument, ("done", "changed", "unchanged", "removed")),
    "upgrade": (UpgradeDocument, ("upgraded", "unchanged", "rehearsed", "rolled back")),
    "uninstall": (UninstallDocument, ("changed", "unchanged")),
    "env": (EnvDocument, ("done",)),
    "open": (OpenDocument, ("done",)),
    "logs": (LogsDocument, ("done",)),
    "history": (HistoryDocument, ("done",)),
    "init": (InitDocument, ("done",)),
    "runbook": (RunbookDocument, ("done",)),
    "release export": (ExportDocument, ("done", "unchanged")),
    "sandbox up": (SandboxDocument, ("done",)),
    "sandbox status": (SandboxDocument, ("done",)),
    "sandbox down": (SandboxDownDocument, ("done",)),
    "sandbox logs": (SandboxLogsDocument, ("done",)),
    "sandbox reset": (SandboxResetDocument, ("done",)),
}
# The job whose report stands in the document of a verb; contract.json has its fields.
REPORTS = {
    **{verb: "Backup" for verb in FORMS if verb.startswith("backup") and verb != "backup schedule"},
    "drill": "Drill",
    "restore": "Restore",
    "schedule-gc": "GarbageCollection",
}
_ANY_KIND = frozenset({"Change"})  # a kind of change has fields of its own


def like(verb: str) -> list[str]:
    """The verbs with the same form, this one included: they share a schema."""
    form = FORMS[verb], REPORTS.get(verb)
    return [other for other in FORMS if (FORMS[other], REPORTS.get(other)) == form]


def schema(verb: str, *, strict: bool = False) -> dict[str, Any]:
    """strict: every field must be known."""
    form, outcomes = FORMS[verb]
    made = TypeAdapter(form | Failure).json_schema()
    definitions = made.pop("$defs")
    if verb in REPORTS:
        _add_report(definitions, REPORTS[verb])
    for name, definition in definitions.items():
        _arrange(name, definition, strict=strict)
        if "schema" in definition.get("properties", {}):
            definition["properties"]["verb"] = {"enum": like(verb)}
            definition["properties"]["outcome"] = {"enum": _outcomes(name, outcomes)}
    return {
        "$schema": DRAFT,
        "title": f"mlflow-ae5-deploy {', '.join(like(verb))} --json",
        "anyOf": made["anyOf"],
        "$defs": definitions,
    }


def _outcomes(name: str, outcomes: tuple[str, ...]) -> list[str]:
    return ["failed", "interrupted"] if name == "Failure" else [*outcomes, "failed"]


def _arrange(name: str, definition: dict[str, Any], *, strict: bool) -> None:
    definition.pop("title", None)
    for field in definition.get("properties", {}).values():
        field.pop("title", None)
    if "description" in definition:
        definition["description"] = " ".join(definition["description"].split())
    if strict and definition.get("type") == "object" and name not in _ANY_KIND:
        definition["additionalProperties"] = False


def _add_report(definitions: dict[str, Any], command: str) -> None:
    contract = json.loads((ROOT / "project_template" / "mlflow_ae5_server" / "contract.json").read_text())
    definitions["Run"]["properties"]["report"] = {"$ref": f"#/$defs/Report.{command}"}
    fields = contract["report"] | contract["commands"][command]["report"]
    _add_report_type(definitions, contract["types"], command, fields)


def _add_report_type(
    definitions: dict[str, Any], types: Mapping[str, Any], name: str, fields: Mapping[str, Any]
) -> None:
    """Also those that its fields refer to."""
    definitions[f"Report.{name}"] = _contract_object(fields)
    for kind in map(_innermost, fields.values()):
        if kind in types and f"Report.{kind}" not in definitions:
            _add_report_type(definitions, types, kind, types[kind])


def _innermost(kind: Any) -> str:
    return _innermost(kind[0]) if isinstance(kind, list) else str(kind)


def _contract_object(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: _contract_type(kind) for name, kind in fields.items()}}


def _contract_type(kind: Any) -> dict[str, Any]:
    """Any field of a report may be null."""
    if isinstance(kind, list):
        return {"type": ["array", "null"], "items": _contract_type(kind[0])}
    plain = {"text": "string", "integer": "integer", "number": "number", "flag": "boolean", "object": "object"}
    if kind in plain:
        return {"type": [plain[kind], "null"]}
    return {"anyOf": [{"$ref": f"#/$defs/Report.{kind}"}, {"type": "null"}]}


@functools.cache
def _strict(verb: str) -> Draft202012Validator:
    return Draft202012Validator(schema(verb, strict=True))


def check(document: Mapping[str, Any]) -> None:
    """Raise AssertionError where a document is not of the form of its verb."""
    verb = str(document.get("verb"))
    if verb in (named := {f"{group} {default}": group for group, default in DEFAULTS.items()}):
        verb, document = named[verb], {**document, "verb": named[verb]}
    if not verb:  # a wrong option of the program itself
        return
    if verb not in FORMS:
        raise AssertionError(f"no form for the verb {verb!r}: add it to tools/json_forms.py")
    found = [_deepest(error) for error in _strict(verb).iter_errors(document)]
    if found:
        raise AssertionError(f"the document of {verb} differs from its form in tools/json_forms.py: {found}")


def _deepest(error: Any) -> str:
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), -inner.schema_path[0]))
    return f"{'.'.join(str(part) for part in error.absolute_path) or 'document'}: {error.message[:300]}"
