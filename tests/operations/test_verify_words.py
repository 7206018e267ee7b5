"""What a verification says of answers and of what it skipped."""

from __future__ import annotations

import json

import pytest

from mlflow_ae5_deploy.common.errors import VerificationFailed
from mlflow_ae5_deploy.common.mlflow_api import Answer
from mlflow_ae5_deploy.operations.verify import Check, Verification, require

NO_TABLE = "(sqlite3.OperationalError) no such table: experiments\n[SQL: SELECT experiments.experiment_id]"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": NO_TABLE}),
            "503 TEMPORARILY_UNAVAILABLE (sqlite3.OperationalError) no such table: experiments",
        ),
        (json.dumps({"message": 3}), '503 {"message": 3}'),
        ("no\n upstream", "503 no upstream"),
        ("x" * 301, f"503 {'x' * 300}…"),
        ("", "503"),
    ],
)
def test_an_answer_is_quoted_in_words(body, message):
    assert Answer(503, "text/plain", body.encode()).message == message


@pytest.mark.parametrize(
    ("skipped", "words"), [(6, "1 of 2 checks failed: one; 6 skipped."), (0, "1 of 2 checks failed: one.")]
)
def test_skipped_checks_are_counted_and_a_shown_failure_is_not_repeated(skipped, words):
    checks = [Check("one", False, "503", 0.1), Check("two", True, "", 0.1)]
    with pytest.raises(VerificationFailed) as caught:
        require(Verification("https://it", checks, skipped))
    assert (caught.value.what, caught.value.detail) == (words, "")
