"""Jobs by the clock and by hand, their runs, and the secrets they find."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlflow_ae5_deploy.sandbox.sandbox import Sandbox
from mlflow_ae5_deploy.sandbox.settings import SandboxSettings
from tests.sandbox.support import PROJECT_FILE, Client, make_project_archive, wait_for

SHOW = """\
  Show:
    unix: 'ls -A "$MLFLOW_AE5_SECRETS_DIR" | tr "\\n" " "; cat "$MLFLOW_AE5_SECRETS_DIR"/*; echo; pwd -P; ls -l data'
    env_spec: default
  Template:
    unix: 'echo "{{ GREETING }} from a template"'
    env_spec: default
"""


@pytest.fixture(scope="module")
def project(client, tmp_path_factory):
    text = PROJECT_FILE.replace("variables:\n", SHOW + "variables:\n")
    return client.upload(make_project_archive(tmp_path_factory.mktemp("p") / "p.tar.gz", project_file=text), "p").json()


@pytest.fixture
def tidy(client):
    """Leaves no job and no run behind, for names are blocked by them."""
    yield
    for run in client.get("runs"):
        client.call("DELETE", f"runs/{run['id']}")
    for job in client.get("jobs"):
        client.call("DELETE", f"jobs/{job['id']}")


def make(client: Client, project: Any, name: str, **changes: Any) -> Any:
    return client.post(f"projects/{project['id']}/jobs", client.job_body(project["id"], name, **changes))


def runs_of(client: Client, job: Any) -> Any:
    return client.get(f"jobs/{job['id']}/runs")


def log_of(client: Client, run: Any) -> str:
    client.finished(run["id"])
    text: str = client.get(f"runs/{run['id']}/logs")["job"]
    return text


pytestmark = pytest.mark.usefixtures("tidy")


def minute_start(sandbox: Sandbox) -> None:
    """Put the schedule's clock, which stands still here, at the beginning of a minute."""
    sandbox.control.advance_clock(60 - sandbox.control.now() % 60 + 0.5)


def settle(sandbox: Sandbox, client: Client, job: Any, expected: int) -> None:
    wait_for(lambda: len(runs_of(client, job)) >= expected, f"{expected} runs")
    assert len(runs_of(client, job)) == expected


def test_a_job_runs_at_its_times(sandbox, client, project):
    minute_start(sandbox)
    job = make(client, project, "gc", schedule="*/10 * * * *")
    sandbox.control.advance_clock(600)
    settle(sandbox, client, job, 1)
    sandbox.control.advance_clock(1200)
    settle(sandbox, client, job, 3)
    assert {log_of(client, r).splitlines()[-1] for r in runs_of(client, job)} == {"collecting older than 30d0h0m0s"}


def test_the_clock_runs_unless_it_is_set_to_still(sandbox, client, project):
    minute_start(sandbox)
    job = make(client, project, "every minute", schedule="* * * * *")
    stood = sandbox.control.now()
    assert (stood, runs_of(client, job)) == (sandbox.control.now(), [])

    sandbox.control.change_settings(clock=SandboxSettings().clock)
    sandbox.control.advance_clock(60 - sandbox.control.now() % 60 - 0.2)  # and what is left of the minute passes
    wait_for(lambda: runs_of(client, job), "a run that nobody asked for")
    sandbox.control.change_settings(clock="still")
    sandbox.control.advance_clock(0)


