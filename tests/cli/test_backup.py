"""`backup` and `drill` through `main(argv)`, on a release whose commands snapshot a file."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.answers import assert_tells
from tests.cli.rotating import volume
from tests.cli.snapshotting import make_snapshotting_release
from tests.sandbox.support import wait_for

SECRET_PLACE = "s3://key:planted-backup-password@bucket/prefix"


@pytest.fixture
def verb(bench, capsys):
    """Installed as configured, with nothing told to break."""
    if bench.release.name != "snapshotting.tar.gz":
        bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
        assert bench.install(capsys).code == 0
    for pattern in ("break-*", "gate-*", "calls"):
        for file in volume(bench).glob(pattern):
            file.unlink()

    def run(*argv):
        return bench.run(capsys, argv[0], "--sandbox", "--json", *argv[1:])

    return run


@pytest.fixture
def owner(bench, verb):
    return bench.owner()


def calls(bench) -> list[str]:
    file = volume(bench) / "calls"
    return file.read_text().splitlines() if file.exists() else []


class TestActions:
    def test_a_snapshot_is_made_told_and_remembered_and_the_job_is_gone(self, bench, capsys, verb, owner):
        before = owner.get("jobs"), owner.get("runs")

        done = bench.run(capsys, "backup", "--sandbox")
        as_data = verb("backup", "create", "--rehash", "--allow-external")

        assert done.code == 0, done.err
        assert "  | Backup begins; to the usual place\n" in done.out
        assert (
            "3 runs, 12 rows in 4 tables, 5 artifacts (5.0 kB); 6 new objects, 2.5 kB written; 1 run was going on"
            in done.out
        )
        assert "A_SETTING" not in done.out
        lost_too = "kept on the volume of the database and the artifacts (/data): losing it loses both"
        assert f"warning: snapshots are {lost_too}. Set backup.destination to" in done.err
        assert lost_too in as_data.data["warnings"][0]
        assert as_data.data["run"]["report"]["artifacts"] == 5
        assert calls(bench) == ["Backup create", "Backup create --rehash --allow-external"]
        assert (owner.get("jobs"), owner.get("runs")) == before
        history = bench.run(capsys, "history", "--sandbox", "--limit", "1")
        assert f"snapshot {as_data.data['run']['report']['snapshot']}" in history.out

    def test_verify_list_show_and_prune_pass_on_what_is_asked(self, bench, capsys, verb):
        newest = verb("backup").data["run"]["report"]["snapshot"]

        told = [
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

        assert [outcome.code for outcome in told] == [0] * 6, [outcome.err for outcome in told]
        assert calls(bench)[1:] == [
            "Backup verify --snapshot latest --sample 25%",
            f"Backup verify --snapshot {newest} --all",
            "Backup list",
            "Backup show --snapshot latest",
            "Backup prune --keep-last 1 --keep-daily 7",
            "Backup prune --keep-last 1 --yes",
        ]
        assert "6 of 6 objects read back and right" in told[0].out
        assert newest in told[2].out
        assert "unfinished" in told[2].out
        assert f"snapshot {newest}" in told[3].out
        assert "mlflow_version" in told[3].out
        assert "  | " not in told[2].out + told[3].out
        assert "Nothing was removed. The same with --yes removes what would go." in told[4].out
        assert "freed" in told[5].out

    def test_what_is_kept_comes_from_the_configuration_where_it_is_not_said(self, bench, verb):
        path = bench.configure("backup:\n  keep_last: 2\n  keep_weekly: 4\n")

        assert verb("backup", "prune", "--config", str(path)).code == 0
        assert_tells(verb("backup", "prune"), 2, "What is to be kept is not said")

        assert calls(bench) == ["Backup prune --keep-last 2 --keep-weekly 4"]

    def test_a_server_in_the_small_environment_has_commands_of_its_own(self, bench, capsys, verb, owner):
        path = bench.configure("deployment:\n  command: MinimumTrackingServer\n")
        bench.forget_calls()

        assert verb("backup", "--config", str(path)).code == 0

        (made,) = [c for c in bench.calls() if c["method"] == "POST" and c["path"].endswith("/jobs")]
        assert made["status"] == 200
        assert calls(bench) == ["Backup create"]

    def test_drill_tells_how_long_a_recovery_took(self, bench, capsys, verb):
        verb("backup")

        done = bench.run(capsys, "drill", "--sandbox")

        assert done.code == 0, done.err
        assert "served from there in 4.2 s; 1 check passed, 1 model read back" in done.out
        assert done.out.count("the API answers: it does") == 1  # by its log


def all_well(verb) -> str:
    """The newest snapshot, which is known to be right."""
    made = verb("backup").data["run"]["report"]["snapshot"]
    assert [verb(*words).code for words in (("backup", "verify"), ("drill",))] == [0, 0]
    return made


FAILURES = [("25", 25, "SnapshotDamaged"), ("mute", 24, "JobFailed")]  # all codes: tests/runbook/test_maintenance.py


class TestFailures:
    @pytest.mark.parametrize(("how", "code", "kind"), FAILURES, ids=[row[0] for row in FAILURES])
    def test_a_job_that_fails_fails_the_verb_with_its_own_code(self, bench, verb, owner, how, code, kind):
        (volume(bench) / "break-Backup").write_text(how)

        failed = verb("backup")

        ended = "has finished, result unknown" if how == "mute" else "did not do its work"
        assert_tells(failed, code, f"The backup {ended}", kind)
        assert failed.data["run"]["passed"] is (None if how == "mute" else False)
        if how not in ("mute", "kill"):
            assert "something broke in Backup" in failed.err
            assert "A_SETTING" not in failed.err
            assert "Mend it" in failed.err
        assert [job["name"] for job in owner.get("jobs")] == ["scheduled mlflow.tracking.server garbage collection"]

    def test_the_log_of_the_last_run_can_be_read_although_its_job_is_gone(self, bench, capsys, verb):
        (volume(bench) / "break-Backup").write_text("28")
        failed = bench.run(capsys, "backup", "--sandbox")
        (volume(bench) / "break-Backup").unlink()
        (command,) = re.findall(r"`(logs --run \S+ --lines 0 --sandbox)`", failed.err)
        bench.run(capsys, "backup", "list", "--sandbox")

        of_the_failed = bench.run(capsys, *command.split())
        latest = bench.run(capsys, "logs", "--run", "latest", "--sandbox", "--json").data

        assert "A_SETTING" not in failed.out
        assert "\n  A_SETTING  default  its value\n" in of_the_failed.out
        assert '"error": "something broke in Backup"' in of_the_failed.out
        assert "saved on this machine" in of_the_failed.err
        assert latest["source"]["name"] == "mlflow-ae5-deploy backup list"
        assert of_the_failed.code == 0
        (kept,) = bench.folder.glob("state/localhost*/runs/*backup.json")
        assert kept.stat().st_mode & 0o777 == 0o600
        kept.write_text("{")
        assert_tells(bench.run(capsys, *command.split()), 15, "There is no run")

    def test_damage_is_told_piece_by_piece(self, bench, verb):
        verb("backup")
        report = {"action": "verify", "damaged": [{"object": "ab12", "what": "is missing"}]}
        (volume(bench) / "break-Backup").write_text(f"25 {json.dumps(report)}")

        assert_tells(verb("backup", "verify"), 25, "- ab12: is missing")

    def test_what_failed_makes_it_unhealthy_until_that_ends_well(self, bench, verb):
        snapshot = all_well(verb)
        failing = {  # what fails, how, what is told of it, what makes it good
            "backup show": (
                f'25 {{"snapshot": "{snapshot}"}}',
                f"The last check of snapshot {snapshot}",
                "backup verify",
            ),
            "drill": ("1", "The last drill", "drill"),
            "backup prune --keep-last 1": ("25", "The last prune of the backups", "backup prune --keep-last 1"),
            "backup list": ("15", "The backups were not found", "backup list"),
            "backup": ("28", "The last backup", "backup"),
        }
        for words, (how, _, _) in failing.items():
            broken = volume(bench) / f"break-{words.split()[0].capitalize()}"
            broken.write_text(how)
            assert verb(*words.split()).code != 0
            broken.unlink()
        ill = verb("status")
        for _, _, mended_by in failing.values():
            assert verb(*mended_by.split()).code == 0
        well = verb("status")

        assert (ill.code, len(ill.data["problems"])) == (20, len(failing))
        for _, message, _ in failing.values():
            (problem,) = [text for text in ill.data["problems"] if text.startswith(message)]
            assert ": something broke in " in problem
        assert (well.code, well.data["problems"]) == (0, [])
        assert [told.data["backup"]["damaged"] for told in (ill, well)] == [True, False]

    def test_a_scheduled_drill_that_failed_is_told_of_and_so_is_a_backup_that_nobody_waited_for(
        self, bench, verb, owner
    ):
        all_well(verb)
        assert verb("drill", "--schedule", "0 6 * * 0").code == 0
        (job,) = [job for job in owner.get("jobs") if job["command"] == "Drill"]
        (volume(bench) / "break-Drill").write_text("1")
        owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])
        (volume(bench) / "gate-Backup").touch()
        assert verb("backup", "--wait", "1").code == 13
        (volume(bench) / "break-Backup").write_text("28")
        (volume(bench) / "gate-Backup").unlink()
        wait_for(lambda: all(r["state"] != "running" for r in owner.get("runs")), "the backup to end")

        told = verb("status").data

        assert {item["what"] for item in told["backup"]["failed"]} == {"backup", "drill"}
        assert len(told["problems"]) == 2
        for name in ("Backup", "Drill"):
            (volume(bench) / f"break-{name}").unlink()
            assert verb(name.lower()).code == 0
        assert verb("drill", "--remove-schedule").code == 0
        assert verb("status").data["problems"] == []

    def test_artifacts_outside_make_it_incomplete_and_say_where_they_are(self, bench, verb):
        report = {"action": "create", "outcome": "incomplete", "snapshot": "S9", "external": ["s3://theirs/models"]}
        (volume(bench) / "break-Backup").write_text(f"23 {json.dumps(report)}")

        left = verb("backup")

        assert_tells(left, 23, "s3://theirs/models", "Mend it")
        assert left.data["run"]["outcome"] == "incomplete"
        status = verb("status")
        assert any("outside" in text for text in status.data["warnings"])

    def test_artifacts_that_cannot_be_read_make_it_incomplete_and_are_named(self, bench, verb):
        names = ["1/r/artifacts/./x: its name cannot be addressed"]
        report = {"action": "create", "outcome": "incomplete", "snapshot": "S9", "external": [], "unreadable": names}
        (volume(bench) / "break-Backup").write_text(f"23 {json.dumps({**report, 'hint': ''})}")

        left = verb("backup")

        assert_tells(left, 23, "1/r/artifacts/./x", "Not in it: artifacts that cannot be read", "Rename")
        assert any("cannot be read" in text for text in verb("status").data["warnings"])

    def test_many_artifacts_that_are_gone_are_told_by_the_backup_and_by_status(self, bench, capsys, verb):
        report = {"action": "create", "outcome": "done", "error": None, "snapshot": "S9", "missing_artifacts": 1025}
        broken = volume(bench) / "break-Backup"
        broken.write_text(f"0 {json.dumps({**report, 'previous_artifacts': 1030})}")

        made = verb("backup")
        seen = verb("status").data
        broken.unlink()
        again = verb("backup", "create", "--allow-empty")

        message = "1,025 of the 1,030 artifacts of the snapshot before it are not in snapshot S9: are the database"
        assert (made.code, message in made.data["warnings"][0]) == (0, True)
        assert message in made.err
        assert any(message in text for text in seen["warnings"])
        assert seen["problems"] == []
        assert not any("1,025" in text for text in (*again.data["warnings"], *verb("status").data["warnings"]))
        assert calls(bench)[-1] == "Backup create --allow-empty"

    def test_a_release_without_the_command_is_told_before_anything_is_done(self, bench, capsys, verb, owner):
        old = make_snapshotting_release(bench.folder / "old.tar.gz", without=("Backup",))
        assert bench.install(capsys, "--release", str(old), "--replace").code == 0
        bench.forget_calls()

        refused = verb("backup")

        assert_tells(refused, 3, "no command `Backup`", "upgrade --release bundled")
        assert bench.writes() == []
        assert bench.install(capsys, "--replace").code == 0

    def test_without_an_installation_it_says_what_to_do(self, bench, verb):
        path = bench.configure("project: {name: another}\n")

        assert_tells(verb("backup", "--config", str(path)), 15, "no project `another`", "restore")


class TestTime:
    def test_one_that_takes_longer_goes_on_and_is_taken_up_by_the_next_call(self, bench, verb, owner):
        gate = volume(bench) / "gate-Backup"
        gate.touch()

        late = verb("backup", "--wait", "1")
        jobs = [job["id"] for job in owner.get("jobs") if "backup" in job["name"]]
        bench.forget_calls()
        with bench.spawn("backup", "--sandbox", "--json") as process:
            wait_for(lambda: [c for c in bench.calls() if c["path"].endswith("/logs")][1:], "the run to be looked at")
            assert [job["id"] for job in owner.get("jobs") if "backup" in job["name"]] == jobs
            gate.unlink()
            out, err = process.communicate(timeout=60)

        assert_tells(late, 13, "goes on at the platform")
        assert process.returncode == 0, err
        assert json.loads(out)["run"]["passed"] is True
        assert calls(bench) == ["Backup create"]

    def test_one_that_was_interrupted_is_stopped_and_the_next_is_a_new_one(self, bench, verb, owner):
        gate = volume(bench) / "gate-Backup"
        gate.touch()
        with bench.spawn("backup", "--sandbox", "--json") as process:
            wait_for(lambda: calls(bench), "the job to begin")
            process.send_signal(2)
            process.communicate(timeout=60)
        gate.unlink()

        assert process.returncode == 130
        assert [job["name"] for job in owner.get("jobs") if "backup" in job["name"]] == []
        assert verb("backup").code == 0


class TestPlace:
    def test_credentials_of_the_place_go_into_a_secret_and_nowhere_else(self, bench, capsys, verb, owner, monkeypatch):
        monkeypatch.setenv("BACKUPS", SECRET_PLACE)
        path = bench.configure("backup: {destination: 'data/b'}\n")
        told = []
        for place in ("env:BACKUPS", "data/b"):
            path.write_text(f"backup: {{destination: '{place}'}}\n")
            told.append(bench.run(capsys, "backup", "--sandbox", "--config", str(path)))

        # on the sandbox a reference is set aside: it may lead to a real place
        assert "Ignored on the sandbox" in told[0].err
        assert "MLFLOW_TRACKING_BACKUP_DESTINATION" in owner.get("credentials/user")["data"]
        assert "a place given by a secret" in told[1].out
        assert all("planted" not in outcome.out + outcome.err for outcome in told)
        assert "planted" not in json.dumps(bench.calls())

    def test_backups_that_began_anew_are_told_until_the_former_are_back_or_are_given_up(self, bench, verb):
        def at(place, *words):
            report = {"outcome": "done", "error": None, "repository": place}
            report |= (
                {"action": "list", "snapshots": [{}] * 12} if "list" in words else {"action": "create", "snapshot": "S"}
            )
            (volume(bench) / "break-Backup").write_text(f"0 {json.dumps({**report, 'snapshot_count': 12})}")
            done = verb("backup", *words)
            assert done.code == 0, done.err
            message = [
                text for text in done.data["warnings"] if "12 earlier snapshots known here are not there" in text
            ]
            assert message == [text for text in message if text in done.err]
            status = verb("status").data
            assert status["problems"] == message
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
    def test_exactly_one_job_and_what_install_makes_of_it(self, bench, capsys, verb, owner):
        told = bench.run(capsys, "backup", "--sandbox", "--schedule", "30 2 * * *")
        again = verb("backup", "--schedule", "30 2 * * *")
        (job,) = [job for job in owner.get("jobs") if job["command"] == "Backup"]
        changed = verb("backup", "--schedule", "30 3 * * *")

        assert told.code == 0, told.err
        assert "At 02:30" in told.out or "at 02:30" in told.out
        assert "schedule: '30 2 * * *'" in told.out
        assert again.data["outcome"] == "unchanged"
        assert (job["schedule"], job["variables"]) == ("30 2 * * *", {})
        assert [c["change"] for c in changed.data["changes"]] == ["delete_job", "create_job"]
        config = bench.configure("backup:\n  schedule: 0 1 * * *\n  drill_schedule: 0 5 * * 0\n")
        installed = bench.install(capsys, "--config", str(config))
        assert installed.code == 0, installed.err
        found = {job["command"]: job["schedule"] for job in owner.get("jobs")}
        assert found == {"Backup": "0 1 * * *", "Drill": "0 5 * * 0", "GarbageCollection": "*/10 * * * *"}
        removed = [verb("backup", "--remove-schedule"), verb("drill", "--remove-schedule")]
        assert [outcome.data["outcome"] for outcome in removed] == ["removed", "removed"]
        assert verb("backup", "--remove-schedule").data["outcome"] == "unchanged"
        assert [job["command"] for job in owner.get("jobs")] == ["GarbageCollection"]

    def test_a_paused_one_that_install_makes_anew_is_paused_again_and_the_collection_goes_on(
        self, bench, capsys, verb, owner
    ):
        def jobs():
            return {job["command"]: job for job in owner.get("jobs")}

        assert verb("backup", "--schedule", "30 2 * * *").code == 0
        previous = jobs()
        owner.post(f"jobs/{previous['Backup']['id']}/pause")
        config = ["--config", str(bench.configure("backup:\n  schedule: 0 1 * * *\n  drill_schedule: 0 5 * * 0\n"))]
        bench.control("POST", "/faults", {"method": "POST", "path": "/pause$", "skip": 1, "times": None, "status": 500})
        try:
            cut_off = bench.install(capsys, *config)  # made anew, and not paused yet
        finally:
            bench.control("DELETE", "/faults")
        assert cut_off.code != 0
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
        assert "is paused: the backup rests until" in warning
        assert bench.install(capsys, *config).data["outcome"] == "unchanged"

        plain = verb("backup", "--schedule", "45 2 * * *")
        assert jobs()["Backup"]["state"] == "scheduled"
        assert plain.data["warnings"] == ["The former job was paused; the new one is not."]
        assert [verb(name, "--remove-schedule").code for name in ("backup", "drill")] == [0, 0]

    def test_what_was_paused_is_paused_after_the_project_was_replaced(self, bench, capsys, verb, owner):
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
        assert [len(told.data["stages"][13]["warnings"]) for told in (planned, done)] == [2, 2]
        assert [job["state"] for job in owner.get("jobs")] == ["paused", "paused"]
        assert bench.install(capsys, *other, *config).data["outcome"] == "unchanged"
        for job in owner.get("jobs"):
            owner.post(f"jobs/{job['id']}/unpause")
        assert bench.install(capsys, "--replace", "--release", str(previous), *config).code == 0
        assert [job["state"] for job in owner.get("jobs")] == ["scheduled", "scheduled"]
        assert verb("backup", "--remove-schedule").code == 0

    def test_the_drill_has_a_schedule_of_its_own(self, verb, owner):
        assert verb("drill", "--schedule", "0 6 * * 0").code == 0
        assert {job["command"] for job in owner.get("jobs")} == {"Drill", "GarbageCollection"}
        assert verb("drill", "--remove-schedule").data["outcome"] == "removed"


WRONG = [
    (["backup", "list", "--all"], "--all goes with `backup verify`"),
    (["backup", "--sample", "1%"], "--sample goes with"),
    (["backup", "show", "--new-repository"], "--new-repository goes with `backup create` and `backup list`"),
    (["backup", "verify", "--sample", "1"], "such as 1%"),
    (["backup", "verify", "--sample", "1%", "--all"], "exclude each other"),
    (["backup", "show", "--snapshot=--undo"], "the id of a snapshot"),
    (["backup", "--schedule", "0 1 * * *", "--remove-schedule"], "exclude each other"),
    (["backup", "everything"], "everything"),
    (["drill", "--snapshot", "latest", "--schedule", "0 1 * * *"], "exclude each other"),
    (["restore", "--undo", "--replace"], "--undo goes with none of"),
    (["restore", "--dry-run", "--stop-server"], "stops no server"),
    (["restore", "--saved", "kept_1"], "--saved names what --undo brings back"),
    (["restore", "--undo", "--saved", "../x"], "--saved takes the name of what a restore kept aside"),
    (["restore", "--list-saved", "--saved", "x"], "restore nothing"),
    (["install", "--restore", "../x"], "the id of a snapshot"),
]


@pytest.mark.parametrize(("words", "told"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_told_before_anything_is_done(bench, capsys, words, told):
    bench.forget_calls()

    refused = bench.run(capsys, *words, "--sandbox", "--json")

    assert refused.code == 2, refused.err
    assert told in refused.err
    assert bench.calls() == []
