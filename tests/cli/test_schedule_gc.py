"""The schedule of garbage collection through `main(argv)`. Every test starts with the configured schedule."""

from __future__ import annotations

import time

import pytest

from tests.cli.answers import assert_error
from tests.cli.bench import ACCOUNT
from tests.cli.collecting import make_collecting_release
from tests.sandbox.support import wait_for

JOB = "scheduled mlflow.tracking.server garbage collection"
SECRET_URI = "postgresql+psycopg://mlflow:planted-gc-password@db.example.com/mlflow"


@pytest.fixture
def gc(bench, capsys):
    """The verb, on an installation that is as configured."""
    if not hasattr(bench, "collecting"):
        bench.collecting = bench.release = make_collecting_release(bench.folder / "collecting.tar.gz")
    assert bench.install(capsys).code == 0

    def run(*argv):
        return bench.run(capsys, "schedule-gc", "--sandbox", "--json", *argv)

    return run


@pytest.fixture
def owner(bench, gc):
    return bench.owner()


class TestConverge:
    def test_a_configured_schedule_is_unchanged(self, bench, gc, owner):
        before = owner.get("jobs")
        bench.forget_calls()

        done = gc()

        assert (done.code, done.data["outcome"]) == (0, "unchanged"), done.err
        assert bench.writes() == []
        assert owner.get("jobs") == before

    def test_cron_and_ttl_are_set_and_shown_with_the_next_times(self, bench, capsys, gc, owner):
        refused = bench.run(capsys, "schedule-gc", "--sandbox", "--ttl", "7d0h0m0s")
        kept = owner.get("jobs")[0]["variables"]
        done = gc("--cron", "30 3 * * 0", "--ttl", "7d0h0m0s", "--variable", "GREETING=hi", "--yes")

        assert_error(refused, 14, "Not confirmed: recreate the garbage collection job", "--yes")
        assert "    MLFLOW_TRACKING_GC_TTL: not set → 7d0h0m0s\n" in refused.err
        assert "  - what users deleted more than 7d0h0m0s ago is purged" in refused.err
        assert "records and logs" not in refused.err
        assert kept == {}
        assert done.code == 0, done.err
        (job,) = owner.get("jobs")
        assert (job["name"], job["schedule"]) == (JOB, "30 3 * * 0")
        assert job["variables"] == {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s", "GREETING": "hi"}
        assert done.data["schedule"]["words"] == "At 03:30, only on Sunday"
        assert len(done.data["schedule"]["next"]) == 3
        assert all(time["utc"].endswith("03:30 UTC") for time in done.data["schedule"]["next"])
        again = gc("--cron", "30 3 * * 0", "--ttl", "7d0h0m0s", "--variable", "GREETING=hi")
        assert again.data["outcome"] == "unchanged"

    def test_a_difference_from_the_configuration_is_shown_with_the_lines_that_keep_it(self, bench, capsys, gc, owner):
        shown = bench.run(capsys, "schedule-gc", "--sandbox", "--cron", "0 4 * * *", "--ttl", "1d", "--yes")

        assert "the next `install --sandbox` will revert it" in shown.out
        lines = shown.out.partition("add this to the configuration:\n")[2]
        path = bench.configure("\n".join(line[2:] for line in lines.splitlines()))
        kept = bench.install(capsys, "--config", str(path))
        assert kept.data["stages"][13]["outcome"] == "unchanged", kept.out
        undone = bench.install(capsys)
        assert "schedule: 0 4 * * * → */10 * * * *" in undone.data["stages"][13]["changes"][0]["differences"]
        (job,) = owner.get("jobs")
        assert (job["schedule"], job["variables"]) == ("*/10 * * * *", {})

    def test_exactly_one_job_remains(self, bench, gc, owner):
        (project,) = [p for p in owner.get("projects") if p["owner"] == ACCOUNT]
        (job,) = owner.get("jobs")
        run = owner.post(f"jobs/{job['id']}/runs")
        owner.finished(run["id"])
        bench.control("PATCH", "/settings", {"job_delete_keeps_runs": True})
        owner.call("DELETE", f"jobs/{job['id']}")  # its run stays and blocks the name
        for name in ("hourly", "daily"):
            owner.post(f"projects/{project['id']}/jobs", owner.job_body(project["id"], name, schedule="0 * * * *"))
        owner.post(f"projects/{project['id']}/jobs", owner.job_body(project["id"], "somebody's one-off"))

        done = gc("--yes")

        assert done.code == 0, done.err
        assert [c["change"] for c in done.data["changes"]] == ["delete_job", "delete_job", "create_job"]
        assert sorted((j["name"], j["schedule"]) for j in owner.get("jobs")) == [
            (JOB, "*/10 * * * *"),
            ("somebody's one-off", None),
        ]
        for job in owner.get("jobs"):
            if job["schedule"] is None:
                owner.call("DELETE", f"jobs/{job['id']}")

    def test_an_active_run_is_waited_for(self, bench, gc, owner):
        gate = bench.folder / "gate"
        assert gc("--variable", f"GATE={gate}").code == 0
        (job,) = owner.get("jobs")
        run = owner.post(f"jobs/{job['id']}/runs")
        wait_for(lambda: owner.get(f"runs/{run['id']}")["state"] == "running", "the run to start")
        bench.forget_calls()

        impatient = gc("--wait", "1", "--yes")
        assert owner.get("jobs")[0]["state"] == "scheduled"
        with bench.spawn("schedule-gc", "--sandbox", "--json", "--yes") as process:
            path = f"/api/v2/jobs/{job['id']}/runs"
            wait_for(lambda: [c for c in bench.calls() if c["path"] == path][3:], "the run to be read")
            assert [j["id"] for j in owner.get("jobs")] == [job["id"]]
            gate.touch()
            process.communicate(timeout=200)

        assert_error(impatient, 13, "the running garbage collection", "Stop the run")
        assert process.returncode == 0
        assert [j["variables"] for j in owner.get("jobs")] == [{}]

    @pytest.mark.parametrize(("setting", "value", "usual"), [("list_visibility_polls", 3, 0), ("state_polls", 2, 0)])
    def test_a_slow_platform_makes_no_difference(self, bench, gc, owner, setting, value, usual):
        bench.control("PATCH", "/settings", {setting: value})
        try:
            done = gc("--cron", "0 5 * * *", "--run-now")
        finally:
            bench.control("PATCH", "/settings", {setting: usual})

        assert done.code == 0, done.err
        wait_for(lambda: [j["schedule"] for j in owner.get("jobs")] == ["0 5 * * *"], "one job")

    def test_a_job_that_is_not_listed_yet_is_adopted(self, bench, gc, owner):
        assert gc("--remove").code == 0
        (project,) = [p for p in owner.get("projects") if p["owner"] == ACCOUNT]
        bench.control("PATCH", "/settings", {"list_visibility_polls": 3})
        try:
            owner.post(f"projects/{project['id']}/jobs", owner.job_body(project["id"], JOB, schedule="*/10 * * * *"))
        finally:
            bench.control("PATCH", "/settings", {"list_visibility_polls": 0})

        done = gc()

        assert done.code == 0, done.err
        assert [j["name"] for j in owner.get("jobs")] == [JOB]

    def test_a_job_that_differs_is_recreated_only_after_consent(self, bench, capsys, gc, owner):
        """Without options, that is, where nobody has named the change. The records of its runs go with it."""
        assert gc("--cron", "0 4 * * *").code == 0
        assert gc("--run-now").code == 0
        (job,), runs = owner.get("jobs"), owner.get("runs")

        refused = bench.run(capsys, "schedule-gc", "--sandbox")
        kept = owner.get("jobs"), owner.get("runs")
        done = gc("--yes")

        assert_error(refused, 14, "Not confirmed: recreate the garbage collection job", "--yes")
        assert "schedule: 0 4 * * * → */10 * * * *" in refused.err
        assert "the records and logs of the job's runs are deleted" in refused.err
        assert ([item["id"] for item in kept[0]], len(runs), kept[1]) == ([job["id"]], 1, runs)
        assert (done.code, owner.get("jobs")[0]["schedule"], owner.get("runs")) == (0, "*/10 * * * *", [])


class TestSwitches:
    def test_install_keeps_a_paused_job_paused(self, bench, capsys, gc, owner):
        paused = gc("--pause")
        again = gc("--pause")
        installed = bench.install(capsys)
        (job,) = owner.get("jobs")
        resumed = gc("--resume")

        assert [paused.data["outcome"], again.data["outcome"]] == ["paused", "unchanged"]
        assert job["state"] == "paused"
        assert "paused" in installed.data["stages"][13]["warnings"][0]
        assert resumed.data["outcome"] == "resumed"
        assert owner.get("jobs")[0]["state"] == "scheduled"

    def test_a_resumed_job_shows_what_it_keeps_and_its_times_in_utc_alone(self, bench, capsys, gc, owner, monkeypatch):
        gc("--ttl", "7d", "--variable", "GREETING=hi", "--yes")
        gc("--pause")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        try:
            shown = bench.run(capsys, "schedule-gc", "--sandbox", "--resume").out
        finally:
            monkeypatch.undo()
            time.tzset()

        assert "Variables  GREETING=********, MLFLOW_TRACKING_GC_TTL=7d\n" in shown
        assert (shown.count(" UTC ("), "JST" in shown) == (3, False)

    def test_a_paused_job_that_install_recreates_stays_paused(self, bench, capsys, gc, owner):
        config = ["--config", str(bench.configure("gc: {schedule: '0 3 * * *'}\n"))]
        assert gc("--pause").code == 0
        (previous,) = owner.get("jobs")
        examined = bench.run(capsys, "doctor", "--sandbox", "--json")

        planned = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release), *config)
        fault = {"method": "POST", "path": "/pause$", "skip": 1, "times": None, "status": 500}
        bench.control("POST", "/faults", fault)
        try:
            interrupted = bench.install(capsys, *config)  # recreated, and not paused yet
        finally:
            bench.control("DELETE", "/faults")
        done = bench.install(capsys, *config)
        again = bench.install(capsys, *config)
        (job,) = owner.get("jobs")
        refused = gc()
        plain = gc("--yes")

        for outcome in (planned, done):
            assert "is paused: no garbage collection runs until" in outcome.data["stages"][13]["warnings"][0]
        paused = [item for item in examined.data["findings"] if "collection job is paused" in item["message"]]
        assert [item["check"] for item in paused] == ["gc-job"]
        assert interrupted.code != 0
        assert (done.code, job["schedule"], job["state"]) == (0, "0 3 * * *", "paused"), done.err
        assert job["id"] != previous["id"]
        assert done.data["stages"][13]["reason"].endswith("; paused")
        assert again.data["stages"][13]["outcome"] == "unchanged"
        assert_error(refused, 14, "Not confirmed", "--yes")
        assert "the job is paused, the new one is not" in refused.err
        assert owner.get("jobs")[0]["state"] == "scheduled"
        assert "the new one is not" in plain.data["warnings"][0]

    def test_remove_deletes_jobs_and_run_records_and_is_safe_to_repeat(self, bench, capsys, gc, owner):
        assert gc("--run-now").code == 0

        removed = gc("--remove")
        again = gc("--remove")
        refused = gc("--run-now")

        assert (removed.code, removed.data["outcome"]) == (0, "removed"), removed.err
        assert (again.code, again.data["outcome"]) == (0, "unchanged")
        assert (owner.get("jobs"), owner.get("runs")) == ([], [])
        assert_error(refused, 15, "no garbage collection job", "schedule-gc")


