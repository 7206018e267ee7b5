"""What MLflow encrypts, with a real MLflow: over restarts, in snapshots, and with another key at hand. In order."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from mlflow_ae5_server.common import keys
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.repository import manifest

from mlflow_ae5_deploy.resources.served_database import lost_keys

pytestmark = pytest.mark.slow

PASSPHRASE = "a passphrase of the administrator's own"
WEBHOOK_KEY = "ZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY="
OTHER_KEY = "b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28="
LLM_KEY = "sk-planted-0123456789abcdefghijklmnopqrstuvwxyz"
SECRET = "hmac-planted-0123456789"
LOOPBACK = {"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}


def enter_llm_key(server: Any, name: str, value: str = LLM_KEY) -> None:
    body = {"secret_name": name, "secret_value": {"api_key": value}, "provider": "openai"}
    made = server.call("POST", "/api/3.0/mlflow/gateway/secrets/create", json=body)
    assert made.status_code == 200, made.text


def enter_webhook(server: Any, name: str) -> str:
    events = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
    body = {"name": name, "url": "https://127.0.0.1:9/", "events": events, "secret": SECRET}
    made = server.call("POST", "/api/2.0/mlflow/webhooks", json=body)
    assert made.status_code == 200, made.text
    return str(made.json()["webhook"]["webhook_id"])


def set_keys(project: Any, passphrase: str | None = PASSPHRASE, webhooks: str | None = WEBHOOK_KEY) -> None:
    for name, value in ((keys.PASSPHRASE, passphrase), (keys.WEBHOOKS, webhooks)):
        (project.secrets / name).unlink(missing_ok=True)
        if value is not None:
            project.secret(name, value)


def read(project: Any, **environ: str) -> list[keys.Encrypted]:
    from mlflow_ae5_server.database.connection import check_uri, connect_engine

    file = project.folder / "data/mlflow/standalone/store/mydb.sqlite"
    store = check_uri(f"sqlite:///{file}")
    return keys.examine(connect_engine(store), environ)


KEYS = {keys.PASSPHRASE: PASSPHRASE, keys.WEBHOOKS: WEBHOOK_KEY}


@dataclass
class Kept:
    project: Any
    snapshot: dict[str, Any]
    first_log: str


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A server without keys, as before; then with keys; then started once more, used, and backed up."""
    from tests.project_template.conftest import Project

    project = Project(tmp_path_factory.mktemp("keys"))
    with project.server(MLFLOW_WORKERS="1", **LOOPBACK) as server:
        enter_llm_key(server, "from before")
        first_log = server.log()
    assert read(project, **KEYS)[0].published == ("from before",)
    set_keys(project)
    with project.server(MLFLOW_WORKERS="2", **LOOPBACK) as server:
        enter_llm_key(server, "planted")
        enter_webhook(server, "planted")
        server.new_run()
    first_log += server.log()
    ended = project.run("Backup")
    assert ended.code == 0, ended.output
    return Kept(project, ended.last, first_log)


def test_what_was_encrypted_with_mlflows_constant_is_encrypted_again_at_the_start(kept: Kept) -> None:
    gateway, webhooks = read(kept.project, **KEYS)
    assert (gateway.rows, gateway.published, gateway.lost) == (2, (), ())
    assert (webhooks.rows, webhooks.lost) == (1, ())
    assert f"{keys.PASSPHRASE} is not set" in kept.first_log
    assert f"encrypted again, with {keys.PASSPHRASE}: 1 LLM key that a constant" in kept.first_log
    assert "replace them at their provider" in kept.first_log
    assert (kept.snapshot["outcome"], kept.snapshot["unsafe_keys"]) == ("done", [])


