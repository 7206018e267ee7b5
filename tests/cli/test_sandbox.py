"""The sandbox: for which account a rehearsal is, its own verbs, and what a reset deletes."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from mlflow_ae5_deploy.config.state_dir import installation_dir
from tests.cli.answers import assert_error

OWN = "account: {username: svc-other, password: 'env:NOT_SET'}\nprofiles: {prod: {account: {username: svc-prod}}}\n"


@pytest.mark.parametrize(
    ("options", "account"),
    [
        ([], "mlflow-service"),
        (["--profile", "prod"], "mlflow-service"),
        (["--username", "svc-flag", "--profile", "prod"], "svc-flag"),
    ],
)
def test_a_rehearsal_has_its_own_account_unless_an_option_names_another(bench, capsys, monkeypatch, options, account):
    monkeypatch.setenv("AE5_USERNAME", "not-this-one")
    path = bench.configure(OWN)

    shown = bench.run(
        capsys, "plan", "--sandbox", "--json", "--release", str(bench.release), "--config", str(path), *options
    )

    assert shown.code == 0, shown.err
    assert shown.data["installation"]["account"] == account
    assert (
        "Ignored on the sandbox, because they refer to real systems: account.password, account.username." in shown.err
    )


def test_the_sandbox_creates_the_account_of_the_option(bench, capsys):
    path = ("--username", "svc-other")

    installed = bench.install(capsys, *path)

    assert installed.code == 0, installed.err
    assert installed.data["installation"]["account"] == "svc-other"
    again = bench.install(capsys, *path)
    assert (again.code, again.data["outcome"]) == (0, "unchanged")
    assert bench.run(capsys, "uninstall", "--sandbox", "--yes", *path).code == 0


@pytest.mark.parametrize("verb", ["status", "history"])
def test_another_account_with_an_installation_is_named(bench, capsys, verb):
    default, kept = bench.state_folder, bench.folder / "kept"
    assert bench.install(capsys, "--username", "svc-third", "--config", str(bench.another("third"))).code == 0
    if default.exists():
        default.rename(kept)
    try:
        by_default = bench.run(capsys, verb, "--sandbox")
        by_option = bench.run(capsys, verb, "--sandbox", "--username", "svc-third")
    finally:
        if kept.exists():
            shutil.rmtree(default, ignore_errors=True)
            kept.rename(default)

    assert "This machine knows no installation of mlflow-service (the default) on this sandbox" in by_default.err
    assert "add --username svc-" in by_default.err
    assert "This machine knows no installation" not in by_option.err


class TestAServerThatIsStarting:
    """The platform's list shows it as starting, once or for as long as the test lasts."""

    @pytest.fixture
    def shown_as_starting(self, bench, capsys):
        assert bench.install(capsys).code == 0
        records = bench.owner().get("deployments")
        for record in records:
            record["state"] = "starting"

        answer = {"body": json.dumps(records), "headers": {"Content-Type": "application/json"}}
        return lambda times: bench.fault("GET", "/deployments$", status=200, times=times, **answer)

    @pytest.mark.parametrize("verb", [["env", "--show-token"], ["verify"]])
    def test_is_awaited_where_a_token_is_needed(self, bench, capsys, shown_as_starting, verb):
        with shown_as_starting(1):
            shown = bench.run(capsys, *verb, "--sandbox", "--json")

        assert "running deployment" not in shown.err
        if verb == ["verify"]:  # the bench's server is no MLflow, so its checks fail, but they are made
            assert shown.data["checks"]
        else:
            assert shown.data["environment"]["MLFLOW_TRACKING_TOKEN"]

    def test_is_reported_where_nothing_may_be_written(self, bench, capsys, shown_as_starting):
        with shown_as_starting(None):
            refused = bench.run(capsys, "env", "--sandbox")

        assert_error(refused, 15, "is starting; it must be started", "Wait until it has started")