UNREPORTED = "finished, result unknown: the run is completed, and its log has no report"


class TestRuns:
    def test_run_now_shows_the_log_and_exits_with_the_result(self, bench, capsys, gc, owner):
        done = bench.run(capsys, "schedule-gc", "--sandbox", "--run-now", "--ttl", "3d", "--yes")
        as_data = gc("--run-now")

        assert done.code == 0, done.err
        assert "  | collecting older than 3d\n" in done.out
        assert "✓ Deleted 2 runs" in done.out
        assert "A_SETTING" not in done.out
        assert "A_SETTING" in bench.run(capsys, "logs", "--sandbox", "--run", "latest").out
        assert as_data.data["run"]["report"]["runs"] == {"due": 2, "removed": 2, "remaining": 0}
        assert len(owner.get("jobs")) == 1

    @pytest.mark.parametrize(
        ("how", "code", "words"),
        [
            ("state", 24, ("failed: the run is failed",)),
            ("3", 3, ("failed: no server.",)),
            ("10", 10, ("failed: no server.",)),
            ("1", 24, ("failed: no server.",)),  # a bug of the job is none of this tool
            ("crash", 24, (UNREPORTED, "; it ends with `sqlite3.OperationalError: disk I/O error`")),
            ("silence", 24, (UNREPORTED, "; it ends with `the database ends in ")),
            ("part", 23, ("is incomplete: deleted 1 of 2 runs; 1 skipped (run r1: a link leads out).",)),
        ],
    )
    def test_a_failed_run_fails_the_verb(self, bench, capsys, gc, how, code, words):
        done = gc("--variable", f"BREAK={how}", "--run-now")
        shown = bench.run(capsys, "schedule-gc", "--sandbox", "--run-now")

        assert_error(done, code, *words, "logs --run")
        assert done.data["run"]["passed"] is (None if UNREPORTED in words else False)
        assert shown.code == code
        assert "Traceback" not in shown.err

    def test_a_dry_run_is_a_temporary_job(self, bench, capsys, gc, owner):
        before = owner.get("jobs")
        runs = {run["id"] for run in owner.get("runs")}

        done = gc("--run-now", "--dry-run", "--ttl", "1h")
        refused = gc("--run-now", "--dry-run", "--variable", "BREAK=10")

        assert done.code == 0, done.err
        assert done.data["run"]["message"] == "would delete 2 runs"
        history = bench.run(capsys, "history", "--sandbox", "-n", "2").out
        rows = [line.split() for line in history.splitlines() if " schedule-gc --run-now --dry-run " in line]
        assert [row[-1] for row in rows] == ["0", "0"], history  # the job is deleted again
        assert_error(refused, 10, "no server")
        assert owner.get("jobs") == before
        assert {run["id"] for run in owner.get("runs")} == runs

    def test_a_release_that_would_really_collect_runs_no_dry_run(self, bench, capsys, gc, owner):
        release = make_collecting_release(bench.folder / "older.tar.gz", knows_dry_run=False)
        assert bench.install(capsys, "--release", str(release), "--replace").code == 0
        runs = owner.get("runs")

        refused = [gc("--run-now", "--dry-run"), gc("--dry-run"), gc("--variable", "MLFLOW_TRACKING_GC_DRY_RUN=true")]

        for outcome in refused:
            assert_error(outcome, 20, "the job would delete data", "MLFLOW_TRACKING_GC_DRY_RUN")
        assert (owner.get("runs"), [j["variables"] for j in owner.get("jobs")]) == (runs, [{}])
        assert bench.install(capsys, "--replace").code == 0

    def test_a_schedule_of_dry_runs_is_a_warning_and_ends_only_after_consent(self, bench, capsys, gc, owner):
        done = gc("--dry-run")
        refused = bench.install(capsys)

        assert_error(refused, 14, "Not confirmed: delete the garbage collection job", "--yes")
        assert "garbage collection deletes again what it only lists now" in refused.err
        assert owner.get("jobs")[0]["variables"] == {"MLFLOW_TRACKING_GC_DRY_RUN": "true"}
        assert "only lists" in done.data["warnings"][0]
        assert bench.install(capsys, "--yes").code == 0

    def test_all_but_the_newest_run_records_are_deleted(self, gc, owner):
        for _ in range(4):
            (job,) = owner.get("jobs")
            owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])
        newest = [run["id"] for run in sorted(owner.get("runs"), key=lambda run: run["created"])][-2:]

        done = gc("--keep-runs", "2")

        assert done.data["pruned_runs"] >= 2
        assert sorted(run["id"] for run in owner.get("runs")) == sorted(newest)


