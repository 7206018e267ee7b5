"""What is remembered: comparable, private, and never a value."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.state import PendingJobChange, State

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_secret_is_same_different_or_unknown(tmp_path):
    State(tmp_path).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    again = State(tmp_path)

    assert again.secret_state("svc", "NAME", Secret("value-one")) == "same"
    assert again.secret_state("svc", "NAME", Secret("value-two")) == "different"
    assert again.secret_state("svc", "OTHER", Secret("value-one")) == "unknown"
    assert again.secret_state("somebody", "NAME", Secret("value-one")) == "unknown"


def test_the_file_is_private_and_holds_no_value(tmp_path):
    State(tmp_path).remember_token("svc", "a2-1", Secret("the-token-itself"), WHEN, issued=WHEN, own=True)

    file = tmp_path / "state.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "the-token-itself" not in file.read_text()


def test_a_token_belongs_to_one_deployment(tmp_path):
    state = State(tmp_path)
    state.remember_token("svc", "a2-1", Secret("token-value"), WHEN, issued=WHEN, own=True)
    state.remember_token("reader", "a2-1", Secret("token-value"), WHEN, issued=WHEN, own=False)

    assert State(tmp_path).token_deployment() == "a2-1"
    assert State(tmp_path).token_stored_for("reader") == "a2-1"
    state.forget_token()
    assert State(tmp_path).token_deployment() is None
    assert State(tmp_path).token_stored_for("reader") is None


def test_two_installations_have_different_fingerprints_of_the_same_value(tmp_path):
    for name in ("one", "two"):
        State(tmp_path / name).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    assert (tmp_path / "one" / "state.json").read_text() != (tmp_path / "two" / "state.json").read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99, "salt": "00"}', '{"schema": 1}'])
def test_a_damaged_memory_is_refused_with_a_way_out(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(Configuration) as caught:
        State(tmp_path)

    assert caught.value.remedy
    assert str(tmp_path) in caught.value.where


def test_read_only_writes_nothing(tmp_path):
    State(tmp_path / "x", read_only=True).remember_secret("svc", "NAME", Secret("value-one"), WHEN)

    assert not (tmp_path / "x").exists()


def test_a_token_that_is_put_away_is_remembered_as_a_former_one_until_another_is_stored(tmp_path):
    state = State(tmp_path)
    for account in ("svc", "reader", "gone"):
        state.remember_token(account, "a2-1", Secret("token-value"), WHEN, issued=WHEN, own=account == "svc")
    state.forget_token()
    state.remember_token("svc", "a2-2", Secret("another-value"), WHEN, issued=WHEN, own=True)
    state.forget_secret("gone", "MLFLOW_TRACKING_TOKEN")

    (previous,) = State(tmp_path).previous_tokens()

    assert (previous.account, previous.deployment_id, previous.stored) == ("reader", "a2-1", WHEN)
    assert [known.account for known in state.stored_tokens()] == ["svc"]


def test_what_is_noted_of_a_job_that_is_made_anew_is_that_jobs_alone(tmp_path):
    state = State(tmp_path)
    state.begin_job_change("backup", paused=True, jobs=["a2-2"])
    state.begin_job_change("backup", paused=True, jobs=["a2-1"])
    state.begin_job_change("drill", paused=False, jobs=["a2-3"])
    state.end_job_change("drill")
    state.end_job_change("garbage collection")

    again = State(tmp_path)

    assert again.job_change("backup") == PendingJobChange(True, ("a2-1", "a2-2"))
    assert [again.job_change(name) for name in ("drill", "garbage collection")] == [None, None]
    again.forget_deployment()
    assert State(tmp_path).job_change("backup") is None


def test_where_there_is_no_deployment_nothing_is_pending_but_a_recovery_and_the_snapshot_are_known(tmp_path):
    state = State(tmp_path)
    state.note_restart({"id": "a2-1"})
    state.note_upgrade({"desired": "3.18.0"})
    state.begin_rotation("a2-1", ["svc"], None)
    state.note_stale_server(["A"])
    state.note_unsure_server(["B"])
    state.note_recovery({"state": "begun"})
    state.remember_snapshot({"id": "S1"})

    state.forget_deployment()

    again = State(tmp_path)
    assert (again.pending_restart(), again.pending_upgrade(), again.unfinished_rotation()) == (None, None, None)
    assert (again.stale_server(), again.unsure_server()) == ([], [])
    assert (again.recovery(), again.snapshot()) == ({"state": "begun"}, {"id": "S1"})


def test_where_nothing_is_remembered_forgetting_writes_nothing(tmp_path):
    State(tmp_path / "x").forget_deployment()

    assert not (tmp_path / "x").exists()


class TestTokens:
    END = datetime(2027, 1, 1, tzinfo=UTC)

    def remember(self, folder, *accounts, deployment="a2-1", **more):
        state = State(folder)
        for account in accounts:
            state.remember_token(
                account, deployment, Secret("token-value"), WHEN, issued=WHEN, own=account == "svc", **more
            )
        return state

    def test_age_end_and_consumers_are_kept(self, tmp_path):
        self.remember(tmp_path, "svc", "reader", expires=self.END)

        reader, own = sorted(State(tmp_path).stored_tokens(), key=lambda token: token.account)

        assert (own.account, own.deployment_id, own.stored, own.expires) == ("svc", "a2-1", WHEN, self.END)
        assert reader.account == "reader"

    def test_a_secret_overwritten_by_another_write_is_no_stored_token(self, tmp_path):
        state = self.remember(tmp_path, "svc")
        state.remember_secret("svc", "MLFLOW_TRACKING_TOKEN", Secret("from elsewhere"), WHEN)

        assert State(tmp_path).stored_token("svc") is None

    def test_a_record_that_does_not_match_the_fingerprint_is_no_stored_token(self, tmp_path):
        self.remember(tmp_path, "svc")
        file = tmp_path / "state.json"
        data = json.loads(file.read_text())
        data["secrets"]["svc/MLFLOW_TRACKING_TOKEN"]["fingerprint"] = "0" * 64
        file.write_text(json.dumps(data))

        assert State(tmp_path).stored_token("svc") is None

    def test_a_rotation_shrinks_by_each_account_served(self, tmp_path):
        State(tmp_path).begin_rotation("a2-1", ["svc", "reader"], WHEN)
        self.remember(tmp_path, "svc")

        left = State(tmp_path).unfinished_rotation()
        assert (left.left, left.invalid_since) == (("reader",), WHEN)

        self.remember(tmp_path, "reader", deployment="another")
        assert State(tmp_path).unfinished_rotation().left == ("reader",)

        State(tmp_path).end_rotation()
        assert State(tmp_path).unfinished_rotation() is None

    def test_a_restart_is_pending_until_the_service_account_has_its_token(self, tmp_path):
        State(tmp_path).note_restart({"deployment_id": "a2-0"})
        self.remember(tmp_path, "reader")
        assert State(tmp_path).pending_restart() == {"deployment_id": "a2-0"}

        self.remember(tmp_path, "svc")
        assert State(tmp_path).pending_restart() is None
