"""A disk that is full, and folders that may not be written to. All failures are real ones of real writes."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.answers import assert_error, assert_no_accident
from tests.cli.bench import Outcome

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def without_root_powers() -> None:
    """Before exec: root then obeys the permissions of files like everybody else. No effect for other users."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                os._exit(99)


def _may_mount() -> list[str]:
    """How to run a command in a mount namespace of its own; empty where the kernel does not allow it."""
    for options in (["-m"], ["-rm"]):
        command = ["unshare", *options]
        try:
            done = subprocess.run([*command, "mount", "-t", "tmpfs", "x", "/mnt"], capture_output=True, check=False)
        except FileNotFoundError:
            return []
        if done.returncode == 0:
            return command
    return []


NAMESPACE = _may_mount()
with_small_disk = pytest.mark.skipif(not NAMESPACE, reason="a file system cannot be mounted here, not even privately")


def on_small_disk(
    bench, folder: Path, kilobytes: int, *argv: str, environment: dict[str, str] | None = None
) -> Outcome:
    """The program, seeing a file system of this size in place of `folder`. Nobody else sees it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    program = shlex.join([sys.executable, "-m", "mlflow_ae5_deploy", *argv])
    mount = f"mount -t tmpfs -o size={kilobytes}k,mode=0700 small {shlex.quote(str(folder))}"
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", f"{mount} && exec {program}"],
        cwd=bench.folder,
        env=environment or bench.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class TestFullDisk:
    @with_small_disk
    @pytest.mark.parametrize("kilobytes", [4, 8, 12, 16])
    def test_a_disk_that_fills_up_ends_the_run_and_the_next_one_goes_on(self, bench, capsys, kilobytes):
        """Each size fails at another write: lock, journal, archive, state. On the platform nothing is made twice."""
        bench.run(capsys, "sandbox", "reset", "--yes")
        bench.start()
        folder = bench.state_folder
        full = on_small_disk(bench, folder, kilobytes, "install", "--sandbox", "--release", str(bench.release))

        assert_error(full, 3, "No space left on device", str(folder), "MLFLOW_AE5_DEPLOY_STATE")
        done = bench.install(capsys)
        assert done.code == 0, done.err
        everything = bench.everything()
        assert [len(everything[kind]) for kind in ("projects", "deployments", "jobs")] == [1, 1, 1]

    @with_small_disk
    def test_a_full_folder_for_temporary_files(self, bench, tmp_path):
        environment = bench.environment(TMPDIR=str(tmp_path / "tmp"))

        full = on_small_disk(
            bench, tmp_path / "tmp", 4, "plan", "--sandbox", "--release", str(bench.release), environment=environment
        )

        assert_error(full, 3, "No space left on device", str(tmp_path / "tmp"))

    @with_small_disk
    def test_a_full_disk_where_the_configuration_should_be(self, bench, tmp_path):
        full = on_small_disk(bench, tmp_path / "etc", 4, "init", str(tmp_path / "etc" / "config.yaml"))

        assert_error(full, 3, "No space left on device", "config.yaml")

    def test_a_journal_that_takes_nothing_more(self, bench, capsys):
        """/dev/full answers every write as a full disk does."""
        bench.install(capsys)
        before = bench.everything()
        journal = bench.state_folder / "journal.jsonl"
        kept = journal.rename(bench.state_folder / "journal.kept")
        journal.symlink_to("/dev/full")
        try:
            full = bench.install(capsys)
        finally:
            journal.unlink()
            kept.rename(journal)

        assert_error(full, 3, "No space left on device", "journal.jsonl")
        assert bench.everything() == before

    @pytest.mark.parametrize(
        "verb", [["--help"], ["runbook", "--sandbox"], ["plan", "--sandbox", "--json"], ["env", "--sandbox"]]
    )
    def test_a_full_disk_behind_stdout(self, bench, capsys, verb):
        bench.install(capsys)
        with Path("/dev/full").open("w") as sink:
            full = bench.process(*verb, stdout=sink)

        assert_error(full, 3, "No space left on device", "standard output")


class TestNoPermission:
    def test_the_state_folder(self, bench, tmp_path):
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)

        refused = bench.process(
            "install",
            "--sandbox",
            environment=bench.environment(MLFLOW_AE5_DEPLOY_STATE=str(closed)),
            preexec_fn=without_root_powers,
        )

        assert_error(refused, 3, "Permission denied", str(closed), "write permission", "MLFLOW_AE5_DEPLOY_STATE")
        assert list(closed.iterdir()) == []

    def test_the_folder_of_the_installation(self, bench, capsys):
        bench.install(capsys)
        before, state_folder = bench.everything(), bench.state_folder
        state_folder.chmod(0o500)
        (state_folder / "journal.jsonl").chmod(0o400)
        try:
            refused = bench.process(
                "install", "--sandbox", "--release", str(bench.release), preexec_fn=without_root_powers
            )
        finally:
            state_folder.chmod(0o700)
            (state_folder / "journal.jsonl").chmod(0o600)

        assert_error(refused, 3, "permission", str(state_folder))
        assert bench.everything() == before

    def test_a_state_folder_that_others_may_write_to(self, bench, tmp_path, capsys, monkeypatch):
        tmp_path.joinpath("open").mkdir()
        tmp_path.joinpath("open").chmod(0o777)
        monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path / "open"))

        refused = bench.run(capsys, "install", "--sandbox")

        assert_error(refused, 3, "open to other accounts", "chmod 700", str(tmp_path / "open"))
        assert list((tmp_path / "open").iterdir()) == []

    def test_a_file_where_the_state_folder_should_be(self, bench, tmp_path, capsys, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path / "file" / "state"))

        refused = bench.run(capsys, "install", "--sandbox")

        assert_error(refused, 3, str(tmp_path / "file" / "state"), "file in the way")

    def test_a_secret_that_others_may_read(self, bench, tmp_path, capsys):
        (tmp_path / "secret").write_text("planted-in-a-file")
        (tmp_path / "secret").chmod(0o644)
        path = bench.configure(f"consumers: [{{username: dev-user, password: 'file:{tmp_path / 'secret'}'}}]\n")

        refused = bench.install(capsys, "--config", str(path))

        assert_error(refused, 3, "open to other accounts", "chmod 600", str(tmp_path / "secret"))
        assert "planted-in-a-file" not in refused.out + refused.err

    def test_a_configuration_that_may_not_be_read(self, bench):
        path = bench.configure("project: {name: x}\n")
        path.chmod(0)

        refused = bench.process("plan", "--sandbox", "--config", str(path), preexec_fn=without_root_powers)

        assert_error(refused, 3, "Permission denied", str(path))

    def test_the_folder_of_a_token_file(self, bench, capsys):
        """`uninstall` names the file: its token may be there."""
        bench.install(capsys)
        closed = bench.folder / "closed"
        closed.mkdir(mode=0)
        path = bench.configure("consumers: [file: closed/token]\n")

        refused = bench.process("uninstall", "--sandbox", "-v", "--config", str(path), preexec_fn=without_root_powers)
        closed.chmod(0o700)

        assert_error(refused, 14, "Not confirmed", "--yes")
        assert str(closed / "token") in "".join(refused.err.split())


def test_damaged_state_is_an_error(bench, capsys):
    bench.install(capsys)
    before = bench.everything()
    file = bench.state_folder / "state.json"
    good = file.read_text()
    file.write_text(good[: len(good) // 2])

    refused = bench.install(capsys)
    file.write_text(good)

    assert_error(refused, 3, "state.json", "Move the file away")
    assert bench.everything() == before
    assert_no_accident(refused)
