"""`status` on a sandbox: what it shows of a healthy server, what it notices, and that it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from datetime import UTC, datetime

import pytest

from mlflow_ae5_deploy.config.state_dir import installation_dir
from mlflow_ae5_deploy.engine.records import UpgradeRecord
from mlflow_ae5_deploy.engine.state import SavedState
from tests.cli.answers import errors_of, warnings_of
from tests.cli.bench import ACCOUNT, ROOT, make_release
from tests.cli.terminal import read_all
from tests.sandbox.support import PROJECT_FILE, make_project_archive, wait_for

REPORT = (
    '{"command": "GarbageCollection", "outcome": "%s", "exit_code": %d, '
    '"runs": {"due": 3, "removed": 3, "remaining": 0}}'
)


def status(bench, capsys, *argv):
    return bench.run(capsys, "status", "--sandbox", "--json", "--release", str(bench.release), *argv)


def run_gc(bench):
    owner = bench.owner()
    (job,) = owner.get("jobs")
    return owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])


def test_before_the_first_install_it_is_not_installed_and_writes_nothing(bench, capsys):
    bench.forget_calls()
    seen = status(bench, capsys)
    assert seen.code == 32, seen.err
    assert seen.data["outcome"] == "not installed"
    assert seen.data["problems"] == [
        {
            "code": "not-installed",
            "severity": "error",
            "message": "Nothing is installed: the account does not exist.",
            "remedy": "Run `mlflow-ae5-deploy install --sandbox --release " + str(bench.release) + "`.",
        }
    ]
    shown = bench.run(capsys, "status", "--sandbox", "--release", str(bench.release))
    assert shown.code == 32
    assert shown.out.startswith("✗ Not installed: there is no account mlflow-service on localhost")
    assert "Run `mlflow-ae5-deploy install --sandbox" in shown.out
    assert "Deployment" not in shown.out
    assert bench.writes() == []


class TestHealthy:
    def test_shows_everything_without_a_write_and_with_few_requests(self, bench, capsys):
        bench.install(capsys, "--yes")
        run = run_gc(bench)
        bench.forget_calls()

        seen = status(bench, capsys)

        assert seen.code == 0, seen.err
        assert bench.writes() == []
        assert len(bench.calls()) <= 22
        shown, (record,) = seen.data, bench.owner().get("deployments")
        assert shown["outcome"] == "healthy"
        assert (errors_of(shown), shown["drift"]) == ([], [])
        unreported, backup = warnings_of(shown)  # of a release whose jobs write no report
        assert "The last garbage collection finished, result unknown: the run is completed" in unreported
        assert "No backup recorded on this machine" in backup
        assert shown["gc"]["last"]["passed"] is None
        assert shown["deployment"]["id"] == record["id"]
        assert shown["deployment"]["url"] == record["url"]
        assert shown["deployment"]["state"] == "started"
        assert shown["api"]["status"] == "healthy"
        assert shown["mlflow"]["version"] == "3.17.2"
        assert shown["database_schema"]["revision"] is None
        assert shown["release"]["name"] == "release release.tar.gz"
        assert shown["token"]["stored"][0]["of_this_deployment"] is True
        assert shown["gc"]["last"]["id"] == run["id"]
        assert shown["gc"]["last"]["state"] == "completed"
        assert shown["gc"]["next"] > shown["observed"]
        assert shown["secrets"]["missing"] == []
        assert sorted(shown["secrets"]["present"]) == bench.everything()["secrets"]
        assert shown["sharing"] == [{"type": "group", "id": "everyone"}]

    def test_a_person_reads_it_on_one_screen(self, bench, capsys):
        bench.install(capsys, "--yes")

        seen = bench.run(capsys, "status", "--sandbox", "--release", str(bench.release))

        assert seen.code == 0, seen.err
        assert seen.out.startswith("✓ Healthy, 2 warnings: MLflow 3.17.2 at https://localhost:")
        assert seen.out.splitlines()[0].endswith(", no known backup.")
        assert len(seen.out.splitlines()) <= 24
        for words in (
            "started, created 20",
            "; MLflow 3.17.2",
            "not visible from here; run `doctor",
            "Drift      none",
        ):
            assert words in seen.out

    def test_monitoring_reads_one_line(self, bench, capsys):
        bench.install(capsys, "--yes")
        run_gc(bench)
        words = ("status", "--sandbox", "--release", str(bench.release))

        quiet = bench.run(capsys, *words, "--quiet")
        warned = bench.run(capsys, *words, "--format", "nagios")
        stop(bench.owner(), bench.owner().get("deployments")[0])
        down = bench.run(capsys, *words, "--format", "nagios")
        absent = bench.run(capsys, *words, "--format", "nagios", "--username", "nobody-here")
        with bench.fault("GET", "/api/v2/", status=403, times=None):
            unknown = bench.run(capsys, *words, "--format", "nagios")
        both = bench.run(capsys, *words, "--format", "nagios", "--json")
        bench.install(capsys, "--yes")

        assert (quiet.code, quiet.out.count("\n")) == (0, 1)
        assert quiet.out.startswith("Healthy, 2 warnings: ")
        assert [one.code for one in (warned, down, absent, unknown, both)] == [1, 2, 2, 3, 3]
        assert warned.out.startswith("MLFLOW WARNING - ")
        assert " | errors=0 warnings=2 " in warned.out
        assert down.out.startswith("MLFLOW CRITICAL - No server runs: the project has no such deployment (no-server)")
        assert absent.out.startswith("MLFLOW CRITICAL - Not installed: ")
        assert unknown.out.startswith("MLFLOW UNKNOWN - ")
        assert {one.out.count("\n") for one in (warned, down, absent, unknown, both)} == {1}
        assert (unknown.err, both.err) == ("", "")

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            (["--nonsense"], "UNKNOWN - `status` has no option --nonsense."),
            (["--watch", "5"], "UNKNOWN - --format nagios excludes"),
            (["--config", "absent.yml"], "UNKNOWN - "),
            (["extra"], "UNKNOWN - "),
        ],
    )
    @pytest.mark.parametrize("form", [["--format", "nagios"], ["--format=nagios"]])
    def test_monitoring_reads_one_line_of_a_wrong_check(self, bench, capsys, form, more, text):
        seen = bench.run(capsys, "status", "--sandbox", *form, *more)
        assert (seen.code, seen.err, seen.out.count("\n")) == (3, "", 1)
        assert seen.out.startswith(f"MLFLOW {text}")

    def test_monitoring_reads_of_a_platform_that_does_not_answer(self, bench, capsys):
        with bench.fault("GET", "/api/v2/", drop="before", times=None):
            seen = bench.run(capsys, "status", "--sandbox", "--format", "nagios")
        assert (seen.code, seen.err, seen.out.count("\n")) == (2, "", 1)
        assert seen.out.startswith("MLFLOW CRITICAL - ")

    def test_monitoring_reads_of_a_bug_and_of_an_interruption(self, bench, tmp_path):
        (tmp_path / "cronsim.py").write_text("raise RuntimeError('a | broken\\npackage')")
        words = ("status", "--sandbox", "--format", "nagios")
        with bench.spawn(*words, environment=bench.environment(PYTHONPATH=f"{tmp_path}:{ROOT}")) as process:
            out, err = process.communicate(timeout=200)
        with bench.held(words, "GET", "/api/v2/") as held:
            held.send_signal(signal.SIGTERM)
            stopped, _ = held.communicate(timeout=200)

        assert (process.returncode, err, out.count("\n")) == (3, "", 1)
        assert out.startswith("MLFLOW UNKNOWN - A bug in mlflow-ae5-deploy: RuntimeError: a / broken")
        assert (held.returncode, stopped) == (3, "MLFLOW UNKNOWN - The check was interrupted\n")

    def test_another_machine_compares_less_and_warns(self, bench, capsys, monkeypatch):
        bench.install(capsys, "--yes")
        state = next((bench.folder / "state").glob("localhost*/state.json"))
        kept = state.read_bytes()
        state.unlink()
        try:
            seen = status(bench, capsys)
        finally:
            state.write_bytes(kept)

        assert seen.code == 0, seen.err
        assert seen.data["drift"] == []
        assert {row["name"] for row in seen.data["not_compared"]} == {"deploy", "store-url", "token", "store-token"}
        assert any("not visible from here" in text for text in warnings_of(seen.data))


class TestLastCollection:
    @pytest.mark.parametrize(
        ("outcome", "code", "exit_code", "message"),
        [("done", 0, 0, "deleted 3 runs"), ("failed", 10, 20, "the job reports failed, exit code 10")],
    )
    def test_the_last_line_of_its_log_is_its_result(self, bench, capsys, outcome, code, exit_code, message):
        line = f"unix: 'echo {REPORT % (outcome, code)}; exit {code}'".replace('"', '\\"').replace("'", '"')
        file = PROJECT_FILE.replace(
            """unix: 'echo "collecting older than $MLFLOW_TRACKING_GC_TTL"'""",
            line.replace('"echo ', "\"echo '").replace("; exit", "'; exit"),
        )
        release = make_project_archive(bench.folder / f"gc-{outcome}.tar.gz", project_file=file)
        done = bench.install(capsys, "--release", str(release), "--replace")
        assert done.code == 0, done.err
        run_gc(bench)

        seen = status(bench, capsys, "--release", str(release))

        assert seen.code == exit_code, seen.out
        assert seen.data["gc"]["last"]["outcome"] == outcome
        assert message in seen.data["gc"]["last"]["message"]
        if outcome == "failed":
            bench.run(capsys, "schedule-gc", "--sandbox", "--pause")
            examined = bench.run(capsys, "doctor", "--sandbox", "-v", "--release", str(release)).out
            bench.run(capsys, "schedule-gc", "--sandbox", "--resume")
            shown = " ".join(examined.split())
            assert (message in shown, shown.count("The garbage collection job is paused")) == (True, 1), examined
        bench.install(capsys, "--replace", "--yes")


def stop(owner, d):
    return owner.call("DELETE", f"deployments/{d['id']}")


def restart(owner, d):
    stop(owner, d)
    owner.deploy(d["project_url"].replace("http://anaconda-enterprise-ap-storage/projects/", "a0-"), name=d["name"],
                 static_endpoint="dev-mlflow-tracking-server")  # fmt: skip


def delete_job(owner, d):
    (job,) = owner.get("jobs")
    return owner.call("DELETE", f"jobs/{job['id']}")


UNHEALTHY = [
    ("stopped", stop, "No server runs"),
    ("public", lambda o, d: o.call("PATCH", f"deployments/{d['id']}", json={"public": True}), "is public"),
    ("unshared", lambda o, d: o.call("PUT", f"deployments/{d['id']}/collaborators", json=[]), "Not shared with"),
    ("token gone", lambda o, d: o.call("DELETE", "credentials/user/MLFLOW_TRACKING_TOKEN"), "MLFLOW_TRACKING_TOKEN"),
    ("secret gone", lambda o, d: o.call("DELETE", "credentials/user/MLFLOW_ARTIFACTS_DESTINATION"), "DESTINATION"),
    ("gc gone", delete_job, "no garbage collection job"),
]


class TestNotHealthy:
    @pytest.mark.parametrize(("case", "disturb", "message"), UNHEALTHY, ids=[row[0] for row in UNHEALTHY])
    def test_what_keeps_users_from_working_exits_with_20(self, bench, capsys, case, disturb, message):
        bench.install(capsys, "--yes")
        owner = bench.owner()
        (deployment,) = owner.get("deployments")
        disturb(owner, deployment)

        seen = status(bench, capsys)

        examined = bench.run(capsys, "doctor", "--sandbox", "--json")

        assert (seen.code, examined.code) == (20, 20), seen.out
        assert seen.data["outcome"] == "unhealthy"
        found = [item["message"] for item in examined.data["findings"] if item["severity"] == "error"]
        assert any(message in text for text in found), found
        assert any(message in text for text in errors_of(seen.data)), seen.data["problems"]
        assert seen.data["drift"]
        fixed = bench.install(capsys, "--yes")
        assert fixed.code == 0, fixed.err
        assert errors_of(status(bench, capsys).data) == []

    def test_a_secret_that_was_never_stored_is_drift(self, bench, capsys):
        bench.install(capsys, "--yes")
        config = bench.configure("server: {metrics: true, variables: {MLFLOW_LOGGING_LEVEL: DEBUG}}\n")
        argv = ("status", "--sandbox", "--release", str(bench.release), "--config", str(config))
        names = ["MLFLOW_TRACKING_METRICS", "MLFLOW_LOGGING_LEVEL"]

        seen, shown = bench.run(capsys, *argv, "--json"), bench.run(capsys, *argv)

        assert seen.code == 0, seen.out
        assert (sorted(seen.data["secrets"]["new"]), seen.data["secrets"]["missing"]) == (sorted(names), [])
        assert [row["name"] for row in seen.data["drift"]] == ["deploy"]
        assert " 1 stage differs from your configuration; `plan" in shown.out
        assert "` adds what follows " in " ".join(shown.out.split())

    def test_after_a_restart_from_elsewhere_the_token_is_a_warning(self, bench, capsys):
        bench.install(capsys, "--yes")
        owner = bench.owner()
        (deployment,) = owner.get("deployments")
        restart(owner, deployment)

        seen = status(bench, capsys)
        shown = bench.run(capsys, "status", "--sandbox", "--release", str(bench.release))
        examined = bench.run(capsys, "doctor", "--sandbox", "--json")
        fixed = bench.install(capsys, "--yes")

        assert [text for text in errors_of(seen.data) if "token" in text] == []
        assert any("whether it was replaced is not visible from here" in text for text in warnings_of(seen.data))
        assert "of an EARLIER deployment" in shown.out
        (finding,) = [item for item in examined.data["findings"] if item["check"] == "token"]
        assert finding["severity"] == "warning"
        assert fixed.code == 0, fixed.err
        assert [text for text in warnings_of(status(bench, capsys).data) if "token" in text] == []

    def test_a_server_without_its_database_is_not_healthy(self, bench, capsys):
        bench.install(capsys, "--yes")
        with bench.fault("GET", "experiments/search", status=503, times=None):
            seen = status(bench, capsys)

        assert seen.code == 20
        assert "The MLflow API is not healthy: " in errors_of(seen.data)[0]
        assert seen.data["deployment"]["state"] == "started"

    def test_a_server_that_hangs_is_asked_once_for_a_few_seconds_while_a_person_sees_it(self, bench, capsys):
        """However long the platform may take."""
        bench.install(capsys, "--yes")
        bench.forget_calls()
        ours, theirs = os.openpty()
        words = ("status", "--sandbox", "--release", str(bench.release), "--format", "nagios")
        with (
            bench.fault("GET", "experiments/search", hold=True, times=None),
            bench.spawn(*words, environment=bench.environment(TERM="xterm"), stderr=theirs) as process,
        ):
            os.close(theirs)
            watched = read_all(ours)
            out, _ = process.communicate(timeout=200)
        wait_for(lambda: not bench.control("GET", "/")["held"], "the request to end")

        assert process.returncode == 2
        assert "did not answer within 5 s (api-unhealthy)" in out
        paths = [call["path"] for call in bench.calls() if call["status"] != 302]  # the login redirects
        assert len([path for path in paths if "experiments/search" in path]) == 1
        assert [path for path in paths if path.endswith("/version")] == []
        assert "waiting for the MLflow API at https://" in watched

    def test_nothing_installed(self, bench, capsys):
        bench.install(capsys, "--yes")
        config = bench.configure("project:\n  name: another\n")
        seen = status(bench, capsys, "--config", str(config))
        assert seen.code == 32
        assert seen.data["outcome"] == "not installed"
        assert errors_of(seen.data)[0].startswith("Nothing is installed: the account has no such project.")
        assert seen.data["deployment"] is None

    def test_a_project_without_a_deployment_is_not_healthy(self, bench, capsys):
        bench.install(capsys)
        stop(bench.owner(), bench.owner().get("deployments")[0])

        seen = status(bench, capsys)

        assert (seen.code, seen.data["outcome"]) == (20, "unhealthy")
        assert errors_of(seen.data)[0].startswith("No server runs")
        assert bench.install(capsys).code == 0

    def test_an_interrupted_upgrade_without_a_project_is_not_healthy(self, bench, capsys):
        bench.install(capsys)
        config = bench.configure("project:\n  name: another\n")
        folder = installation_dir(bench.folder / "state", bench.info.hostname, ACCOUNT, "another")
        folder.mkdir(mode=0o700)
        state = SavedState.load(folder)
        when = datetime(2026, 1, 1, tzinfo=UTC)
        state.upgrade = UpgradeRecord("d", "9.9.9", "1.0.0", "a0-1", "/kept", "saving", when)
        state.save()
        try:
            seen = status(bench, capsys, "--config", str(config))
        finally:
            shutil.rmtree(folder)

        assert (seen.code, seen.data["outcome"]) == (20, "unhealthy"), seen.out
        assert "An upgrade to 9.9.9 was interrupted" in errors_of(seen.data)[0]


class TestDrift:
    def test_a_setting_not_yet_installed_is_drift_but_healthy(self, bench, capsys):
        bench.install(capsys, "--yes")
        config = bench.configure("gc:\n  schedule: '0 3 * * *'\n")

        seen = status(bench, capsys, "--config", str(config))

        assert seen.code == 0, seen.out
        (row,) = seen.data["drift"]
        assert (row["stage"], row["name"]) == (14, "gc-schedule")
        assert row["changes"][0]["differences"] == ["schedule: */10 * * * * → 0 3 * * *"]

    def test_another_release_is_drift(self, bench, capsys):
        bench.install(capsys, "--yes")
        other = make_release(bench.folder, "other.tar.gz", extra__txt="new")
        seen = status(bench, capsys, "--release", str(other))
        assert 6 in [row["stage"] for row in seen.data["drift"]]
        assert seen.data["deployment"]["state"] == "started"

    def test_an_expired_token_is_drift_and_install_issues_a_new_one(self, bench, capsys):
        bench.install(capsys, "--yes")
        state = bench.state_folder / "state.json"
        data = json.loads(state.read_text())
        data["tokens"]["mlflow-service"]["expires"] = "2026-01-01T00:00:00+00:00"
        state.write_text(json.dumps(data))

        seen = status(bench, capsys)
        planned = bench.run(capsys, "plan", "--sandbox", "--exit-code", "--release", str(bench.release))
        done = bench.install(capsys, "--yes")
        bench.forget_calls()
        again = bench.install(capsys, "--yes")

        assert seen.code == 20
        assert [row["name"] for row in seen.data["drift"]] == ["token", "store-token"]
        assert "expired 2026-01-01" in seen.data["drift"][0]["changes"][0]["reason"]
        assert planned.code == 30
        assert planned.out.count("the stored one expired 2026-01-01 00:00 UTC") == 2
        assert [done.data["stages"][n]["outcome"] for n in (10, 11)] == ["changed", "changed"]
        assert bench.writes() == []
        assert len(bench.calls()) <= 19  # 3 for the lock
        assert again.data["writes"] == 0
        assert status(bench, capsys).code == 0


class TestTrouble:
    def test_an_unreachable_platform_is_an_error_of_its_own(self, bench, capsys):
        bench.install(capsys, "--yes")
        with bench.fault("GET", "/api/v2/", status=403, times=None):
            seen = status(bench, capsys)
        assert seen.code == 12
        assert seen.data["error"]["kind"] == "Denied"


class TestWatch:
    def test_watch_repeats_until_interrupted_and_exits_with_the_last_code(self, bench, capsys):
        bench.install(capsys, "--yes")
        words = ("status", "--sandbox", "--json", "--watch", "0.5", "--release", str(bench.release))
        with bench.spawn(*words) as process:
            first = json.loads(process.stdout.readline())
            stop(bench.owner(), first["deployment"])
            seen = wait_for(lambda: _unhealthy(process), "an observation that it is stopped")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=200)

        assert first["outcome"] == "healthy"
        assert errors_of(seen)[0].startswith("No server runs")
        assert process.returncode == 20, err
        assert "Traceback" not in err

    def test_of_nothing_installed_ends_with_its_code(self, bench, capsys):
        words = ("status", "--sandbox", "--json", "--watch", "0.5", "--username", "nobody-here")
        with bench.spawn(*words) as process:
            first = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=200)

        assert first["outcome"] == "not installed"
        assert process.returncode == 32, err


def _unhealthy(process):
    shown = json.loads(process.stdout.readline())
    return shown if shown["outcome"] == "unhealthy" else None


def test_a_run_without_a_record_is_shown_from_the_journal(bench, capsys):
    """Records are deleted with the job, and by hand: that there is none does not show that it never ran."""

    def delete_records():
        owner = bench.owner()
        for run in owner.get("runs"):
            owner.call("DELETE", f"runs/{run['id']}")

    assert bench.install(capsys).code == 0
    delete_records()
    before = collection(bench, capsys)
    assert bench.run(capsys, "schedule-gc", "--sandbox", "--run-now").code == 24, "it writes no report"
    delete_records()
    after = collection(bench, capsys)
    examined = bench.run(capsys, "doctor", "--sandbox", "-v").out

    assert "; no run on record; next " in before
    assert "; last started from here 20" in after
    assert " ago), not on record; next " in after
    assert "no run on record" in examined
    assert "never ran" not in before + after
    shown = bench.run(capsys, "status", "--sandbox", "--json").data["gc"]
    assert (shown["last"], shown["started_here"][:4].isdigit()) == (None, True)


def collection(bench, capsys):
    out = bench.run(capsys, "status", "--sandbox", "--release", str(bench.release)).out
    (line,) = [line for line in out.splitlines() if line.startswith("  GC ")]
    return line