class TestSandbox:
    """In order; the last one takes it away."""

    def test_up_again_is_the_same(self, bench, capsys):
        before = bench.info

        up = bench.run(capsys, "sandbox", "up", "--json")

        assert up.code == 0, up.err
        assert (up.data["hostname"], up.data["pid"]) == (before.hostname, before.pid)

    def test_status_shows_how_to_sign_in_and_no_password(self, bench, capsys):
        text, data = bench.run(capsys, "sandbox", "status"), bench.run(capsys, "sandbox", "status", "--json").data

        file = Path(data["credentials_file"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert str(file) in text.out
        assert data["running"] is True
        assert data["accounts"][0] == "dev-user"
        assert f"https://{bench.info.hostname}/" in text.out
        assert "dev-user" in text.out
        found = json.loads(file.read_text())
        passwords = [found["admin"]["password"], *found["users"].values(), *found["reserved"].values()]
        assert not [word for word in passwords if word in text.out]

    def test_logs_shows_the_number_of_lines_given(self, bench, capsys):
        text = bench.run(capsys, "sandbox", "logs", "--lines", "1")
        data = bench.run(capsys, "sandbox", "logs", "--lines", "1", "--json")

        assert len(text.out.splitlines()) == 1
        assert len(data.data["lines"]) == 1

    def test_down_keeps_everything_and_differs_from_never_up(self, bench, capsys):
        assert bench.install(capsys).code == 0
        before = bench.everything()

        first, second = (bench.run(capsys, "sandbox", "down", "--json") for _ in range(2))
        status = bench.run(capsys, "sandbox", "status", "--json")
        up = bench.run(capsys, "sandbox", "up")

        assert [first.data["was_running"], second.data["was_running"], status.data["running"]] == [True, False, False]
        assert (first.code, second.code, status.code, up.code) == (0, 0, 0, 0)
        assert "dev-user, mlflow-service" in up.out
        assert bench.everything() == before

    def test_reset_is_not_done_without_agreement(self, bench, capsys):
        (bench.state_folder / "runs").mkdir(exist_ok=True)
        (bench.state_folder / "runs" / "one-backup.json").write_text("{}")

        refused = bench.run(capsys, "sandbox", "reset")

        assert_error(refused, 14, "Not confirmed", "Nothing was deleted. Re-run with --yes to confirm.")
        assert f"{bench.folder / 'state' / 'sandbox'}: all projects, deployments, experiments" in refused.err
        own = next(line for line in refused.err.splitlines() if str(bench.state_folder) in line)
        for part in (
            "journal",
            "`keys` (the only copy unless you made one)",
            "saved project archive",
            "1 saved job log",
        ):
            assert part in own
        assert bench.run(capsys, "sandbox", "status", "--json").data["running"] is True

    def test_reset_forgets_everything(self, bench, capsys):
        done = bench.run(capsys, "sandbox", "reset", "--yes", "--json")

        assert done.code == 0, done.err
        assert not (bench.folder / "state" / "sandbox").exists()
        assert bench.run(capsys, "sandbox", "logs").code == 0

    @pytest.mark.parametrize(
        "words",
        [["history", "--sandbox"], ["schedule-rotation", "--sandbox"], ["runbook", "--sandbox"], ["sandbox", "status"]],
    )
    def test_reading_local_state_starts_no_new_one(self, bench, capsys, words):
        shown = [bench.run(capsys, *words, *options) for options in ([], ["--json"])]

        assert [done.code for done in shown] == [0, 0], shown[0].err
        assert shown[1].data["outcome"] == "done"
        assert not (bench.folder / "state" / "sandbox").exists()

    @pytest.mark.parametrize("words", [[], ["--run", "latest"], ["--follow"]])
    def test_without_a_running_sandbox_there_are_no_logs(self, bench, capsys, words):
        refused = bench.run(capsys, "logs", *words, "--sandbox")

        assert_error(refused, 10, "The sandbox is not running.", "`mlflow-ae5-deploy sandbox up`")
        assert not (bench.folder / "state" / "sandbox").exists()


@pytest.mark.parametrize("running", [True, False])
def test_reset_takes_its_own_installation_folders_only(bench, capsys, running):
    bench.start()
    state, hostname = bench.folder / "state", bench.info.hostname
    others = []
    for host in (f"{hostname}0", hostname.replace(":", "-"), "ae5.example.com"):
        others.append(installation_dir(state, host, "mlflow-service", "p"))
        others[-1].mkdir(exist_ok=True)
        (others[-1] / "journal.jsonl").write_text(json.dumps({"host": host}) + "\n")
    assert bench.install(capsys).code == 0
    (own,) = [path for path in state.glob(f"{hostname.replace(':', '-')}_*") if path not in others]
    if not running:
        bench.run(capsys, "sandbox", "down")

    refused = bench.run(capsys, "sandbox", "reset", "--json")
    assert refused.code != 0
    assert own.is_dir()

    shown = bench.run(capsys, "sandbox", "reset", "--yes", *(["--json"] if running else []))

    assert shown.code == 0, shown.err
    assert str(own) in shown.out
    assert not own.exists()
    assert not (state / "sandbox").exists()
    assert all((path / "journal.jsonl").is_file() for path in others)
    if running:
        assert shown.data["removed"] == [str(own)]