def test_webhooks_with_a_secret_survive_a_restart(kept: Kept) -> None:
    with kept.project.server(MLFLOW_WORKERS="2", **LOOPBACK) as server:
        listed = [server.call("GET", "/api/2.0/mlflow/webhooks") for _ in range(4)]  # by one worker and the other
        assert [answer.status_code for answer in listed] == [200] * 4, listed[0].text
        (webhook,) = listed[0].json()["webhooks"]
        assert server.call("GET", f"/api/2.0/mlflow/webhooks/{webhook['webhook_id']}").status_code == 200
        doomed = enter_webhook(server, "doomed")
        assert server.call("DELETE", f"/api/2.0/mlflow/webhooks/{doomed}").status_code == 200
        config = server.call("GET", "/ajax-api/3.0/mlflow/gateway/secrets/config").json()
        assert config["using_default_passphrase"] is False
    assert "warning: 1" not in server.log()


def test_neither_a_key_nor_what_it_encrypts_is_readable_in_a_snapshot(kept: Kept, tmp_path: Path) -> None:
    backups = kept.project.folder / "data/mlflow/standalone/backups"
    planted = [value.encode() for value in (LLM_KEY, SECRET, PASSPHRASE, WEBHOOK_KEY)]
    seen = 0
    for file in (path for path in backups.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if content[:1] == b"z" and (backups / "objects") in file.parents:  # kept as one byte and a zstd frame
            content = zstandard.ZstdDecompressor().decompress(content[1:], max_output_size=2**24)
        assert not [value for value in planted if value in content], file
        seen += b"planted" in content
    assert seen, "the rows were looked at"

    copy = restored(kept, tmp_path)
    set_keys(copy, None, None)
    gateway, webhooks = read(copy)  # with MLflow's constant, as anybody could
    assert (gateway.rows, gateway.published, len(gateway.lost)) == (2, (), 2)
    assert (webhooks.rows, len(webhooks.lost)) == (1, 1)


def restored(kept: Kept, folder: Path, passphrase: str | None = PASSPHRASE, webhooks: str | None = WEBHOOK_KEY) -> Any:
    """Another account, to which the snapshot was brought back."""
    from tests.project_template.conftest import Project

    project = Project(folder)
    shutil.copytree(
        kept.project.folder / "data/mlflow/standalone/backups", project.folder / "data/mlflow/standalone/backups"
    )
    set_keys(project, passphrase, webhooks)
    project.restored = project.run("Restore", "--snapshot", "latest")
    assert project.restored.code == 0, project.restored.output
    return project


AT_HAND = [
    ("the same", PASSPHRASE, WEBHOOK_KEY, ("same", "same"), []),
    ("another passphrase", "not-the-same", WEBHOOK_KEY, ("other", "same"), ["2 LLM keys cannot be read"]),
    ("another for webhooks", PASSPHRASE, OTHER_KEY, ("same", "other"), ["1 webhook secret cannot be read"]),
    ("none", None, None, ("unset", "unset"), ["2 LLM keys cannot be read", "1 webhook secret"]),
]


@pytest.mark.parametrize(
    ("case", "passphrase", "webhooks", "found", "message"), AT_HAND, ids=[row[0] for row in AT_HAND]
)
def test_restore_and_its_dry_run_say_when_the_key_at_hand_is_another_one(
    kept: Kept, tmp_path: Path, case: str, passphrase: str, webhooks: str, found: Any, message: list[str]
) -> None:
    project = restored(kept, tmp_path, passphrase, webhooks)
    dry = project.run("Restore", "--dry-run", MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path}/empty.sqlite")
    for ended in (project.restored, dry):
        assert tuple(key["at_hand"] for key in ended.last["keys"]) == found
        assert [key["rows"] for key in ended.last["keys"]] == [2, 1]
        assert len(ended.last["other_keys"]) == len(message)
        assert all(text in line for text, line in zip(message, ended.last["other_keys"], strict=True))
        assert all(f"warning: {line}" in ended.output for line in ended.last["other_keys"])
        assert not [value for value in (PASSPHRASE, WEBHOOK_KEY, OTHER_KEY) if value in ended.output]


def test_a_drill_reads_what_is_encrypted_or_fails(kept: Kept) -> None:
    for passphrase, code, text in (
        (PASSPHRASE, 0, "2 LLM keys, 1 webhook"),
        ("not-the-same", 1, "another MLFLOW_CRYPTO"),
    ):
        set_keys(kept.project, passphrase)
        ended = kept.project.run("Drill")
        assert ended.code == code, ended.output
        (check,) = [check for check in ended.last["checks"] if check["name"] == "keys"]
        assert (check["passed"], text in check["detail"]) == (code == 0, True), check
        assert [key["at_hand"] for key in ended.last["keys"]] == ["same" if code == 0 else "other", "same"]
    set_keys(kept.project)


def test_check_compares_with_given_values_and_with_the_newest_snapshot(kept: Kept) -> None:
    requests = [keys.make_check(name, KEYS) for name in keys.NAMES]
    requests[1] = keys.make_check(keys.WEBHOOKS, {keys.WEBHOOKS: OTHER_KEY})
    values = json.dumps([{"name": check.name, "salt": check.salt, "value": check.value} for check in requests])
    found = kept.project.run("Check", MLFLOW_TRACKING_CHECK_VALUES=values).last["keys"]
    assert {key["name"]: key["at_hand"] for key in found["compared"]} == {
        keys.PASSPHRASE: "same",
        keys.WEBHOOKS: "other",
    }
    assert (found["snapshot"], "warnings" in found) == (kept.snapshot["snapshot"], False)

    set_keys(kept.project, PASSPHRASE, OTHER_KEY)
    found = kept.project.run("Check").last["keys"]
    assert any("1 webhook secret (planted)" in text and "UPDATE webhooks SET" in text for text in found["warnings"])
    assert any("is another one here" in text for text in found["warnings"])
    set_keys(kept.project)


def test_the_statement_it_names_brings_lost_webhooks_back_into_the_list(kept: Kept, tmp_path: Path) -> None:
    project = restored(kept, tmp_path, PASSPHRASE, OTHER_KEY)
    (text,) = project.run("Check").last["keys"]["warnings"][:1]
    statement = text[text.index("UPDATE") : text.index(";")]
    with contextlib.closing(sqlite3.connect(project.folder / "data/mlflow/standalone/store/mydb.sqlite")) as database:
        database.execute(statement)
        database.commit()
    with project.server(MLFLOW_WORKERS="1", **LOOPBACK) as server:
        (webhook,) = server.call("GET", "/api/2.0/mlflow/webhooks").json()["webhooks"]
        assert webhook["status"] == "DISABLED"
        assert server.call("DELETE", f"/api/2.0/mlflow/webhooks/{webhook['webhook_id']}").status_code == 200


UNUSABLE = [
    ("MLflow's constant", keys.PASSPHRASE, "mlflow-default-kek-passphrase-for-development-only", "MLflow publishes"),
    ("no key for webhooks", keys.WEBHOOKS, "much-too-short-to-be-a-key", "32 bytes in URL-safe base64"),
    ("a version that is none", keys.VERSION, "second", "not a positive number"),
]


@pytest.mark.parametrize(("case", "name", "value", "message"), UNUSABLE, ids=[row[0] for row in UNUSABLE])
def test_a_key_that_is_none_is_refused_at_the_start(
    project: Any, case: str, name: str, value: str, message: str
) -> None:
    set_keys(project)
    project.secret(name, value)
    ended = project.run("TrackingServer", "--anaconda-project-address=127.0.0.1", "--anaconda-project-port", "0")
    assert ended.code == 3, ended.output
    assert message in ended.output
    assert "Traceback" not in ended.output
    assert name == keys.VERSION or value not in ended.output


def test_a_check_value_distinguishes_keys_and_is_slow_to_guess_from() -> None:
    first, again = (keys.make_check(keys.PASSPHRASE, KEYS) for _ in range(2))
    assert first.salt != again.salt
    assert first.value != again.value
    assert keys.compare(first, KEYS) == keys.SAME
    assert keys.compare(first, {**KEYS, keys.VERSION: "1"}) == keys.SAME
    assert keys.compare(first, {**KEYS, keys.VERSION: "2"}) == keys.OTHER
    assert keys.compare(keys.make_check(keys.PASSPHRASE, {}), KEYS) == keys.OTHER
    assert keys._COST["n"] * keys._COST["r"] * 128 >= 2**26, "64 MB for each guess"


BAD = [
    [{}],
    [{"name": "PATH", "salt": "", "value": "", "rows": 0}],
    [{"name": keys.WEBHOOKS, "salt": 1, "value": ""}],
    [{"name": keys.WEBHOOKS, "salt": "\ud800", "value": "b" * 64}],
    [{"name": keys.WEBHOOKS, "salt": "a" * 32, "value": "é"}],
    [{"name": keys.WEBHOOKS, "salt": "a" * 32, "value": ""}],
    [{"name": keys.WEBHOOKS, "salt": "A" * 32, "value": "b" * 64}],
    [{"name": keys.WEBHOOKS, "salt": "a" * 32, "value": "b" * 64, "rows": 2**63}],
    [{"name": keys.PASSPHRASE, "salt": f"{number:032x}", "value": "b" * 64} for number in range(1000)],
    7,
]


@pytest.mark.parametrize("found", BAD, ids=[ascii(found)[:60] for found in BAD])
def test_a_manifest_with_something_else_for_check_values_is_damaged(kept: Kept, found: Any) -> None:
    (file,) = (kept.project.folder / "data/mlflow/standalone/backups/snapshots").iterdir()
    data = json.loads(file.read_bytes())
    data.pop("digest")
    data["keys"] = found
    data = {**data, "digest": manifest._digest(data)}
    with pytest.raises(SnapshotDamaged):
        manifest.parse(manifest._canonical(data), file.name)


def test_the_server_of_a_drill_is_given_the_keys_and_nothing_else_of_mlflow(tmp_path: Path) -> None:

    from mlflow_ae5_server.database.connection import check_uri
    from mlflow_ae5_server.drill.server import TemporaryServer, environment

    scratch = TemporaryServer(tmp_path, check_uri(f"sqlite:///{tmp_path}/s.sqlite"), tmp_path / "artifacts")
    given = environment(scratch, {**KEYS, keys.VERSION: "2", "MLFLOW_TRACKING_TOKEN": "t"})
    assert {name: given.get(name) for name in (*keys.NAMES, keys.VERSION)} == {**KEYS, keys.VERSION: "2"}
    assert "MLFLOW_TRACKING_TOKEN" not in given


@pytest.mark.parametrize(("lost", "length"), [(1, 100), (10, 200), (200, 200)])
def test_a_log_shows_what_another_key_has_encrypted(lost: int, length: int) -> None:
    """In the server's own words, however many there are."""
    names, ids = zip(*((f"{number:0{length}}", str(uuid.UUID(int=number))) for number in range(lost)), strict=True)
    webhooks = keys.Encrypted(keys.WEBHOOKS, lost, lost=names, lost_ids=ids)
    encrypted = [keys.Encrypted(keys.PASSPHRASE, 1, lost=("s1",)), webhooks]
    warned = keys.warnings(encrypted, {keys.PASSPHRASE: "x", keys.WEBHOOKS: "y"})
    log = "".join(f"warning: {text}\n" for text in (*warned, "3 workers are slow", *warned))

    found = lost_keys(f"database: sqlite:///x\n{log}")

    assert len(found) == 2
    assert "1 LLM key (s1) encrypted with another MLFLOW_CRYPTO_KEK_PASSPHRASE, unreadable now" in found[0]
    assert f"encrypted with another {keys.WEBHOOKS}" in found[1] or lost > 1
    assert found[1].startswith(f"The server's log: {lost} webhook")
    assert len(found[1]) < 1100
    assert found[1].endswith("delete." if lost == 1 else "(`logs` shows all).")