class TestSecrets:
    def test_a_password_on_the_command_line_is_refused_and_not_repeated(self, bench, gc):
        bench.forget_calls()
        for options, code, way_out in (
            (["--backend-store-uri", SECRET_URI], 2, "env:NAME or file:PATH"),
            (["--variable", f"MLFLOW_BACKEND_STORE_URI={SECRET_URI}"], 2, "env:NAME or file:PATH"),
            (["--variable", f"OTHER_DATABASE={SECRET_URI}"], 3, "as a reference"),
            (["--variable", "DB_PASSWORD=planted-gc-password"], 3, "as a reference"),
        ):
            refused = gc(*options)

            assert refused.code == code
            assert way_out in refused.err
            assert "planted" not in refused.out + refused.err
        assert bench.calls() == []

    @pytest.mark.parametrize("kind", ["env", "file"])
    def test_a_reference_reaches_the_job_and_nothing_else(self, bench, capsys, gc, owner, monkeypatch, kind):
        monkeypatch.setenv("GC_DATABASE", SECRET_URI)
        file = bench.folder / "database-uri"
        file.write_text(SECRET_URI + "\n")
        file.chmod(0o600)
        reference = {"env": "env:GC_DATABASE", "file": f"file:{file}"}[kind]

        shown = bench.run(capsys, "schedule-gc", "--sandbox", "--backend-store-uri", reference, "--run-now")
        again = gc("--backend-store-uri", reference)

        assert shown.code == 0, shown.err
        assert "the database ends in mlflow" in shown.out
        assert shown.err.count("The schedule keeps these options") == 1
        assert "The schedule keeps" not in again.out + again.err
        assert owner.get("jobs")[0]["variables"] == {"MLFLOW_BACKEND_STORE_URI": SECRET_URI}
        assert again.data["outcome"] == "unchanged"
        state = "".join(f.read_text() for f in (bench.folder / "state").glob("localhost*/*.json*"))
        assert "planted" not in shown.out + shown.err + again.out + again.err + state

    def test_the_servers_own_database_needs_no_variable(self, gc, owner, monkeypatch):
        monkeypatch.setenv("GC_DATABASE", "sqlite:///data/mlflow/standalone/store/mydb.sqlite")

        done = gc("--backend-store-uri", "env:GC_DATABASE")

        assert done.data["outcome"] == "unchanged"
        assert owner.get("jobs")[0]["variables"] == {}


