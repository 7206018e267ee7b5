"""MLflow's keys: made once, kept in a file, stored as secrets, and never replaced unasked."""

from __future__ import annotations

import base64
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from mlflow_ae5_deploy.cli.main import main
from tests.cli.bench import Bench

PASSPHRASE, WEBHOOKS = "MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
OWN = {PASSPHRASE: "the-administrators-own-passphrase", WEBHOOKS: base64.urlsafe_b64encode(b"k" * 32).decode()}


def stored(bench: Bench) -> dict[str, str]:
    """The keys as deployments and jobs see them."""
    folder = bench.folder / "state" / "sandbox" / "secrets"
    return {file.name: file.read_text() for file in folder.rglob("MLFLOW_*") if file.name in (PASSPHRASE, WEBHOOKS)}


def in_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def write(path: Path, values: dict[str, str]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    path.chmod(0o600)
    return path


def stage8(done: Any) -> dict[str, Any]:
    return next(stage for stage in done.data["stages"] if stage["name"] == "deploy")


@pytest.fixture
def fresh(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A platform with no installation, and a machine that remembers none."""
    main(["sandbox", "reset", "--yes"])
    for folder in (bench.folder / "state").glob("localhost*"):
        shutil.rmtree(folder)
    bench.start()
    capsys.readouterr()
    return bench


@pytest.fixture
def installed(fresh: Bench, capsys: pytest.CaptureFixture[str]) -> Bench:
    assert fresh.install(capsys).code == 0
    return fresh


def key_file(bench: Bench) -> Path:
    return bench.state_folder / "keys"


def forget(bench: Bench) -> None:
    """As on another administrator's machine."""
    for folder in (bench.folder / "state").glob("localhost*"):
        shutil.rmtree(folder)


def test_install_makes_both_once_and_asks_for_a_copy(fresh, capsys):
    plan = fresh.run(capsys, "plan", "--sandbox", "--json", "--release", str(fresh.release))
    assert any(PASSPHRASE in c.get("names", ()) and "key file" in c["reason"] for c in stage8(plan)["changes"])
    assert not fresh.state_folder.exists()

    first = fresh.run(capsys, "install", "--sandbox", "--release", str(fresh.release))
    path = key_file(fresh)
    made = in_file(path)
    assert first.code == 0, first.err
    assert "Copy the key file to a safe place" in first.out
    assert str(path) in first.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made == stored(fresh)
    assert set(made) == {PASSPHRASE, WEBHOOKS}
    assert len(base64.urlsafe_b64decode(made[WEBHOOKS])) == 32
    assert len(made[PASSPHRASE]) >= 40

    fresh.forget_calls()
    again = fresh.install(capsys)
    assert again.data["outcome"] == "unchanged"
    assert fresh.writes() == []
    assert again.data["installation"]["key_file"] == str(path)
    assert not again.data["installation"]["new_keys"]
    assert in_file(path) == made == stored(fresh)
    kept = [file for file in (fresh.folder / "state").glob("localhost*/**/*") if file.is_file() and file != path]
    message = [first.out, first.err, again.out, again.err, repr(fresh.calls()), *map(str, plan.data["stages"])]
    for value in made.values():
        assert not [text for text in message if value in text]
        assert not [file for file in kept if value.encode() in file.read_bytes()]

    # What the server warns of at its start is repeated, by a log that is read anyway.
    lost = f"1 LLM key (s1) encrypted with another {PASSPHRASE}, unreadable now: set the key of that time"
    says = f"echo 'database: sqlite:///data/mlflow/standalone/store/mydb.sqlite' && echo 'warning: {lost}'"
    server = f'{{TrackingServer: {{unix: "{says} && exec python -IS app.py"}}}}'
    config = ["--config", str(fresh.configure(f"slipstream: {{commands: {server}}}\n"))]
    replaced = fresh.install(capsys, "--replace", *config)
    again = fresh.install(capsys, *config)
    seen = fresh.run(capsys, "status", "--sandbox", "--json", "--release", str(fresh.release), *config)
    assert (replaced.code, again.data["outcome"]) == (0, "unchanged"), replaced.err
    for texts in (replaced.data["warnings"], stage8(again)["warnings"], [p["message"] for p in seen.data["problems"]]):
        assert [text for text in texts if lost in text]


def test_a_key_that_is_set_is_kept_where_no_copy_is_at_hand(installed, capsys):
    before = stored(installed)
    for lost in (lambda: key_file(installed).unlink(), lambda: forget(installed)):
        lost()
        done = installed.install(capsys, "--yes")
        assert done.code == 0, done.err
        (warning,) = [text for text in stage8(done)["warnings"] if PASSPHRASE in text]
        assert f"Put the saved key file at {key_file(installed)}" in warning
        assert "/var/run/secrets/user_credentials" in warning
        assert stored(installed) == before
        assert not key_file(installed).exists()
        found = installed.run(capsys, "doctor", "--sandbox", "--json", "--release", str(installed.release)).data
        (finding,) = [finding for finding in found["findings"] if finding["check"] == "keys"]
        assert finding["severity"] == "warning"

    gone = installed.run(capsys, "uninstall", "--sandbox", "--purge-secrets", "--yes", "--json")
    assert gone.code == 0, gone.err
    assert stored(installed) == before, "the only copy there is"


def test_a_second_administrator_brings_the_saved_file(installed, capsys, tmp_path):
    before = stored(installed)
    saved = shutil.copy(key_file(installed), tmp_path / "saved")
    forget(installed)
    key_file(installed).parent.mkdir(parents=True, mode=0o700)
    shutil.copy(saved, key_file(installed))

    done = installed.install(capsys, "--yes")
    assert done.code == 0, done.err
    assert not [text for text in stage8(done)["warnings"] if "no copy" in text]
    assert stored(installed) == before


def test_a_key_file_of_another_installation_is_not_stored_without_the_option(installed, capsys):
    before = stored(installed)
    forget(installed)
    key_file(installed).parent.mkdir(parents=True, mode=0o700)
    write(key_file(installed), OWN)

    done = installed.install(capsys, "--yes")
    assert (done.code, stored(installed)) == (0, before)
    assert any("may differ" in text and "--replace-keys" in text for text in stage8(done)["warnings"])
    replaced = installed.install(capsys, "--replace-keys", "--yes")
    assert replaced.code == 0, replaced.err
    assert stored(installed) == OWN
    assert "restart_deployment" in [change["change"] for change in stage8(replaced)["changes"]]
    assert installed.install(capsys).data["outcome"] == "unchanged"


@pytest.mark.parametrize("names", [(PASSPHRASE, WEBHOOKS), (PASSPHRASE,)], ids=["both", "one"])
def test_another_key_than_the_stored_one_is_refused(installed, capsys, names):
    before = stored(installed)
    write(key_file(installed), {**in_file(key_file(installed)), **{name: OWN[name] for name in names}})
    installed.forget_calls()
    for verb in ("plan", "install"):
        done = installed.run(capsys, verb, "--sandbox", "--json", "--release", str(installed.release))
        assert done.code == 14, done.err
        assert "Put the stored key back" in done.data["error"]["remedy"]
        assert not [value for value in OWN.values() if value in done.out + done.err]
    assert installed.writes() == []
    assert stored(installed) == before


def test_both_copies_lost_is_a_question_for_a_person(installed, capsys):
    key_file(installed).unlink()
    owner = installed.owner()
    for name in (PASSPHRASE, WEBHOOKS):
        owner.call("DELETE", f"credentials/user/{name}")

    refused = installed.install(capsys)
    assert refused.code == 14
    assert "Put the saved key file there" in refused.data["error"]["remedy"]
    assert installed.install(capsys, "--replace-keys", "--yes").code == 0
    assert in_file(key_file(installed)) == stored(installed)


def test_an_uninstall_keeps_the_file_and_the_next_install_takes_it(installed, capsys):
    made = stored(installed)
    gone = installed.run(capsys, "uninstall", "--sandbox", "--purge-secrets", "--yes", "--verbose")
    assert gone.code == 0, gone.err
    assert f"- key file ({key_file(installed)})" in gone.err
    assert stored(installed) == {}
    assert installed.install(capsys).code == 0
    assert stored(installed) == in_file(key_file(installed)) == made


BROKEN = [
    ("others may read it", None, 0o644, "open to other accounts"),
    ("not a key", f"{WEBHOOKS}=far-too-short-to-be-one\n", 0o600, "32 bytes"),
    ("MLflow's constant", f"{PASSPHRASE}=mlflow-default-kek-passphrase-for-development-only\n", 0o600, "publishes"),
    ("truncated in a name", f"{PASSPHRASE}=abcdefghijkl\nMLFLOW_WEBHOOK_SEC", 0o600, "may be incomplete"),
    ("truncated in a key", f"# Keys\n{PASSPHRASE}=abcdefgh", 0o600, "may be incomplete"),
    ("another name", f"{PASSPHRASE}=abcdefghijkl\nMLFLOW_WEBHOOK_SEC\n", 0o600, "Line 2"),
    ("twice", f"{PASSPHRASE}=abcdefghijkl\n{PASSPHRASE}=mnopqrstuvw\n", 0o600, "Line 2"),
    ("no text", "\0\xff\n", 0o600, "Line 1"),
]


@pytest.mark.parametrize(("case", "text", "mode", "message"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_file_that_is_no_key_file_is_refused(installed, capsys, case, text, mode, message):
    before = stored(installed)
    if text is not None:
        key_file(installed).write_text(text)
    key_file(installed).chmod(mode)
    done = installed.install(capsys)
    assert done.code == 3, done.err
    assert message in done.err
    assert str(key_file(installed)) in done.err
    assert not [word for word in ("far-too-short", "abcdefgh", "mnopqr") if word in done.out + done.err]
    assert stored(installed) == before


def test_the_key_file_of_a_real_installation_is_ignored_on_the_sandbox(fresh, capsys, tmp_path):
    real = write(tmp_path / "real-keys", OWN)
    config = fresh.configure(f"server: {{key_file: {real}}}\nrelease: {{source: {fresh.release}}}\n")
    done = fresh.run(capsys, "install", "--sandbox", "--json", "--config", str(config))
    assert done.code == 0, done.err
    assert "server.key_file" in done.err
    assert not set(OWN.values()) & set(stored(fresh).values())
    assert in_file(real) == OWN
