"""The state on disk: typed, private, comparable, and never a secret's value."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.records import (
    DeploymentDefinition,
    DeploymentSpec,
    InterruptedRotation,
    Outcome,
    PendingJobChange,
    PendingRestart,
    RepositoryRecord,
    RestoreRecord,
    Sample,
    ScheduledJobRecord,
    SnapshotRecord,
    StoredToken,
    UpgradeRecord,
)
from mlflow_ae5_deploy.engine.state import VERSION, SavedState

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "MLFLOW_TRACKING_TOKEN"
SPEC = DeploymentSpec("n", "e", "c", "default", "latest")
DEFINITION = DeploymentDefinition(SPEC, {"GREETING": "hello"}, (("user", "a", "rw"),))
RESTART = PendingRestart("a2-1", WHEN, DEFINITION)
UPGRADE = UpgradeRecord(
    "digest",
    "3.18.0",
    "3.17.0",
    "a0-1",
    "/kept.tar.gz",
    "saving",
    WHEN,
    DEFINITION,
    WHEN,
)
# every field, with a value that is not its default
FULL = {
    "gc_tested": WHEN,
    "rotation": InterruptedRotation("a2-1", ("reader",), WHEN, gc_tested=True),
    "restart": RESTART,
    "upgrade": UPGRADE,
    "restore": RestoreRecord("S1", "a0-1", WHEN, "done", "S1", verified=True, message="text"),
    "job_changes": {"backup": PendingJobChange(True, ("a2-1",))},
    "schedules": {"b": ScheduledJobRecord("b", "Backup", "0 2 * * *", {"A": "b"}, "backup", deleted_with="a0-1")},
    "stale_secrets": ("A",),
    "uncertain_secrets": ("B",),
    "shared": (("group", "analysts"),),
    "snapshot": SnapshotRecord("S1", WHEN, damaged=True, sampled=Sample(WHEN, 1, 2)),
    "repository": RepositoryRecord("f", "r", 3, "r", WHEN),
    "outcomes": {"check": Outcome("check", WHEN, False, "damaged")},
}


def load(folder):
    return SavedState.load(folder)


def filled(folder):
    state = load(folder)
    state.record_secrets("svc", {"NAME": Secret("value-one")}, WHEN)
    state.record_token(token("svc"), own=True)
    for name, value in FULL.items():
        setattr(state, name, value)
    state.save()
    return state


def token(account, deployment="a2-1", **changes):
    return replace(StoredToken(account, deployment, WHEN, None, WHEN), **changes)


def edited(folder, **fields):
    """The file with other values in it, as somebody has damaged it."""
    file = folder / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_what_is_saved_is_loaded_field_by_field(tmp_path):
    state = filled(tmp_path)

    again = load(tmp_path)

    for name in SavedState.model_fields:
        assert getattr(again, name) == getattr(state, name), name
        assert name in ("version", "previous_tokens") or getattr(again, name) != getattr(load(tmp_path / "x"), name)


def test_a_secret_is_same_different_or_unknown(tmp_path):
    load(tmp_path).record_secrets("svc", {"NAME": Secret("value-one")}, WHEN)

    again = load(tmp_path)

    assert again.compare_secret("svc", "NAME", Secret("value-one")) == "same"
    assert again.compare_secret("svc", "NAME", Secret("value-two")) == "different"
    assert again.compare_secret("svc", "OTHER", Secret("value-one")) == "unknown"
    assert again.compare_secret("somebody", "NAME", Secret("value-one")) == "unknown"


def test_the_file_is_private_and_holds_no_value(tmp_path):
    load(tmp_path).record_secrets("svc", {"NAME": Secret("the-value-itself")}, WHEN)

    file = tmp_path / "state.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "the-value-itself" not in file.read_text()


@pytest.mark.parametrize("field", ["restart", "upgrade"])
def test_a_variable_that_looks_like_a_credential_is_not_on_disk(tmp_path, field):
    registered = Secret("a-value-known-to-be-secret")
    credentials = {
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:hunter2@db/mlflow",
        "AWS_SECRET_ACCESS_KEY": "abcdefgh",
        "MESSAGE": registered.reveal(),
    }
    definition = replace(DEFINITION, variables={"GREETING": "hello", **credentials})
    state = filled(tmp_path)
    setattr(state, field, replace(getattr(state, field), definition=definition))
    state.save()

    text = (tmp_path / "state.json").read_text()
    assert not [value for value in ("hunter2", "abcdefgh", registered.reveal()) if value in text]
    assert getattr(load(tmp_path), field).definition.variables == {"GREETING": "hello", **dict.fromkeys(credentials)}
    assert getattr(state, field).definition == definition, "this run still needs it"


def test_two_installations_have_different_fingerprints_of_the_same_value(tmp_path):
    one, two = load(tmp_path / "one"), load(tmp_path / "two")

    assert one.fingerprint(Secret("value-one")) != two.fingerprint(Secret("value-one"))


SALT = f'"version": {VERSION}, "salt": "00"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00",
        "[" * 5000,
        '{"version": 99, "salt": "00"}',
        f'{{"version": {VERSION}}}',
        f'{{"version": {VERSION}, "salt": "no hex"}}',
        f'{{{SALT}, "restore": {{"status": "perhaps"}}}}',
        f'{{{SALT}, "job_changes": {{"backup": 1}}}}',
        f'{{{SALT}, "upgrade": {{"release": "3.18.0"}}}}',
    ],
)
def test_a_damaged_file_is_refused_with_a_way_out(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(Configuration) as caught:
        load(tmp_path)

    assert "ove the file away" in caught.value.remedy
    assert caught.value.where == str(tmp_path / "state.json")


@pytest.mark.parametrize("text", ['{"version": 2, "sal', f'{{{SALT}, "restore": {{"status": "perhaps"}}}}'])
def test_a_damaged_file_says_that_interrupted_operations_are_forgotten(tmp_path, text):
    (tmp_path / "state.json").write_text(text)

    with pytest.raises(Configuration) as caught:
        load(tmp_path)

    assert "interrupted upgrade or restore is then forgotten: `history`" in caught.value.remedy


def test_a_damaged_record_of_an_upgrade_points_to_the_previous_archive(tmp_path):
    filled(tmp_path)
    edited(tmp_path, upgrade={"release": "3.18.0"})

    with pytest.raises(Configuration, match=r"interrupted upgrade is damaged \(upgrade\.") as caught:
        load(tmp_path)

    assert "`replaced`" in caught.value.remedy
    assert "restore --release" in caught.value.remedy


DAMAGED = [
    ("snapshot", {"id": "S1", "finished": "yesterday"}, None),
    ("snapshot", "S1", None),
    ("snapshot", {"id": "S1", "finished": "2026-01-01T00:00:00"}, None),  # without a time zone
    ("repository", {"id": 7}, None),
    ("gc_tested", "soon", None),
    ("outcomes", {"check": {"when": "soon"}, "drill": {}}, {}),
    ("outcomes", [], {}),
    ("tokens", {"svc": {"deployment_id": "a2-1"}}, {}),
    ("secrets", {"svc": "value"}, {}),
]


@pytest.mark.parametrize(("field", "value", "loaded"), DAMAGED)
def test_a_damaged_observation_is_left_out(tmp_path, field, value, loaded):
    filled(tmp_path)
    edited(tmp_path, **{field: value})

    assert getattr(load(tmp_path), field) == loaded


@pytest.mark.parametrize("damaged", ["value", {}, {"fingerprint": 7, "stored": "soon"}])
def test_a_damaged_record_of_a_secret_counts_as_another_value(tmp_path, damaged):
    state = filled(tmp_path)
    state.record_secrets("svc", {"FIRST": Secret("one"), "SECOND": Secret("two")}, WHEN)
    stored = json.loads((tmp_path / "state.json").read_text())["secrets"]
    stored["svc"]["FIRST"] = damaged
    edited(tmp_path, secrets=stored)

    loaded = load(tmp_path)

    assert loaded.compare_secret("svc", "FIRST", Secret("one")) == "different"
    assert loaded.compare_secret("svc", "SECOND", Secret("two")) == "same"


def test_read_only_writes_nothing(tmp_path):
    SavedState.load(tmp_path / "x", read_only=True).record_secrets("svc", {"NAME": Secret("v")}, WHEN)

    assert not (tmp_path / "x").exists()


def test_an_unchanged_state_is_not_written(tmp_path):
    load(tmp_path / "x").forget_deployment()
    assert not (tmp_path / "x").exists()

    state = filled(tmp_path)
    (tmp_path / "state.json").unlink()
    state.save()
    assert not (tmp_path / "state.json").exists()


def test_reload_shows_what_another_run_has_saved(tmp_path):
    state, other = filled(tmp_path), load(tmp_path)
    other.restart, other.shared = None, ()
    other.save()

    state.reload()

    assert (state.restart, state.shared) == (None, ())


def test_a_job_change_is_about_that_job_alone(tmp_path):
    state = load(tmp_path)
    state.record_job_change("backup", paused=True, jobs=["a2-2"])
    state.record_job_change("backup", paused=True, jobs=["a2-1"])
    state.record_job_change("drill", paused=False, jobs=["a2-3"])
    state.end_job_change("drill")
    state.end_job_change("garbage collection")

    assert load(tmp_path).job_changes == {"backup": PendingJobChange(True, ("a2-1", "a2-2"))}


def test_without_a_deployment_only_secrets_restore_and_backups_stay(tmp_path):
    filled(tmp_path).forget_deployment()

    state, fresh = load(tmp_path), load(tmp_path / "x")

    stays = {"version", "salt", "secrets", "restore", "snapshot", "repository", "outcomes", "gc_tested"}
    for name in set(SavedState.model_fields) - stays - {"previous_tokens"}:
        assert getattr(state, name) == getattr(fresh, name), name
    assert all(getattr(state, name) for name in stays)
    assert list(state.previous_tokens) == ["svc"]


class TestTokens:
    def record(self, folder, *accounts, deployment="a2-1"):
        state = load(folder)
        for account in accounts:
            state.record_token(token(account, deployment), own=account == "svc")
        return state

    def test_each_account_has_one_of_its_own(self, tmp_path):
        self.record(tmp_path, "svc", "reader")

        assert load(tmp_path).tokens == {"svc": token("svc"), "reader": token("reader")}

    def test_an_invalidated_token_is_a_previous_one_until_another_is_stored(self, tmp_path):
        self.record(tmp_path, "svc", "reader", "gone").invalidate_tokens()
        assert load(tmp_path).tokens == {}

        state = self.record(tmp_path, "svc", deployment="a2-2")
        state.forget_secret("gone", TOKEN)

        assert load(tmp_path).previous_tokens == {"reader": token("reader")}
        assert list(load(tmp_path).tokens) == ["svc"]

    def test_a_secret_overwritten_by_another_write_is_no_stored_token(self, tmp_path):
        self.record(tmp_path, "svc").record_secrets("svc", {TOKEN: Secret("from elsewhere")}, WHEN)

        assert load(tmp_path).tokens == {}

    def test_a_rotation_shrinks_by_each_account_that_has_its_token(self, tmp_path):
        state = load(tmp_path)
        state.rotation = InterruptedRotation("a2-1", ("svc", "reader"), WHEN)
        state.save()
        left = replace(state.rotation, remaining=("reader",))

        self.record(tmp_path, "svc")
        assert load(tmp_path).rotation == left
        self.record(tmp_path, "reader", deployment="another")
        assert load(tmp_path).rotation == left

    def test_a_restart_is_pending_until_the_service_account_has_its_token(self, tmp_path):
        state = load(tmp_path)
        state.restart = RESTART
        state.save()

        self.record(tmp_path, "reader")
        assert load(tmp_path).restart == RESTART
        self.record(tmp_path, "svc")
        assert load(tmp_path).restart is None
