"""Receivers of messages: their URLs as a secret of the jobs, and `status --notify`."""

from __future__ import annotations

import json

import pytest

from mlflow_ae5_deploy.resources.receivers import VARIABLE
from tests import receivers
from tests.cli.answers import assert_error
from tests.receivers import SECRET

CONFIG = "notify:\n  urls: [env:NOTIFY_ONE, env:NOTIFY_TWO]\n"


@pytest.fixture
def webhook(monkeypatch):
    with receivers.webhook() as found:
        monkeypatch.setenv("NOTIFY_ONE", found.url)
        monkeypatch.setenv("NOTIFY_TWO", receivers.dead())
        yield found


def everything_written(bench):
    return "".join(file.read_text(errors="replace") for file in bench.state_folder.rglob("*") if file.is_file())


def test_receivers_are_a_secret_of_the_jobs_and_need_no_restart(bench, capsys, webhook):
    assert bench.install(capsys).code == 0
    owner, config = bench.owner(), str(bench.configure(CONFIG))
    server = owner.get("deployments")[0]["id"]

    planned = bench.run(capsys, "plan", "--sandbox", "--release", str(bench.release), "--config", config)
    done = bench.install(capsys, "--config", config)
    again = bench.install(capsys, "--config", config)
    stored = VARIABLE in owner.get("credentials/user")["data"]
    removed = bench.install(capsys, "--config", str(bench.configure("{}\n")))

    assert f"set secret {VARIABLE}" in planned.out
    assert [outcome.data["outcome"] for outcome in (done, again, removed)] == ["changed", "unchanged", "changed"]
    assert stored
    assert [item["id"] for item in owner.get("deployments")] == [server]
    for outcome in (planned, done, again, removed):
        assert SECRET not in outcome.out + outcome.err
    assert SECRET not in everything_written(bench)
    assert webhook.messages == []


def test_status_notifies_of_a_problem_and_of_its_end_once_each(bench, capsys, webhook):
    assert bench.install(capsys).code == 0
    config, owner = str(bench.configure(CONFIG)), bench.owner()

    def status(*words):
        words = ("--sandbox", "--notify", "--release", str(bench.release), "--config", config, *words)
        done = bench.run(capsys, "status", *words)
        assert SECRET not in done.out + done.err
        return done

    assert (status().code, webhook.messages) == (0, [])
    (job,) = owner.get("jobs")
    owner.call("DELETE", f"jobs/{job['id']}")
    ill = [status("--quiet"), status("--format", "nagios")]
    with bench.fault("GET", "/projects", status=500, times=None):
        unknown = [status(), status("--json")]
    bench.run(capsys, "schedule-gc", "--sandbox", "--config", config)
    well = [status(), status()]

    assert [done.code for done in (*ill, *well)] == [20, 2, 0, 0]
    assert not {done.code for done in unknown} & {0, 20}
    assert webhook.titles == ["MLflow: 1 problem", "MLflow: 2 problems", "MLflow: healthy again"]
    first, second, last = (text for _title, text in webhook.messages)
    assert "What: There is no garbage collection job. (gc-missing)" in first
    assert "What to do: Run `mlflow-ae5-deploy schedule-gc`, which creates it." in first
    assert "Where: project mlflow.tracking.server of mlflow-service on localhost" in first
    assert "The status is not known: " in second
    assert "gc-missing" not in second
    assert "Ended: There is no garbage collection job. (gc-missing)" in last
    assert "notify.urls.1 did not accept the message: no connection." in " ".join(ill[0].err.split())
    assert "did not accept" not in ill[1].err
    assert SECRET not in everything_written(bench)


def test_each_of_two_problems_with_one_code_is_notified(bench, capsys, webhook):
    assert bench.install(capsys).code == 0
    config, owner = str(bench.configure(CONFIG)), bench.owner()
    (project,) = owner.get("projects")

    def status():
        bench.run(capsys, "status", "--sandbox", "--notify", "--release", str(bench.release), "--config", config)

    for name in ("second", "third"):
        owner.deploy(project["id"], name=name)
        status()
        status()
    for name in ("second", "third"):
        (server,) = (server for server in owner.get("deployments") if server["name"] == name)
        owner.call("DELETE", f"deployments/{server['id']}")
        status()

    assert webhook.titles == [
        "MLflow: 1 problem",
        "MLflow: 2 problems",
        "MLflow: 1 problem left",
        "MLflow: healthy again",
    ]
    texts = [text for _title, text in webhook.messages]
    problem = "A second server uses the same data: deployment"
    assert [text.count(f"What: {problem} second") for text in texts] == [1, 0, 0, 0]
    assert [text.count(f"What: {problem} third") for text in texts] == [0, 1, 0, 0]
    assert [text.count(f"Ended: {problem} second") for text in texts] == [0, 0, 1, 0]
    assert [text.count(f"Ended: {problem} third") for text in texts] == [0, 0, 0, 1]


WRONG = [
    ("no URL", "just text", "The value of notify.urls.0 is no URL."),
    ("not one of apprise", f"foo://user:{SECRET}@host", "The value of notify.urls.0 is no URL that apprise knows."),
    ("two in one", f"json://{SECRET} json://{SECRET}", "The value of notify.urls.0 is no URL."),
    ("nothing", "", "NOTIFY_ONE, which holds the notify URL 0, is empty"),
]


@pytest.mark.parametrize(("case", "value", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_a_url_that_is_none_is_refused_before_any_stage_and_by_doctor(
    bench, capsys, monkeypatch, webhook, case, value, message
):
    monkeypatch.setenv("NOTIFY_ONE", value)
    words = ("--sandbox", "--json", "--release", str(bench.release), "--config", str(bench.configure(CONFIG)))
    bench.forget_calls()

    planned = bench.run(capsys, "plan", *words)
    doctor = bench.run(capsys, "doctor", *words)

    assert_error(planned, 3, message)
    assert bench.writes() == []
    (found,) = [finding for finding in doctor.data["findings"] if finding["check"] == "notify"]
    assert found["severity"] == "error"
    assert message.rstrip(".") in found["message"]
    assert SECRET not in planned.out + planned.err + json.dumps(doctor.data) + doctor.err


def test_without_receivers_nothing_can_be_sent(bench, capsys):
    done = bench.run(capsys, "status", "--sandbox", "--notify")
    assert_error(done, 3, "There are no receivers to notify.", "Set notify.urls")


REFERENCES = [
    ("json://user:planted@host", "must be a reference to a secret"),
    ("prompt", "There is no terminal to prompt for the notify URL 0."),
    ("env:X", "The environment variable X, which holds the notify URL 0, is not set."),
    ("file:/x", "The file that holds the notify URL 0 cannot be read: No such file or directory."),
]


@pytest.mark.parametrize(("value", "message"), REFERENCES)
def test_a_receiver_is_configured_by_reference_only(bench, capsys, value, message):
    """A valid one that cannot be resolved is refused for that reason alone."""
    config = str(bench.configure(f"notify: {{urls: ['{value}']}}\n"))
    done = bench.run(capsys, "plan", "--sandbox", "--release", str(bench.release), "--config", config)
    assert_error(done, 3, message)
    assert ("must be a reference to a secret" in done.err) == ("planted" in value)
    assert "planted" not in done.out + done.err
