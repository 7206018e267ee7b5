"""`backup` and `drill` through `main(argv)`, on a release whose commands snapshot a file."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.cli.answers import assert_error, errors_of, warnings_of
from tests.cli.rotating import volume
from tests.cli.snapshotting import make_snapshotting_release
from tests.contract import checked
from tests.sandbox.support import wait_for

SECRET_DESTINATION = "s3://key:planted-backup-password@bucket/prefix"


@pytest.fixture
def verb(bench, capsys):
    """Run a verb; installed as configured, and no command is made to fail."""
    if bench.release.name != "snapshotting.tar.gz":
        bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
        assert bench.install(capsys).code == 0
    for pattern in ("break-*", "gate-*", "calls"):
        for file in volume(bench).glob(pattern):
            file.unlink()

    def run(*argv):
        done = bench.run(capsys, *argv, "--sandbox", "--json")
        if report := done.data.get("run", {}).get("report"):
            checked(report)
        return done

    return run


@pytest.fixture
def owner(bench, verb):
    return bench.owner()


def calls(bench) -> list[str]:
    file = volume(bench) / "calls"
    return file.read_text().splitlines() if file.exists() else []


class TestActions:
    def test_a_snapshot_is_reported_and_recorded_and_the_job_is_deleted(self, bench, capsys, verb, owner):
        before = owner.get("jobs"), owner.get("runs")

        done = bench.run(capsys, "backup", "--sandbox")
        verbose = bench.run(capsys, "backup", "--sandbox", "--verbose")
        as_data = verb("backup", "create", "--rehash", "--allow-external")

        assert done.code == 0, done.err
        assert "starts" not in done.out + done.err
        assert "  | Backup starts; destination: default\n" in verbose.err
        assert '  | {"command": "Backup"' in verbose.err
        assert "progress {" not in verbose.err
        assert " created: 3 runs, 2 models, 5 artifacts (5.0 kB), 2.5 kB new; 1 run was in progress." in done.out
        lost_too = "on the volume of the database and the artifacts (/data); losing that volume loses data and backups"
        assert f"! Snapshots are {lost_too}. Set backup.destination to" in done.err
        assert lost_too in as_data.data["warnings"][0]
        assert as_data.data["run"]["report"]["artifacts"] == 5
        assert calls(bench) == ["Backup create", "Backup create", "Backup create --rehash --allow-external"]
        assert (owner.get("jobs"), owner.get("runs")) == before
        listed = verb("backup", "list")
        assert (as_data.data["verb"], listed.data["verb"]) == ("backup", "backup list")
        history = bench.run(capsys, "history", "--sandbox", "--limit", "2", "-v")
        assert " backup list: done" in history.out
        assert f"snapshot {as_data.data['run']['report']['snapshot']}" in history.out

    def test_verify_list_show_and_prune_pass_their_options_to_the_job(self, bench, capsys, verb):
        newest = verb("backup").data["run"]["report"]["snapshot"]

        outcomes = [
            bench.run(capsys, "backup", *words, "--sandbox")
            for words in (
                ("verify", "--sample", "25%"),
                ("verify", "--all", "--snapshot", newest),
                ("list",),
                ("show",),
                ("prune", "--keep-last", "1", "--keep-daily", "7"),
                ("prune", "--keep-last", "1", "--yes"),
            )
        ]

        assert [outcome.code for outcome in outcomes] == [0] * 6, [outcome.err for outcome in outcomes]
        assert calls(bench)[1:] == [
            "Backup verify --snapshot latest --sample 25%",
            f"Backup verify --snapshot {newest} --all",
            "Backup list",
            "Backup show --snapshot latest",
            "Backup prune --keep-last 1 --keep-daily 7",
            "Backup prune --keep-last 1 --yes",
        ]
        assert "verified: 6 objects intact (5.0 kB uncompressed)." in outcomes[0].out
        assert "when (UTC)        artifacts  new data  runs  models  verified  id\n" in outcomes[2].out
        assert "2026-11-22 00:00     5.0 kB    2.5 kB     3       -  no        abcdef\n" in outcomes[2].out
        assert "unfinished" in outcomes[2].out
        assert f"Snapshot {newest}." in outcomes[3].out
        assert "took" not in outcomes[3].out
        assert "MLflow     3.17.2, release unknown" in outcomes[3].out
        assert "Content    3 runs, 2 deleted runs, 2 models" in outcomes[3].out
        assert "  | " not in outcomes[2].out + outcomes[3].out
        assert "Nothing was deleted. To delete them, run the same command with --yes." in outcomes[4].out
        assert "freed" in outcomes[5].out
        entries = bench.run(capsys, "history", "--sandbox", "--json").data["entries"]
        assert [entry["verb"] for entry in entries[:2]] == ["backup prune --yes", "backup prune"]

    def test_retention_comes_from_the_configuration_without_options(self, bench, verb):
        path = bench.configure("backup:\n  keep_last: 2\n  keep_weekly: 4\n")

        assert verb("backup", "prune", "--config", str(path)).code == 0
        assert_error(verb("backup", "prune"), 2, "No retention is given")

        assert calls(bench) == ["Backup prune --keep-last 2 --keep-weekly 4"]

    def test_a_server_in_the_minimum_environment_uses_its_own_commands(self, bench, capsys, verb, owner):
        path = bench.configure("deployment:\n  command: MinimumTrackingServer\n")
        bench.forget_calls()

        assert verb("backup", "--config", str(path)).code == 0

        (made,) = [c for c in bench.calls() if c["method"] == "POST" and c["path"].endswith("/jobs")]
        assert made["status"] == 200
        assert calls(bench) == ["Backup create"]

    def test_its_log_is_read_without_progress_lines_unless_raw(self, bench, capsys, verb):
        verb("backup")

        shown, raw = (bench.run(capsys, "logs", "--run", "latest", "--sandbox", *words) for words in ((), ("--raw",)))

        assert (shown.code, raw.code) == (0, 0), shown.err
        assert "Backup starts" in shown.out
        assert "progress {" not in shown.out
        assert "progress {" in raw.out

    def test_what_a_job_warns_of_is_shown_without_its_log(self, bench, capsys, verb):
        verb("backup")
        (volume(bench) / "warnings").write_text("the rows of the database could not be checked: the disk is full\n")

        done = bench.run(capsys, "backup", "verify", "--sandbox")

        assert done.code == 0, done.err
        assert "! The rows of the database could not be checked: the disk is full.\n" in done.err

    def test_drill_reports_how_long_a_recovery_took(self, bench, capsys, verb):
        verb("backup")

        done = bench.run(capsys, "drill", "--sandbox")

        assert done.code == 0, done.err
        assert (
            "works: restored to a temporary location and served in 4.2 s, 1 check passed, 1 model read back."
            in done.out
        )
        assert "the API answers" not in done.out + done.err  # what passed is counted


def all_well(verb) -> str:
    """A new snapshot that was verified."""
    made = verb("backup").data["run"]["report"]["snapshot"]
    assert [verb(*words).code for words in (("backup", "verify"), ("drill",))] == [0, 0]
    return made


FAILURES = [("25", 25, "SnapshotDamaged"), ("mute", 24, "JobFailed")]  # all codes: tests/runbook/test_maintenance.py


class TestFailures:
    @pytest.mark.parametrize(("how", "code", "kind"), FAILURES, ids=[row[0] for row in FAILURES])
    def test_a_failed_job_fails_the_verb_with_its_exit_code(self, bench, verb, owner, how, code, kind):
        (volume(bench) / "break-Backup").write_text(how)

        failed = verb("backup")

        ended = "finished, result unknown" if how == "mute" else "failed"
        assert_error(failed, code, f"The backup {ended}", kind)
        assert failed.data["run"]["passed"] is (None if how == "mute" else False)
        if how not in ("mute", "kill"):
            assert "something broke in Backup" in failed.err
            assert "A_SETTING" not in failed.err
            assert "Fix it" in failed.err
        assert [job["name"] for job in owner.get("jobs")] == ["scheduled mlflow.tracking.server garbage collection"]

    def test_the_log_of_the_last_run_is_saved_when_its_job_is_deleted(self, bench, capsys, verb):
        (volume(bench) / "break-Backup").write_text("28")
        failed = bench.run(capsys, "backup", "--sandbox")
        (volume(bench) / "break-Backup").unlink()
        (command,) = re.findall(r"`(logs --run \S+ --lines 0 --sandbox)`", failed.err)
        bench.run(capsys, "backup", "list", "--sandbox")

        of_the_failed = bench.run(capsys, *command.split())
        latest = bench.run(capsys, "logs", "--run", "latest", "--sandbox", "--json").data

        assert "A_SETTING" not in failed.out
        assert "\n  A_SETTING  default  its value\n" in of_the_failed.out
        assert "\nerror: something broke in Backup\n" in of_the_failed.out
        assert "saved on this machine" in of_the_failed.err
        assert latest["source"]["name"] == "mlflow-ae5-deploy backup list"
        assert of_the_failed.code == 0
        (saved,) = bench.folder.glob("state/localhost*/runs/*backup.json")
        assert saved.stat().st_mode & 0o777 == 0o600
        saved.write_text("{")
        assert_error(bench.run(capsys, *command.split()), 15, "There is no run")

    def test_every_damaged_object_is_listed(self, bench, verb):
        verb("backup")
        report = {"action": "verify", "damaged": [{"object": "ab12", "what": "is missing"}]}
        (volume(bench) / "break-Backup").write_text(f"25 {json.dumps(report)}")

        assert_error(verb("backup", "verify"), 25, "- ab12: is missing")

    def test_a_failure_makes_it_unhealthy_until_the_same_succeeds(self, bench, verb):
        snapshot = all_well(verb)
        failing = {  # the failing command: its report, the problem of `status`, the command that clears it
            "backup show": (
                f'25 {{"snapshot": "{snapshot}"}}',
                f"The last check of snapshot {snapshot}",
                "backup verify",
            ),
            "drill": ("1", "The last drill", "drill"),
            "backup prune --keep-last 1": ("25", "The last prune of backups", "backup prune --keep-last 9 --yes"),
            "backup list": ("15", "The backup repository was not found", "backup list"),
            "backup": ("28", "The last backup", "backup"),
        }
        for words, (how, _, _) in failing.items():
            broken = volume(bench) / f"break-{words.split()[0].capitalize()}"
            broken.write_text(how)
            assert verb(*words.split()).code != 0
            broken.unlink()
        ill = verb("status")
        for _, _, cleared_by in failing.values():
            assert verb(*cleared_by.split()).code == 0
        well = verb("status")

        assert (ill.code, len(errors_of(ill.data))) == (20, len(failing))
        for _, message, _ in failing.values():
            (problem,) = [text for text in errors_of(ill.data) if text.startswith(message)]
            assert ": something broke in " in problem
        assert (well.code, errors_of(well.data)) == (0, [])
        assert [status.data["backup"]["damaged"] for status in (ill, well)] == [True, False]

    def test_a_failed_scheduled_drill_and_a_failed_backup_that_nobody_followed_are_problems(self, bench, verb, owner):
        all_well(verb)
        assert verb("drill", "schedule", "0 6 * * 0").code == 0
        (job,) = [job for job in owner.get("jobs") if job["command"] == "Drill"]
        (volume(bench) / "break-Drill").write_text("1")
        owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])
        (volume(bench) / "gate-Backup").touch()
        assert verb("backup", "--wait", "1").code == 13
        (volume(bench) / "break-Backup").write_text("28")
        (volume(bench) / "gate-Backup").unlink()
        wait_for(lambda: all(r["state"] != "running" for r in owner.get("runs")), "the backup to end")

        status = verb("status").data

        assert {item["what"] for item in status["backup"]["failed"]} == {"backup", "drill"}
        assert len(errors_of(status)) == 2
        for name in ("Backup", "Drill"):
            (volume(bench) / f"break-{name}").unlink()
            assert verb(name.lower()).code == 0
        assert verb("drill", "schedule", "--remove").code == 0
        assert errors_of(verb("status").data) == []

    @pytest.mark.parametrize(
        ("missing", "words"),
        [
            ({"external": ["s3://theirs/models"]}, ("s3://theirs/models", "outside the store", "Fix it")),
            (
                {"unreadable": ["1/r/artifacts/./x: its name cannot be addressed"], "hint": ""},
                ("1/r/artifacts/./x", "Not backed up: unreadable artifacts", "Rename"),
            ),
        ],
        ids=["outside the store", "unreadable"],
    )
    def test_missing_artifacts_make_a_snapshot_incomplete_and_are_listed(self, bench, verb, missing, words):
        report = {"action": "create", "outcome": "incomplete", "snapshot": "S9", **missing}
        (volume(bench) / "break-Backup").write_text(f"23 {json.dumps(report)}")

        incomplete = verb("backup")

        assert_error(incomplete, 23, *words)
        assert incomplete.data["run"]["outcome"] == "incomplete"
        assert any("unreadable, or outside" in text for text in warnings_of(verb("status").data))

    def test_many_missing_artifacts_are_a_warning_of_backup_and_status(self, bench, capsys, verb):
        report = {"action": "create", "outcome": "done", "error": None, "snapshot": "S9", "missing_artifacts": 1025}
        broken = volume(bench) / "break-Backup"
        broken.write_text(f"0 {json.dumps({**report, 'previous_artifacts': 1030})}")

        made = verb("backup")
        seen = verb("status").data
        broken.unlink()
        again = verb("backup", "create", "--allow-empty")

        message = "1,025 of the 1,030 artifacts of the previous snapshot are not in snapshot S9. Check the database"
        assert made.code == 0
        assert any(message in text for text in made.data["warnings"]), made.data["warnings"]
        assert message in made.err
        assert any(message in text for text in warnings_of(seen))
        assert errors_of(seen) == []
        assert not any("1,025" in text for text in (*again.data["warnings"], *warnings_of(verb("status").data)))
        assert calls(bench)[-1] == "Backup create --allow-empty"

    def test_a_release_without_the_command_is_refused_before_any_write(self, bench, capsys, verb, owner):
        old = make_snapshotting_release(bench.folder / "old.tar.gz", without=("Backup",))
        assert bench.install(capsys, "--release", str(old), "--replace").code == 0
        bench.forget_calls()

        refused = verb("backup")

        assert_error(refused, 3, "no command `Backup`", "upgrade --release bundled")
        assert bench.writes() == []
        assert bench.install(capsys, "--replace").code == 0

    def test_without_an_installation_the_remedy_is_named(self, bench, verb):
        path = bench.configure("project: {name: another}\n")

        assert_error(verb("backup", "--config", str(path)), 15, "no project `another`", "restore")


class TestTime:
    def test_a_run_that_takes_too_long_continues_and_the_next_call_follows_it(self, bench, verb, owner):
        gate = volume(bench) / "gate-Backup"
        gate.touch()

        late = verb("backup", "--wait", "1")
        jobs = [job["id"] for job in owner.get("jobs") if "backup" in job["name"]]
        bench.forget_calls()
        with bench.spawn("backup", "--sandbox", "--json") as process:
            wait_for(lambda: [c for c in bench.calls() if c["path"].endswith("/logs")][1:], "the run to be read")
            assert [job["id"] for job in owner.get("jobs") if "backup" in job["name"]] == jobs
            gate.unlink()
            out, err = process.communicate(timeout=200)

        assert_error(late, 13, "continues on the platform")
        assert process.returncode == 0, err
        assert json.loads(out)["run"]["passed"] is True
        assert calls(bench) == ["Backup create"]

    def test_an_interrupted_run_is_stopped_and_the_next_call_starts_a_new_one(self, bench, verb, owner):
        gate = volume(bench) / "gate-Backup"
        gate.touch()
        with bench.spawn("backup", "--sandbox", "--json") as process:
            wait_for(lambda: calls(bench), "the job to start")
            process.send_signal(2)
            _, err = process.communicate(timeout=200)
        gate.unlink()

        assert process.returncode == 130
        assert "Interrupted. The job for backup was stopped. " in " ".join(err.split())
        assert [job["name"] for job in owner.get("jobs") if "backup" in job["name"]] == []
        assert verb("backup").code == 0


class TestDestination:
    def test_credentials_of_the_destination_go_only_into_a_secret(self, bench, capsys, verb, owner, monkeypatch):
        monkeypatch.setenv("BACKUPS", SECRET_DESTINATION)
        path = bench.configure("backup: {destination: 'data/b'}\n")
        runs = []
        for destination in ("env:BACKUPS", "data/b"):
            path.write_text(f"backup: {{destination: '{destination}'}}\n")
            runs.append(bench.run(capsys, "backup", "--sandbox", "--verbose", "--config", str(path)))

        # the sandbox ignores a reference: it may be a real destination
        assert "Ignored on the sandbox" in runs[0].err
        assert "MLFLOW_TRACKING_BACKUP_DESTINATION" in owner.get("credentials/user")["data"]
        assert "destination: from a secret" in runs[1].err
        assert all("planted" not in outcome.out + outcome.err for outcome in runs)
        assert "planted" not in json.dumps(bench.calls())

    def test_a_new_repository_is_a_problem_until_the_previous_one_is_back_or_it_is_accepted(self, bench, verb):
        def at(repository, *words):
            report = {"outcome": "done", "error": None, "repository": repository}
            report |= (
                {"action": "list", "snapshots": [{}] * 12} if "list" in words else {"action": "create", "snapshot": "S"}
            )
            (volume(bench) / "break-Backup").write_text(f"0 {json.dumps({**report, 'snapshot_count': 12})}")
            done = verb("backup", *words)
            assert done.code == 0, done.err
            message = [text for text in done.data["warnings"] if "12 earlier snapshots are missing" in text]
            assert message == [text for text in message if text in done.err]
            status = verb("status").data
            assert errors_of(status) == message
            assert status["backup"]["recreated"] == bool(message)
            return bool(message)

        assert not at("one")
        assert at("two")
        assert at("two", "list")
        assert not at("one", "list")
        assert at("two")
        assert not at("two", "list", "--new-repository")
        assert not at("two")


class TestSchedule:
    def test_a_schedule_is_exactly_one_job_and_install_reverts_it(self, bench, capsys, verb, owner):
        shown = bench.run(capsys, "backup", "schedule", "30 2 * * *", "--sandbox")
        again = verb("backup", "schedule", "30 2 * * *")
        (job,) = [job for job in owner.get("jobs") if job["command"] == "Backup"]
        changed = verb("backup", "schedule", "30 3 * * *")

        assert shown.code == 0, shown.err
        assert "at 02:30" in shown.out.lower()
        assert "\n  backup:\n    schedule: '30 2 * * *'\n" in shown.out
        assert again.data["outcome"] == "unchanged"
        assert (job["schedule"], job["variables"]) == ("30 2 * * *", {})
        assert [c["change"] for c in changed.data["changes"]] == ["delete_job", "create_job"]
        config = bench.configure("backup: {schedule: 0 1 * * *, drill_schedule: 0 5 * * 0, keep_last: 7}\n")
        installed = bench.install(capsys, "--yes", "--config", str(config))
        assert installed.code == 0, installed.err
        found = {job["command"]: (job["schedule"], job["variables"]) for job in owner.get("jobs")}
        assert found.pop("GarbageCollection")[0] == "*/10 * * * *"
        keeps = {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "create --keep-last 7"}
        assert found == {"Backup": ("0 1 * * *", keeps), "Drill": ("0 5 * * 0", {})}
        assert verb("status").data["backup"]["retention"] == {"last": 7}
        removed = [verb("backup", "schedule", "--remove"), verb("drill", "schedule", "--remove")]
        assert [outcome.data["outcome"] for outcome in removed] == ["removed", "removed"]
        assert verb("backup", "schedule", "--remove").data["outcome"] == "unchanged"
        assert [job["command"] for job in owner.get("jobs")] == ["GarbageCollection"]

    def test_the_lines_that_keep_a_schedule_belong_to_the_profile(self, bench, capsys, verb):
        config = bench.configure("profiles:\n  prod:\n    gc:\n      schedule: '*/10 * * * *'\n")
        words = ("--sandbox", "--config", str(config), "--profile", "prod")
        shown = bench.run(capsys, "backup", "schedule", "30 2 * * *", *words)

        assert verb("backup", "schedule", "--remove").code == 0
        assert "\n  profiles:\n    prod:\n      backup:\n        schedule: '30 2 * * *'\n" in shown.out

    def test_a_paused_backup_that_install_recreates_stays_paused_and_other_jobs_do_not_change(
        self, bench, capsys, verb, owner
    ):
        def jobs():
            return {job["command"]: job for job in owner.get("jobs")}

        assert verb("backup", "schedule", "30 2 * * *").code == 0
        previous = jobs()
        owner.post(f"jobs/{previous['Backup']['id']}/pause")
        config = ["--config", str(bench.configure("backup:\n  schedule: 0 1 * * *\n  drill_schedule: 0 5 * * 0\n"))]
        bench.control("POST", "/faults", {"method": "POST", "path": "/pause$", "skip": 1, "times": None, "status": 500})
        try:
            interrupted = bench.install(capsys, *config)  # recreated, and not paused yet
        finally:
            bench.control("DELETE", "/faults")
        assert interrupted.code != 0
        assert jobs()["Backup"]["state"] == "scheduled"

        done = bench.install(capsys, *config)

        assert done.code == 0, done.err
        assert {name: job["state"] for name, job in jobs().items()} == {
            "Backup": "paused",
            "Drill": "scheduled",
            "GarbageCollection": "scheduled",
        }
        assert jobs()["GarbageCollection"]["id"] == previous["GarbageCollection"]["id"]
        (warning,) = done.data["stages"][13]["warnings"]
        assert "is paused: no backup runs until" in warning
        assert bench.install(capsys, *config).data["outcome"] == "unchanged"

        plain = verb("backup", "schedule", "45 2 * * *")
        assert jobs()["Backup"]["state"] == "scheduled"
        assert plain.data["warnings"] == ["The previous job was paused; the new one is not."]
        assert [verb(name, "schedule", "--remove").code for name in ("backup", "drill")] == [0, 0]

    def test_paused_jobs_stay_paused_when_the_project_is_replaced(self, bench, capsys, verb, owner):
        config = ["--config", str(bench.configure("backup:\n  schedule: 0 1 * * *\n"))]
        assert bench.install(capsys, *config).code == 0
        for job in owner.get("jobs"):
            owner.post(f"jobs/{job['id']}/pause")
        previous = bench.release
        newer = make_snapshotting_release(bench.folder / "newer.tar.gz", version="3.18.0")
        other = ["--release", str(newer)]

        planned = bench.run(capsys, "plan", "--sandbox", "--json", *other, *config)
        done = bench.install(capsys, "--replace", *other, *config)

        assert done.code == 0, done.err
        assert [len(outcome.data["stages"][13]["warnings"]) for outcome in (planned, done)] == [2, 2]
        assert [job["state"] for job in owner.get("jobs")] == ["paused", "paused"]
        assert bench.install(capsys, *other, *config).data["outcome"] == "unchanged"
        for job in owner.get("jobs"):
            owner.post(f"jobs/{job['id']}/unpause")
        assert bench.install(capsys, "--replace", "--release", str(previous), *config).code == 0
        assert [job["state"] for job in owner.get("jobs")] == ["scheduled", "scheduled"]
        assert verb("backup", "schedule", "--remove").code == 0

    def test_what_was_scheduled_by_a_verb_is_there_after_the_project_was_replaced(self, bench, capsys, verb, owner):
        """Also after an interruption between deletion and upload, and as it was; what is not, the plan names."""

        def jobs():
            return {job["command"]: (job["schedule"], job["state"], job["variables"]) for job in owner.get("jobs")}

        assert verb("backup", "schedule", "30 2 * * *").code == 0
        assert verb("drill", "schedule", "0 6 * * 0").code == 0
        (drill,) = [job for job in owner.get("jobs") if job["command"] == "Drill"]
        owner.post(f"jobs/{drill['id']}/pause")
        assert bench.run(capsys, "schedule-gc", "--cron", "0 5 * * *", "--yes", "--sandbox").code == 0
        before = jobs()
        # Set by hand in the pages of AE5, with a schedule that no verb accepts, and the name of another job's work.
        (project,) = [item["id"] for item in owner.get("projects") if item["owner"] == "mlflow-service"]
        by_hand = owner.job_body(project, "backup", command="DatabaseUpgrade", schedule="0 3 L * *")
        owner.post(f"projects/{project}/jobs", by_hand)
        newer = make_snapshotting_release(bench.folder / "newer.tar.gz", version="3.18.0")
        other = ["--release", str(newer)]

        planned = bench.run(capsys, "plan", "--sandbox", *other)
        bench.control("POST", "/faults", {"method": "POST", "path": "/projects/upload", "times": 1, "status": 400})
        try:
            interrupted = bench.install(capsys, "--replace", *other)
        finally:
            bench.control("DELETE", "/faults")
        assert (interrupted.code != 0, jobs()) == (True, {})
        done = bench.install(capsys, "--replace", *other)

        assert done.code == 0, done.err
        shown = " ".join(planned.out.split())
        assert "create the backup job: the replacement of the project requires it" in shown
        assert "create the drill job: the replacement of the project requires it" in shown
        gc = "the garbage collection job is recreated as configured: schedule: 0 5 * * * → */10 * * * *"
        assert gc in shown
        assert "job backup (0 3 L * *) is lost: it was not set by this tool" in shown
        assert jobs() == before | {"GarbageCollection": ("*/10 * * * *", "scheduled", before["GarbageCollection"][2])}
        assert bench.install(capsys, *other).data["outcome"] == "unchanged"

        (backup,) = [job for job in owner.get("jobs") if job["command"] == "Backup"]
        assert owner.call("DELETE", f"jobs/{backup['id']}").status_code < 300
        gone = [problem for problem in verb("status").data["problems"] if problem["code"] == "schedule-missing"]
        assert [(problem["severity"], "30 2 * * *" in problem["message"]) for problem in gone] == [("warning", True)]
        assert "backup schedule '30 2 * * *'" in gone[0]["remedy"]
        assert bench.install(capsys, *other).data["outcome"] == "unchanged"
        assert [verb(name, "schedule", "--remove").code for name in ("backup", "drill")] == [0, 0]
        assert "schedule-missing" not in {problem["code"] for problem in verb("status").data["problems"]}
        # The archive of the replaced project is used as it was, whatever the configuration customizes by now.
        config = bench.configure("slipstream: {variables: {MLFLOW_TRACKING_DATABASE_WAIT: '61'}}\n")
        (kept, *_) = sorted((bench.state_folder / "replaced").iterdir(), reverse=True)
        returned = bench.install(capsys, "--replace", "--release", str(kept), "--config", str(config))
        assert returned.code == 0, returned.err
        assert "is used as it was, without the settings `slipstream`" in returned.data["stages"][4]["warnings"][-1]
        assert bench.install(capsys).data["outcome"] == "unchanged"

    def test_checks_and_drills_have_schedules_of_their_own(self, bench, capsys, verb, owner):
        assert verb("drill", "schedule", "0 6 * * 0").data["verb"] == "drill schedule"
        assert verb("backup", "schedule", "--verify", "0 4 * * 6").data["job"]["command"] == "Backup"
        found = {job["command"]: job["variables"] for job in owner.get("jobs") if job["command"] != "GarbageCollection"}
        assert found == {"Drill": {}, "Backup": {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "verify"}}
        for words in (["drill", "schedule"], ["backup", "schedule", "--verify"]):
            assert verb(*words, "--remove").data["outcome"] == "removed"
        none = bench.run(capsys, "backup", "schedule", "--verify", "--sandbox")
        assert none.out == "Nothing is scheduled. Set a schedule with `backup schedule --verify CRON --sandbox`.\n"

    def test_without_cron_the_present_schedule_is_shown(self, bench, capsys, verb, owner):
        config = ["--config", str(bench.configure("backup: {schedule: 0 1 * * *}\n"))]
        none = bench.run(capsys, "backup", "schedule", "--sandbox")
        bench.forget_calls()
        desired = bench.run(capsys, "backup", "schedule", "--sandbox", *config)
        assert bench.writes() == []
        assert verb("backup", "schedule", "30 2 * * *").code == 0
        (job,) = [job for job in owner.get("jobs") if job["command"] == "Backup"]
        owner.post(f"jobs/{job['id']}/pause")
        shown, as_data = bench.run(capsys, "backup", "schedule", "--sandbox"), verb("backup", "schedule", *config)
        assert verb("backup", "schedule", "--remove").code == 0

        assert none.out == "Nothing is scheduled. Set a schedule with `backup schedule CRON --sandbox`.\n"
        assert "! Differs from your configuration; the next `install --sandbox --config" in desired.out
        assert "  backup.schedule: 0 1 * * * → not set\n" in desired.out
        assert "! Paused: at 02:30 (30 2 * * *), next " in shown.out
        assert "! Not in your configuration; `install --sandbox` keeps the job, except when" in shown.out
        assert "\n  backup:\n    schedule: '30 2 * * *'\n" in shown.out
        assert (as_data.data["verb"], as_data.data["outcome"]) == ("backup schedule", "done")
        (found,) = as_data.data["jobs"]
        assert (found["schedule"], found["paused"], as_data.data["configured"]) == ("30 2 * * *", True, "0 1 * * *")


WRONG = [
    (["backup", "list", "--all"], "--all is an option of `backup verify`"),
    (["backup", "--sample", "1%"], "--sample is an option of `backup verify`, not of `backup`"),
    (["backup", "show", "--new-repository"], "--new-repository is an option of `backup create` and `backup list`"),
    (["backup", "--json", "list"], "Run `mlflow-ae5-deploy backup list --sandbox`"),
    (["backup", "verify", "--sample", "1"], "such as 1%"),
    (["backup", "verify", "--sample", "1%", "--all"], "exclude each other"),
    (["backup", "show", "--snapshot=--undo"], "the id of a snapshot"),
    (["backup", "schedule", "0 1 * * *", "--remove"], "exclude each other"),
    (["backup", "schedule", "30", "2", "*", "*", "*"], "Put the schedule in quotes"),
    (["backup", "everything"], "`backup` has no verb 'everything'"),
    (["backup", "lst"], "Did you mean `mlflow-ae5-deploy backup list --sandbox`?"),
    (["drill", "schedule", "--snapshot", "latest"], "--snapshot is an option of `drill run`"),
    (["restore", "--undo", "--replace"], "--undo excludes"),
    (["restore", "--dry-run", "--stop-server"], "--dry-run and --stop-server exclude each other"),
    (["restore", "--saved", "saved_1"], "--saved requires --undo"),
    (["restore", "--undo", "--saved", "../x"], "--saved takes the name of a saved copy"),
    (["restore", "--list-saved", "--saved", "x"], "take no other options"),
    (["install", "--restore", "../x"], "the id of a snapshot"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options_are_refused_before_any_request(bench, capsys, words, message):
    bench.forget_calls()

    refused = bench.run(capsys, *words, "--sandbox", "--json")

    assert refused.code == 2, refused.err
    assert message in refused.err
    assert bench.calls() == []


def test_a_destination_without_backups_is_an_empty_list_until_one_is_known(bench, capsys, verb):
    shutil.rmtree(volume(bench) / "backups", ignore_errors=True)
    state = bench.state_folder / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"snapshot": None, "repository": None}))
    empty = bench.run(capsys, "backup", "list", "--sandbox")
    as_data = verb("backup", "list")
    all_well(verb)
    shutil.rmtree(volume(bench) / "backups")

    lost = verb("backup", "list")

    assert (empty.code, empty.out) == (0, "No backups in here yet.\nCreate one with `backup --sandbox`.\n"), empty.err
    assert (as_data.code, as_data.data["outcome"], as_data.data["run"]["passed"]) == (0, "done", False)
    assert_error(lost, 15, "no backups in here yet")
