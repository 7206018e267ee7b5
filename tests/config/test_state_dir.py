"""The folder for the state: where it is, that it is private, and what is said when it cannot be used."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_error
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.config.state_dir import (
    accounts_on,
    check_writable,
    installation_dir,
    installations_on,
    private_dir,
    state_root,
)


def test_the_state_folder_is_chosen_by_setting_variable_and_platform(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    environ = {"MLFLOW_AE5_DEPLOY_STATE": str(tmp_path / "env")}
    chosen = Settings(state_dir=tmp_path / "set" / "deep")
    assert private_dir(state_root(chosen, environ)) == tmp_path / "set" / "deep"
    assert private_dir(state_root(Settings(), environ)) == tmp_path / "env"
    usual = private_dir(state_root(Settings(), {}))
    assert usual.is_relative_to(tmp_path)
    assert usual.name == "mlflow-ae5-deploy"
    for folder in (tmp_path / "set" / "deep", tmp_path / "env", usual):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == [], "the proof that it can be written to is gone again"
    assert private_dir(state_root(Settings(), environ)) == tmp_path / "env", "an existing folder is fine"


@pytest.mark.parametrize(
    ("mode", "accepted"), [(0o700, True), (0o755, True), (0o770, False), (0o777, False), (0o1777, False)]
)
def test_a_folder_others_can_write_to_is_refused_and_left_alone(tmp_path, mode, accepted):
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    if accepted:
        assert private_dir(folder) == folder
    else:
        with pytest.raises(Configuration, match="open to other accounts") as caught:
            private_dir(folder)
        assert f"chmod 700 '{folder}'" in caught.value.remedy
    assert stat.S_IMODE(folder.stat().st_mode) == mode


def test_unusable_state_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder, words in (
        (tmp_path / "file", "a file in the way"),
        (tmp_path / "file" / "below", "a file in the way"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(Configuration) as caught:
            private_dir(folder)
        assert caught.value.where == str(folder)
        assert words in caught.value.remedy
        assert "or name another folder with state_dir or MLFLOW_AE5_DEPLOY_STATE" in caught.value.remedy


@contextmanager
def without_privileges() -> Iterator[None]:
    """Permissions do not bind root, so root steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_write_permission_for_real(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for folder in (tmp_path, tmp_path / "new"):
            with without_privileges(), pytest.raises(Configuration, match="Permission denied") as caught:
                private_dir(folder)
            assert "write permission" in caught.value.remedy
            assert caught.value.where == str(folder)
    finally:
        tmp_path.chmod(0o700)


def test_check_writable_reports_what_a_run_would_meet_and_creates_nothing(tmp_path):
    tmp_path.chmod(0o755)
    closed, lock = tmp_path / "closed", tmp_path / "another's" / "lock"
    for folder in (closed, lock.parent):
        folder.mkdir()
        if os.geteuid() == 0:
            os.chown(folder, 65534, -1)
    lock.touch()
    lock.chmod(0o400)
    closed.chmod(0)
    with without_privileges():
        for folder in (closed, closed / "new", closed / "new" / "deep", lock.parent):
            with pytest.raises(Configuration, match="Permission denied") as caught:
                check_writable(folder)
            assert "write permission" in caught.value.remedy
    closed.chmod(0o700)
    assert check_writable(closed / "new" / "deep") == closed
    assert sorted(tmp_path.rglob("*")) == [lock.parent, lock, closed]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "quota is full"),
        (errno.EDQUOT, "quota is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "write permission"),
        (errno.EPERM, "write permission"),
        (errno.EIO, "Check that the folder"),
    ],
)
def test_a_write_that_fails_is_explained(tmp_path, number, remedy):
    def failing(folder):
        raise OSError(number, os.strerror(number))

    with pytest.raises(Configuration, match=os.strerror(number)) as caught:
        private_dir(tmp_path / "state", probe=failing)
    error = caught.value
    assert (remedy in error.remedy, error.where) == (True, str(tmp_path / "state"))
    assert storage_error(OSError("odd"), tmp_path).what == "The state cannot be stored: OSError."


def test_a_device_that_is_full(tmp_path):
    def fill(folder):
        with Path("/dev/full").open("wb", buffering=0) as stream:
            stream.write(b"x")

    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(Configuration, match="No space left"):
        private_dir(tmp_path / "state", probe=fill)


@pytest.mark.parametrize(
    ("parts", "begins"),
    [
        (
            ("ae5.example.com:8443", "mlflow-service", "mlflow.tracking.server"),
            "ae5.example.com-8443_mlflow-service_mlflow.tracking.server_",
        ),
        (("localhost", "../../etc", "a/b"), "localhost_etc_a-b_"),
        (("h", "é", ""), "h_x_x_"),
        (("h" * 300, "u" * 300, "p" * 300), "h" * 40 + "_" + "u" * 40),
    ],
)
def test_folder_of_an_installation_has_a_safe_name(parts, begins):
    folder = installation_dir(Path("/state"), *parts)
    assert folder.parent == Path("/state")
    assert folder.name.startswith(begins)
    assert len(folder.name) < 150
    assert set(folder.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_different_installations_have_different_folders():
    names = {
        installation_dir(Path(), *parts).name.lower()
        for parts in [("h", "a", "b"), ("h", "A", "b"), ("h", "a_b", ""), ("h", "a/b", "c"), ("h", "a-b", "c")]
    }
    assert len(names) == 5
    assert installation_dir(Path(), "H", "a", "b") == installation_dir(Path(), "h", "a", "b")


def test_installations_on_a_host_are_found_by_name_and_journal(tmp_path):
    def made(host, account="svc", *journal):
        folder = installation_dir(tmp_path, host, account, "a project")
        folder.mkdir()
        if journal:
            (folder / "journal.jsonl").write_text("".join(journal))
        return folder

    def line(host):
        return json.dumps({"event": "begin", "host": host}) + "\n"

    assert installations_on(tmp_path / "gone", "localhost:123") == []
    own = [
        made("localhost:123", "svc", line("localhost:123"), '{"event": "intent"}\n', line("localhost:123"), '{"cut'),
        made("localhost:123", "a_b@x", line("localhost:123")),
    ]
    made("localhost:1234", "svc", line("localhost:1234"))
    made("localhost-123", "svc", line("localhost-123"))  # another host, whose name looks the same in a folder's name
    made("ae5.example.com", "svc", line("localhost:123"))
    made("localhost:123", "nothing-known")
    made("localhost:123", "both", line("localhost:123"), line("localhost-123"))
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "localhost-123_x_y_0123456789").symlink_to(own[0])
    assert installations_on(tmp_path, "localhost:123") == sorted(own)


def test_the_accounts_on_a_host_are_those_that_runs_began_with(tmp_path):
    for host, account in (("localhost:123", "ann"), ("localhost:123", "bob"), ("localhost:1234", "other")):
        folder = installation_dir(tmp_path, host, account, "p")
        folder.mkdir()
        entries = [
            {"event": "begin", "host": host, "account": account},
            {"event": "done", "host": host, "account": "a consumer"},
            {"event": "begin", "host": host, "account": 1},
        ]
        (folder / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert accounts_on(tmp_path, "localhost:123") == ["ann", "bob"]
    assert accounts_on(tmp_path, "elsewhere") == []
