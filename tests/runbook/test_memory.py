"""What is remembered: comparable, private, and never a value."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.errors import Configuration
from mlflow_ae5_deploy.redaction import Secret
from mlflow_ae5_deploy.runbook.memory import Memory

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_secret_is_same_different_or_unknown(tmp_path):
    Memory(tmp_path).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    again = Memory(tmp_path)

    assert again.secret_state("svc", "NAME", Secret("value-one")) == "same"
    assert again.secret_state("svc", "NAME", Secret("value-two")) == "different"
    assert again.secret_state("svc", "OTHER", Secret("value-one")) == "unknown"
    assert again.secret_state("somebody", "NAME", Secret("value-one")) == "unknown"


def test_the_file_is_private_and_holds_no_value(tmp_path):
    Memory(tmp_path).remember_token("svc", "a2-1", Secret("the-token-itself"), WHEN, own=True)

    file = tmp_path / "memory.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "the-token-itself" not in file.read_text()


def test_a_token_belongs_to_one_deployment(tmp_path):
    memory = Memory(tmp_path)
    memory.remember_token("svc", "a2-1", Secret("token-value"), WHEN, own=True)
    memory.remember_token("reader", "a2-1", Secret("token-value"), WHEN, own=False)

    assert Memory(tmp_path).token_deployment() == "a2-1"
    assert Memory(tmp_path).token_stored_for("reader") == "a2-1"
    memory.forget_token()
    assert Memory(tmp_path).token_deployment() is None
    assert Memory(tmp_path).token_stored_for("reader") is None


def test_two_installations_have_different_fingerprints_of_the_same_value(tmp_path):
    for name in ("one", "two"):
        Memory(tmp_path / name).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    assert (tmp_path / "one" / "memory.json").read_text() != (tmp_path / "two" / "memory.json").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99, "salt": "00"}', '{"schema": 1}'])
def test_a_damaged_memory_is_refused_with_a_way_out(tmp_path, text):
    (tmp_path / "memory.json").write_text(text)

    with pytest.raises(Configuration) as caught:
        Memory(tmp_path)

    assert caught.value.remedy
    assert str(tmp_path) in caught.value.where


def test_read_only_writes_nothing(tmp_path):
    Memory(tmp_path / "x", read_only=True).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    assert not (tmp_path / "x").exists()