WRONG = [
    (["--cron", "*/8 * * * *"], 3, "does not divide 60"),
    (["--ttl", "30 days"], 3, "30d0h0m0s"),
    (["--ttl", "1d", "--variable", "MLFLOW_TRACKING_GC_TTL=2d"], 2, "more than once"),
    (["--variable", "NAME"], 2, "NAME=VALUE"),
    (["--pause", "--resume"], 2, "exclude"),
    (["--pause", "--cron", "0 1 * * *"], 2, "--pause"),
    (["--run-now", "--dry-run", "--cron", "0 1 * * *"], 2, "--cron"),
    (["--backend-store-uri", "env:NOT SET"], 2, "reference"),
    (["--backend-store-uri", "env:NOT_SET_ANYWHERE"], 3, "NOT_SET_ANYWHERE"),
]


@pytest.mark.parametrize(("options", "code", "word"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options_are_refused_before_any_write(bench, capsys, options, code, word):
    bench.forget_calls()

    refused = bench.run(capsys, "schedule-gc", "--sandbox", "--json", *options)

    assert refused.code == code, refused.err
    assert word in refused.err
    assert bench.writes() == []


def test_without_an_installation_the_remedy_is_named(bench, capsys, gc):
    refused = gc("--config", str(bench.configure("project: {name: another}\n")))

    assert_error(refused, 15, "no project `another`", "install")


def test_lost_writes_converge_to_the_same_schedule(bench, gc, owner):
    """Lost answers, refusals and kills at each request: tests/convergence."""
    writes = (("POST", "/pause$"), ("DELETE", "/jobs/[^/]+$"), ("POST", "/jobs$"))
    for method, path in writes:
        bench.control("POST", "/faults", {"method": method, "path": path, "times": 1, "drop": "before"})
    try:
        runs = [gc("--cron", "0 6 * * *")]
        while runs[-1].code != 0 and len(runs) <= len(writes):
            runs.append(gc("--cron", "0 6 * * *"))
    finally:
        bench.control("DELETE", "/faults")
    again = gc("--cron", "0 6 * * *")

    assert all(run.code in (10, 16, 18) for run in runs[:-1]), runs
    assert (runs[-1].code, again.data["outcome"]) == (0, "unchanged"), runs[-1].err
    (job,) = owner.get("jobs")
    assert (job["schedule"], job["state"]) == ("0 6 * * *", "scheduled")