@pytest.fixture
def far_east(monkeypatch):
    """This process, and with it the sandbox, somewhere nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_times_are_utc(sandbox, client, project):
    minute_start(sandbox)
    soon = time.gmtime(sandbox.control.now() + 120)
    job = make(client, project, "once", schedule=f"{soon.tm_min} {soon.tm_hour} {soon.tm_mday} {soon.tm_mon} *")
    sandbox.control.advance_clock(60)
    assert runs_of(client, job) == []
    sandbox.control.advance_clock(60)
    settle(sandbox, client, job, 1)


def test_a_paused_job_does_not_run_by_the_clock_but_by_hand(sandbox, client, project):
    minute_start(sandbox)
    job = make(client, project, "paused", schedule="* * * * *")
    other = make(client, project, "not paused", schedule="* * * * *")
    assert client.post(f"jobs/{job['id']}/pause")["state"] == "paused"
    sandbox.control.advance_clock(60)
    settle(sandbox, client, other, 1)
    assert runs_of(client, job) == []
    client.post(f"jobs/{job['id']}/runs")
    assert client.post(f"jobs/{job['id']}/unpause")["state"] == "scheduled"
    sandbox.control.advance_clock(60)
    settle(sandbox, client, job, 2)


def test_a_slow_run_does_not_hold_up_the_next(sandbox, client, project):
    minute_start(sandbox)
    job = make(client, project, "slow", schedule="* * * * *", command="Sleep")
    sandbox.control.advance_clock(120)
    wait_for(lambda: [r["state"] for r in runs_of(client, job)] == ["running", "running"], "two runs at once")
    client.call("DELETE", f"jobs/{job['id']}")
    refused = client.call("DELETE", f"jobs/{job['id']}")
    assert (refused.status_code, refused.reason) == (400, "Job has an active run")


def test_stopping_a_run_ends_all_its_processes(client, project):
    job = make(client, project, "sleeper", command="Sleep", autorun=True)
    (run,) = runs_of(client, job)
    wait_for(lambda: "sleeping" in client.get(f"runs/{run['id']}/logs")["job"], "the run to begin")
    launcher = next(p for p in psutil.Process().children() if run["id"][3:] in _folder(p))
    # The shell says "sleeping" before it starts what sleeps.
    family = wait_for(lambda: [p for p in [launcher.children(recursive=True)] if len(p) >= 2], "its children")[0]
    assert client.post(f"runs/{run['id']}/stop")["state"] == "stopped"
    assert [p for p in (launcher, *family) if _is_at_work(p)] == []
    assert client.get(f"jobs/{job['id']}")["state"] == "stopped"


def _folder(process: psutil.Process) -> str:
    try:
        return str(process.cwd())
    except psutil.Error:  # a child that has just ended, and has no folder any more
        return ""


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def test_variables_of_the_job_beat_the_projects(client, project):
    job = make(client, project, "vars", autorun=True, variables={"MLFLOW_TRACKING_GC_TTL": "1d0h0m0s"})
    assert "collecting older than 1d0h0m0s" in log_of(client, runs_of(client, job)[0])


def test_a_template_is_filled_in(client, project):
    job = make(client, project, "template", autorun=True, command="Template")
    assert "hello from a template" in log_of(client, runs_of(client, job)[0])


def test_a_run_fails_by_its_exit_code(client, project):
    job = make(client, project, "fails", autorun=True, command="Fail")
    run = client.finished(runs_of(client, job)[0]["id"])
    assert (run["state"], run["status_text"]) == ("failed", "The command ended with exit code 4")
    assert client.get(f"jobs/{job['id']}")["state"] == "failed"


def test_names_are_blocked_by_jobs_and_by_leftover_runs(sandbox, client, project):
    body = client.job_body(project["id"], "name")
    path = f"projects/{project['id']}/jobs"
    job = make(client, project, "name", autorun=True)
    client.finished(runs_of(client, job)[0]["id"])
    assert client.call("POST", path, json=body).reason == "Job name is not unique: name"
    sandbox.control.change_settings(job_delete_keeps_runs=True)
    client.call("DELETE", f"jobs/{job['id']}")
    blocked = client.call("POST", path, json=body)
    assert blocked.reason == "Job name is not unique: name is the name of an earlier run"
    for run in client.get("runs"):
        client.call("DELETE", f"runs/{run['id']}")
    again = make(client, project, "name", autorun=True)
    client.finished(runs_of(client, again)[0]["id"])

    sandbox.control.change_settings(job_delete_keeps_runs=False)
    client.call("DELETE", f"jobs/{again['id']}")
    assert client.get("runs") == []


@pytest.mark.parametrize(
    ("schedule", "accepted"),
    [
        ("*/10 * * * *", True),
        ("0 */6 * * *", True),
        ("0 3 * * 1-5", True),
        ("15,45 2 1 */3 *", True),
        ("*/8 * * * *", False),
        ("0 */5 * * *", False),
        ("0 0 1 */5 *", False),
        ("61 * * * *", False),
        ("* * * *", False),
        ("@hourly", False),
        ("*/0 * * * *", False),
        ("every ten minutes please now", False),
        ("", False),
    ],
)
def test_schedules_are_accepted_or_refused_as_by_ae5(client, project, schedule, accepted):
    body = client.job_body(project["id"], "scheduled", schedule=schedule)
    answer = client.call("POST", f"projects/{project['id']}/jobs", json=body)
    assert answer.status_code == (200 if accepted else 400)
    assert accepted or answer.reason.startswith("Invalid schedule")


def test_patching_a_job_checks_and_applies_the_changes(client, project):
    job = make(client, project, "patched", schedule="0 0 * * *")
    path = f"jobs/{job['id']}"
    changes = {"schedule": "0 1 * * *", "command": "Fail", "variables": {"A": "b"}}
    changed = client.call("PATCH", path, json=changes).json()
    assert {k: changed[k] for k in changes} == changes
    for wrong in ({"command": "Nothing"}, {"schedule": "*/8 * * * *"}, {"id": "x"}, {"variables": {"A": None}}):
        assert client.call("PATCH", path, json=wrong).status_code == 400


def test_someone_elses_jobs_do_not_exist(sandbox, client, project):
    from tests.sandbox.support import Admin

    Admin(sandbox.info).create("other-user", "pw")
    other = Client(sandbox.info, "other-user", "pw")
    job = make(client, project, "mine", schedule="0 0 * * *")
    assert other.get("jobs") == []
    assert other.call("GET", f"jobs/{job['id']}").status_code == 404
    assert other.call("POST", f"jobs/{job['id']}/runs").status_code == 404


# -- secrets ----------------------------------------------------------------------------------


def put(client: Client, name: str, value: str) -> None:
    assert client.call("POST", "credentials/user", json={"key": name, "value": value}).status_code == 200


def test_secrets_are_files_for_the_command_and_names_for_the_api(sandbox, client, project):
    put(client, "ONE", "first")
    put(client, "ONE", "second")
    assert client.get("credentials/user") == {"data": ["ONE"]}
    job = make(client, project, "shows", autorun=True, command="Show")
    lines = log_of(client, runs_of(client, job)[0]).splitlines()
    assert "ONE second" in lines
    assert lines[-1].endswith(f"data -> {sandbox.info.state_dir}/volumes/dev-user/data")
    file = sandbox.info.state_dir / "secrets" / "dev-user" / "ONE"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert client.call("DELETE", "credentials/user/ONE").status_code == 200
    assert not file.exists()
    assert client.call("DELETE", "credentials/user/ONE").status_code == 404


def test_a_name_with_a_dash_can_be_made_but_not_removed(client):
    put(client, "WITH-DASH", "x")
    assert client.call("DELETE", "credentials/user/WITH-DASH").status_code == 404
    assert "WITH-DASH" in client.get("credentials/user")["data"]


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".."])
def test_secret_names_that_are_no_file_names(client, name):
    answer = client.call("POST", "credentials/user", json={"key": name, "value": "x"})
    assert answer.status_code == 400


def test_a_secret_is_mounted_late(sandbox, client):
    folder: Path = sandbox.info.state_dir / "secrets" / "dev-user"
    for name, seconds in (("SOON", 0.05), ("LATE", 3600)):
        sandbox.control.change_settings(secret_mount_seconds=seconds)
        put(client, name, f"value of {name}")
    sandbox.control.change_settings(secret_mount_seconds=0)
    assert {"SOON", "LATE"} <= set(client.get("credentials/user")["data"])
    wait_for(lambda: (folder / "SOON").exists(), "the secret's file")
    assert (folder / "SOON").read_text() == "value of SOON"
    assert not (folder / "LATE").exists()
