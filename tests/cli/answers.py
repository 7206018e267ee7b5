"""Assertions about failed verbs and about problems in `status --json`, shared by the tests of the command line."""

from __future__ import annotations

import json

from mlflow_ae5_deploy.common import errors
from tests.cli.bench import Outcome

# exit code -> class, read from the error tree: the published table.
CLASSES = {
    cls.exit_code: cls.__name__
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, errors.DeployError) and "exit_code" in vars(cls)
}


def assert_error(outcome: Outcome, code: int, *words: str) -> None:
    """Ended with this code, and one block of text that says what, where and what to do, with these words in it."""
    assert outcome.code == code, f"{outcome.code}\n{outcome.out}\n{outcome.err}"
    block = outcome.err[f"\n{outcome.err}".rindex("\nError: ") :]
    assert f"  exit     {code} (" in block
    for part in ("\n  where    ", "\n  do this  "):
        assert part in block, block
    for word in words:
        assert word in block, f"{word!r} is not in\n{block}"
    assert_no_accident(outcome)
    if outcome.out.startswith("{"):
        shown = json.loads(outcome.out)
        assert shown["outcome"] == "failed"
        assert shown["error"]["exit_code"] == code


def assert_no_accident(outcome: Outcome) -> None:
    """Neither a traceback nor a `bug`."""
    for text in (outcome.out, outcome.err):
        assert "Traceback" not in text
        assert "A bug in" not in text


def errors_of(status: dict) -> list[str]:
    """The problems of `status --json` that make it unhealthy, each with its remedy."""
    return _problems(status, "error")


def warnings_of(status: dict) -> list[str]:
    return _problems(status, "warning")


def _problems(status: dict, severity: str) -> list[str]:
    return [f"{item['message']} {item['remedy']}" for item in status["problems"] if item["severity"] == severity]
