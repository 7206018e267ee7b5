"""`upgrade` through `main(argv)`, between two releases of which the second wants another schema.

Every test begins with the first release installed on its schema, with data, a scheduled backup and a guest.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from mlflow_ae5_deploy.engine.records import UpgradeRecord
from tests.cli.answers import assert_error, errors_of
from tests.cli.rotating import opens, running, state_file, stored, volume
from tests.cli.snapshotting import make_snapshotting_release
from tests.sandbox.support import wait_for

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = "schema-1\nbefore\n"
AFTER = "schema-2\nbefore\n"
GC, BACKUP = "GarbageCollection", "Backup"
EDITED = {"MLFLOW_TRACKING_DRILL_ARGUMENTS": "--snapshot 'latest"}
PAUSED = [(BACKUP, "paused"), (BACKUP, "paused"), ("Drill", "paused"), (GC, "paused")]


@pytest.fixture
def site(bench, capsys):
    if not hasattr(bench, "first"):
        bench.first = bench.release = make_snapshotting_release(bench.folder / "first.tar.gz")
        bench.second = make_snapshotting_release(bench.folder / "second.tar.gz", schema="schema-2", version="3.18.0")
        (bench.folder / "mlflow-ae5-deploy.yaml").write_text(
            "platform:\n  lost_answer_deadline: 0.5\n  deployment_deadline: 8\nbackup:\n  schedule: 0 2 * * *\n"
        )
    bench.control("DELETE", "/faults")
    for pattern in ("break-*", "gate-*", "calls", "kept"):
        for file in volume(bench).glob(pattern):
            file.unlink()
    if (volume(bench) / "db").exists():
        (volume(bench) / "db").write_text(BEFORE)
    state_of_upgrade(bench, None)
    found = bench.install(capsys)  # after most tests it is as it was
    if found.code != 0 or found.data["outcome"] != "unchanged":
        assert bench.install(capsys, "--replace").code == 0
    (volume(bench) / "db").write_text(BEFORE)
    assert bench.run(capsys, "share", "--sandbox", "--user", "dev-user").code == 0
    return bench


def state_of_upgrade(bench, value):
    found = list((bench.folder / "state").glob("localhost*/state.json"))
    if found:
        data = json.loads(found[0].read_text())
        found[0].write_text(json.dumps({**data, "upgrade": value}))


def upgrade(bench, capsys, *argv, release=None):
    return bench.run(capsys, "upgrade", "--sandbox", "--json", "--release", str(release or bench.second), *argv)


def data(bench) -> str:
    return (volume(bench) / "db").read_text()


def pending(bench):
    return json.loads(state_file(bench).read_text())["upgrade"]


def snapshots(bench) -> list[str]:
    found = [file.name for file in (volume(bench) / "backups").iterdir()]
    return sorted(found, key=lambda name: (len(name), name))


def calls(bench) -> list[str]:
    file = volume(bench) / "calls"
    return file.read_text().splitlines() if file.exists() else []


def projects(bench) -> list[str]:
    return sorted(p["name"] for p in bench.owner().get("projects") if p["owner"] == "mlflow-service")


def assert_serves(bench):
    """One server, one gc job, one backup job, shared as before; its stored token opens it; nothing is left over."""
    owner, deployment = bench.owner(), running(bench)
    assert deployment["state"] == "started"
    assert sorted(job["command"] for job in owner.get("jobs")) == [BACKUP, GC]
    assert projects(bench) == ["mlflow.tracking.server"]
    shared = {c["id"] for c in owner.get(f"deployments/{deployment['id']}/collaborators")}
    assert {"everyone", "dev-user"} <= shared
    assert opens(bench, stored(bench)) == 200


def assert_is_first(bench, capsys):
    assert data(bench) == BEFORE
    assert_serves(bench)
    again = bench.install(capsys)
    assert (again.code, again.data["outcome"]) == (0, "unchanged"), again.out


class TestForward:
    def test_the_new_release_serves_the_old_data_and_what_belongs_to_it_is_there(self, site, capsys):
        before = running(site)["id"]

        done = upgrade(site, capsys, "--yes")

        assert done.code == 0, done.err
        shown = done.data
        assert shown["outcome"] == "upgraded"
        assert shown["changes"]["mlflow"] == {"from": "3.17.2", "to": "3.18.0"}
        assert shown["rehearsal"]["migrations"] == [{"revision": "schema-2", "what": "to schema-2"}]
        assert (shown["migration"]["revision"], shown["migration"]["new_revision"]) == ("schema-1", "schema-2")
        assert all(check["passed"] for check in shown["checks"])
        assert data(site) == AFTER
        assert running(site)["id"] != before
        assert_serves(site)
        order = [line.split(" --snapshot")[0] for line in calls(site)]
        assert order == [
            "DatabaseUpgrade",
            "Backup create --allow-external",
            "Backup verify",
            "Backup create --allow-external",
            "Backup verify",
            "DatabaseUpgrade",
        ]
        again = upgrade(site, capsys, "--yes")
        assert (again.code, again.data["outcome"]) == (0, "unchanged")

    def test_what_its_jobs_warn_of_is_shown_once(self, site, capsys):
        (volume(site) / "warnings").write_text("the rows could not be checked\n")
        (volume(site) / "external").write_text("s3://theirs/models")

        done = upgrade(site, capsys, "--yes", "--no-rehearsal")
        (volume(site) / "warnings").unlink()
        (volume(site) / "external").unlink()

        assert done.code == 0, done.err
        expected = [
            "The rows could not be checked.",
            *(f"Not in snapshot {name}: s3://theirs/models." for name in snapshots(site)[-2:]),
        ]
        assert [text for text in done.data["warnings"] if text in expected] == expected
        for text in done.data["warnings"]:
            assert done.err.count(f"! {text}") == 1

    def test_a_refused_upgrade_names_its_changes_in_the_document(self, site, capsys):
        config = site.configure("backup: {schedule: 0 2 * * *}\nserver: {gc_ttl: 7d}\n")
        refused = upgrade(site, capsys, "--no-rehearsal")
        both = upgrade(site, capsys, "--no-rehearsal", "--config", str(config))

        assert_error(refused, 14, "Not confirmed: upgrade project", "--yes")
        (change,) = refused.data["changes"]
        assert change["phrase"] in refused.data["error"]["what"]
        assert {item["impact"] for item in change["consequences"]} >= {"downtime", "tokens", "data"}
        assert_error(both, 14, "Not confirmed: 2 changes", "--yes")
        assert "more than 7d ago is purged" in both.err  # not only once the server is down

    def test_a_release_that_is_not_configured_is_told_until_install_reverts_it(self, site, capsys):
        assert upgrade(site, capsys, "--yes").code == 0

        text = site.run(capsys, "upgrade", "--sandbox", "--release", str(site.second)).out
        seen = site.run(capsys, "status", "--sandbox", "--json").data
        kept = site.run(capsys, "status", "--sandbox", "--json", "--release", str(site.second)).data
        plan = site.run(capsys, "plan", "--sandbox")

        words = " ".join(text.split())
        assert (
            f"the next install without --release will revert it: release.source: bundled → {site.second} To keep it"
            in words
        )
        assert f"  release:\n    source: '{site.second}'\n" in text
        (problem,) = [problem for problem in seen["problems"] if problem["code"] == "release-differs"]
        assert (problem["severity"], "second.tar.gz → bundled" in problem["message"]) == ("warning", True)
        assert [row["name"] for row in seen["drift"]] == ["upload"]  # nothing else differs now
        assert "release-differs" not in {problem["code"] for problem in kept["problems"]}
        config = site.configure("consumers: [{username: dev-user, password: 'env:NOT_SET_HERE'}]\n")
        elsewhere = site.run(capsys, "status", "--sandbox", "--json", "--config", str(config)).data
        assert "release-differs" in {problem["code"] for problem in elsewhere["problems"]}
        assert "The installed release would be replaced: second.tar.gz → bundled" in " ".join(plan.out.split())
        assert "upgrade --sandbox   # replace the release, with automatic rollback" in plan.out
        assert "start deployment dev.mlflow.tracking.server: the replacement of the project requires it" in plan.out
        assert "issue a token: the replacement of the project requires it" in plan.out
        for false in ("not running", "it does not exist", "no valid one stored", "not shared yet"):
            assert false not in plan.out

    def test_what_was_paused_stays_paused_forward_and_back(self, site, capsys):
        """Also a drill and a check that the configuration does not know, with arguments that no shell parses."""
        owner = site.owner()
        assert site.run(capsys, "drill", "schedule", "0 6 * * 0", "--sandbox").code == 0
        assert site.run(capsys, "backup", "schedule", "--verify", "0 4 * * 6", "--sandbox").code == 0
        for job in owner.get("jobs"):
            owner.post(f"jobs/{job['id']}/pause")
            if job["command"] == "Drill":
                assert owner.call("PATCH", f"jobs/{job['id']}", json={"variables": EDITED}).status_code == 200
        before = {job["id"] for job in owner.get("jobs")}
        (volume(site) / "break-server-schema-2").touch()
        (volume(site) / "warnings").write_text("the rows could not be checked\n")

        back = upgrade(site, capsys, "--yes")
        (volume(site) / "warnings").unlink()

        assert_error(back, 29, "Rolled back to release first.tar.gz: data and endpoint", "verified")
        assert re.search(r"verified\. Downtime \d+ s\. All earlier tokens are invalid\.", " ".join(back.err.split()))
        assert "tests the migration on a copy, not the start of the server" in " ".join(back.err.split())
        assert "the server cannot start" in back.err
        assert back.data["warnings"].count("The rows could not be checked.") == 1
        assert "continues" not in back.err
        assert data(site) == BEFORE
        jobs = owner.get("jobs")
        assert sorted((job["command"], job["state"]) for job in jobs) == PAUSED
        assert not before & {job["id"] for job in jobs}
        (volume(site) / "break-server-schema-2").unlink()
        assert upgrade(site, capsys, "--yes").code == 0
        assert sorted((job["command"], job["state"]) for job in owner.get("jobs")) == PAUSED
        variables = [job["variables"] for job in owner.get("jobs")]
        assert {"MLFLOW_TRACKING_BACKUP_ARGUMENTS": "verify"} in variables
        assert EDITED in variables
        assert site.run(capsys, "drill", "schedule", "--remove", "--sandbox").code == 0
        assert site.run(capsys, "backup", "schedule", "--verify", "--remove", "--sandbox").code == 0
        for job in owner.get("jobs"):
            owner.post(f"jobs/{job['id']}/unpause")

    def test_a_person_sees_the_changes_and_the_question(self, site, capsys):
        before = running(site)["id"]

        shown = site.run(capsys, "upgrade", "--sandbox", "--release", str(site.second))

        assert_error(shown, 14, "Not confirmed", "--yes")
        assert "MLflow    3.17.2 → 3.18.0" in shown.out
        assert "Schema    schema-1 → schema-2 (1 migration, 0.2 s on a copy)" in shown.out
        assert "the migration (0.2 s on a copy) and the start" in shown.err
        assert "all tokens are invalidated" in shown.err
        assert running(site)["id"] == before
        assert_is_first(site, capsys)

    def test_rehearsing_changes_nothing_and_leaves_nothing(self, site, capsys):
        before = running(site)["id"]

        done = upgrade(site, capsys, "--rehearse")
        history = site.run(capsys, "history", "--sandbox", "--limit", "1", "--json").data["entries"]

        assert done.code == 0, done.err
        assert [entry["verb"] for entry in history] == ["upgrade --rehearse"]
        assert done.data["outcome"] == "rehearsed"
        assert done.data["rehearsal"]["expected_revision"] == "schema-2"
        assert calls(site) == ["DatabaseUpgrade"]
        assert running(site)["id"] == before
        assert site.owner().get("runs") == []
        assert_is_first(site, capsys)

    def test_a_release_that_cannot_rehearse_is_refused(self, site, capsys):
        blunt = make_snapshotting_release(site.folder / "blunt.tar.gz", schema="schema-2", rehearses=False)

        for options in (["--rehearse"], ["--yes"]):
            refused = upgrade(site, capsys, *options, release=blunt)

            assert_error(refused, 14, "would migrate the real database", "--no-rehearsal")
        assert calls(site) == []
        assert upgrade(site, capsys, "--no-rehearsal", "--yes", release=blunt).code == 0
        assert data(site) == AFTER

    def test_an_installed_release_that_cannot_back_up_is_backed_up_by_the_new_one(self, site, capsys):
        old = make_snapshotting_release(site.folder / "bare.tar.gz", without=("Backup", "Restore", "DatabaseUpgrade"))
        config = site.configure("platform:\n  lost_answer_deadline: 0.5\n")
        assert site.install(capsys, "--config", str(config), "--release", str(old), "--replace").code == 0

        done = upgrade(site, capsys, "--yes", "--config", str(config))

        assert done.code == 0, done.err
        assert data(site) == AFTER
        assert projects(site) == ["mlflow.tracking.server"]

    def test_a_release_that_was_put_on_a_database_of_another_schema_is_helped(self, site, capsys):
        stuck = site.install(capsys, "--release", str(site.second), "--replace")
        (project,) = [p["id"] for p in site.owner().get("projects") if p["owner"] == "mlflow-service"]

        done = upgrade(site, capsys, "--yes")

        assert stuck.code == 20, stuck.err
        assert done.code == 0, done.err
        assert data(site) == AFTER
        assert [p["id"] for p in site.owner().get("projects") if p["owner"] == "mlflow-service"] == [project]

    def test_a_new_release_without_a_way_back_is_refused(self, site, capsys):
        for command in ("Backup", "Restore", "DatabaseUpgrade"):
            poor = make_snapshotting_release(site.folder / "poor.tar.gz", schema="schema-2", without=(command,))

            refused = upgrade(site, capsys, "--yes", release=poor)

            assert_error(refused, 3, f"no command `{command}`", "install --replace")
        assert calls(site) == []

    def test_a_gc_profile_that_the_platform_lacks_is_refused_before_anything_stops(self, site, capsys):
        config, before = site.configure("gc:\n  resource_profile: nosuch\n"), running(site)["id"]

        refused = upgrade(site, capsys, "--yes", "--config", str(config))

        assert_error(refused, 3, "no resource profile `nosuch`", "Use one of")
        assert refused.data["error"]["where"] == "gc.resource_profile"
        assert (running(site)["id"], calls(site), pending(site)) == (before, [], None)

    def test_a_token_file_without_a_folder_is_refused_before_anything_stops(self, site, capsys):
        config, before = site.configure("consumers: [file: no-folder/token]\n"), running(site)["id"]

        refused = upgrade(site, capsys, "--yes", "--config", str(config))

        assert_error(refused, 3, "Cannot write the token file: its folder does not exist", "Create the folder")
        assert (running(site)["id"], calls(site), pending(site)) == (before, [], None)

    def test_a_consumer_that_cannot_sign_in_is_named_and_rolls_nothing_back(self, site, capsys):
        config = site.configure("consumers: [username: nobody-here]\n")

        partly = upgrade(site, capsys, "--yes", "--config", str(config))

        assert_error(partly, 23, "The token is not stored for nobody-here", "rotate-token")
        assert pending(site) is None
        assert upgrade(site, capsys, "--yes").data["outcome"] == "unchanged"


class TestBack:
    def test_a_failure_after_the_data_was_touched_brings_everything_back(self, site, capsys):
        """A server that does not start on what was upgraded: see `test_what_was_paused`."""
        (volume(site) / "break-after-upgrade").touch()

        failed = upgrade(site, capsys, "--yes")

        assert_error(failed, 29, "are as before", "verified", "the last migration failed")
        (run,) = re.findall(r"`logs --run (\S+) --lines 0 --sandbox`", failed.err)
        assert "Restore the backup" not in failed.err
        log = site.run(capsys, "logs", "--run", run, "--lines", "0", "--sandbox")
        assert "DatabaseUpgrade starts" in log.out
        assert any(line.startswith("Restore --snapshot") and "--replace --no-upgrade" in line for line in calls(site))
        assert_is_first(site, capsys)

    def test_a_release_that_cannot_keep_artifacts_restores_them(self, site, capsys):
        (volume(site) / "break-option").write_text("--same-artifacts")
        (volume(site) / "break-after-upgrade").touch()

        failed = upgrade(site, capsys, "--yes")

        assert_error(failed, 29, "are as before", "verified", "the last migration failed")
        restores = [line.partition("--replace")[2] for line in calls(site) if line.startswith("Restore --snapshot")]
        assert restores == [" --no-upgrade --same-artifacts", " --no-upgrade"]
        assert_is_first(site, capsys)

    def test_a_failure_before_that_restores_nothing(self, site, capsys):
        site.control(
            "POST", "/faults", {"method": "POST", "path": "/projects/upload$", "skip": 1, "times": 1, "status": 400}
        )

        failed = upgrade(site, capsys, "--yes")

        assert_error(failed, 29, "are as before")
        assert not any(line.startswith("Restore") for line in calls(site))
        assert_is_first(site, capsys)

    @pytest.mark.parametrize(
        ("ended", "restores"),
        [
            ("3", True),
            ('10 {"touched": true}', True),
            ('22 {"touched": false}', False),
            ("kill", True),
        ],
    )
    def test_only_a_migration_that_says_so_itself_has_touched_nothing(self, site, capsys, ended, restores):
        (volume(site) / "break-DatabaseUpgrade").write_text(ended)

        failed = upgrade(site, capsys, "--yes", "--no-rehearsal")

        assert_error(failed, 29, "are as before")
        assert "ix it" not in failed.err, "the job's advice is for a run that goes on"
        assert any(line.startswith("Restore --snapshot") for line in calls(site)) == restores
        assert_is_first(site, capsys)

    def test_a_backup_that_fails_leaves_the_server_alone(self, site, capsys):
        before = running(site)["id"]
        (volume(site) / "break-Backup").write_text("28")

        failed = upgrade(site, capsys, "--yes")

        assert_error(failed, 28, "The backup failed")
        assert running(site)["id"] == before
        assert_is_first(site, capsys)

    def test_a_failed_rollback_has_its_own_code_and_can_be_repeated(self, site, capsys):
        (volume(site) / "break-after-upgrade").touch()
        (volume(site) / "break-Restore").write_text("28")

        failed = upgrade(site, capsys, "--yes")
        status = site.run(capsys, "status", "--sandbox", "--json")
        forward = upgrade(site, capsys, "--yes")
        (volume(site) / "break-Restore").unlink()
        back = upgrade(site, capsys, "--roll-back", "--yes")
        nothing = upgrade(site, capsys, "--roll-back", "--yes")
        history = site.run(capsys, "history", "--sandbox", "--limit", "2", "--json").data["entries"]

        assert [(entry["verb"], entry["outcome"]) for entry in history] == [
            ("upgrade --roll-back", "NotFound"),
            ("upgrade --roll-back", "done"),
        ]
        assert_error(failed, 31, "the last migration failed", "something broke in Restore", "upgrade --roll-back")
        assert_error(failed, 31, f"The previous data is in snapshot {snapshots(site)[-1]}")
        assert_error(forward, 14, "its rollback has not finished", "upgrade --roll-back")
        assert any("upgrade --roll-back" in text for text in errors_of(status.data))
        assert (back.code, back.data["outcome"]) == (0, "rolled back"), back.err
        assert_is_first(site, capsys)
        assert_error(nothing, 15, "No unfinished upgrade is recorded")

    def test_a_rollback_without_a_previous_server_ends_although_its_scheduled_jobs_cannot_be_created(
        self, site, capsys
    ):
        assert site.owner().call("DELETE", f"deployments/{running(site)['id']}").status_code < 300
        (volume(site) / "break-after-upgrade").touch()
        jobs = {"method": "POST", "path": "/jobs$", "skip": 7, "times": 20, "status": 400}  # those of the upgrade pass
        site.control("POST", "/faults", jobs)

        failed = upgrade(site, capsys, "--yes", "--no-rehearsal")

        assert_error(failed, 29, "data as before. No server ran before")
        assert "The scheduled jobs are not as before: The platform refused" in failed.err
        assert (data(site), pending(site)) == (BEFORE, None)

    def test_the_previous_release_restores_where_no_job_of_the_new_one_runs(self, site, capsys):
        dead = make_snapshotting_release(site.folder / "dead.tar.gz", schema="schema-2", jobs_run=False)

        failed = upgrade(site, capsys, "--yes", "--no-rehearsal", release=dead)
        (volume(site) / "break-Restore").write_text("28")
        stuck = upgrade(site, capsys, "--yes", "--no-rehearsal", release=dead)
        (volume(site) / "break-Restore").unlink()
        (project,) = [p["id"] for p in site.owner().get("projects") if p["owner"] == "mlflow-service"]
        assert site.owner().call("DELETE", f"projects/{project}").status_code == 200  # as one killed between leaves it
        archive = Path(pending(site)["archive"])
        away = archive.rename(archive.with_suffix(".away"))
        nothing = upgrade(site, capsys, "--roll-back", "--yes")
        away.rename(archive)
        back = upgrade(site, capsys, "--roll-back", "--yes")

        assert_error(nothing, 31, "was not started: Nothing can restore the data", "is no longer on this machine")
        assert_error(failed, 29, "its log has no report", "are as before", "restore --list-saved")
        assert_error(stuck, 31, "something broke in Restore", "upgrade --roll-back", "backup list")
        assert "data is in snapshot" not in stuck.err
        assert back.code == 0, back.err
        assert_is_first(site, capsys)


class TestInterrupted:
    def kill(self, site, *, at: str, options: tuple[str, ...] = ("--yes", "--no-rehearsal")):
        gate = volume(site) / f"gate-{at}"
        gate.touch()
        with site.spawn("upgrade", "--sandbox", "--json", *options, "--release", str(site.second)) as process:
            wait_for(lambda: [line for line in calls(site) if line.startswith(at)], "the job to begin")
            process.kill()
        gate.unlink()

    def test_killed_while_migrating_the_next_call_goes_on(self, site, capsys):
        self.kill(site, at="DatabaseUpgrade")
        other = make_snapshotting_release(site.folder / "third.tar.gz", schema="schema-3")

        elsewhere = upgrade(site, capsys, "--yes", release=other)
        state = site.state_folder / "state.json"
        saved = json.loads(state.read_text())
        stopped = datetime.fromisoformat(saved["upgrade"]["stopped"])
        saved["upgrade"]["stopped"] = (stopped - timedelta(hours=1)).isoformat()
        state.write_text(json.dumps(saved))
        done = upgrade(site, capsys, "--yes")

        assert done.data["downtime_seconds"] > 3600, "since the stop by the first run"
        assert_error(elsewhere, 14, "was interrupted: to release second.tar.gz (migrating)", "upgrade --roll-back")
        assert (done.code, done.data["outcome"]) == (0, "upgraded"), done.err
        assert data(site) == AFTER
        assert_serves(site)

    def test_killed_while_migrating_it_can_be_taken_back(self, site, capsys):
        self.kill(site, at="DatabaseUpgrade")

        declined = upgrade(site, capsys, "--roll-back")
        back = site.run(capsys, "upgrade", "--sandbox", "--roll-back", "--yes")

        assert_error(declined, 14, "Not confirmed: roll back to release first.tar.gz", "--yes")
        assert "moved to a saved copy" in declined.err
        assert "restore --list-saved" in declined.err
        assert back.code == 0, back.err
        assert "! Roll back to release first.tar.gz" in back.err
        assert "is saved as kept-1: `restore --list-saved --sandbox` names it" in back.out
        assert_is_first(site, capsys)
        assert pending(site) is None

    def test_until_it_has_ended_no_snapshot_is_made_or_removed_and_no_server_started(self, site, capsys):
        self.kill(site, at="DatabaseUpgrade")
        before = snapshots(site)
        prune = ("prune", "--keep-last", "1")
        changing = [(), prune, (*prune, "--yes"), ("prune", "--drop-damaged", before[0], "--yes")]
        site.forget_calls()

        refused = [site.run(capsys, "backup", *words, "--sandbox", "--json") for words in changing]
        installs = [site.install(capsys, "--replace"), site.run(capsys, "restore", "--sandbox", "--undo", "--yes")]
        planned = site.run(capsys, "plan", "--sandbox", "--release", str(site.second))
        written = site.writes()
        looked = [site.run(capsys, "backup", action, "--sandbox").code for action in ("list", "show", "verify")]

        for outcome in refused:
            assert_error(
                outcome, 22, "release second.tar.gz was interrupted", "upgrade --release", "upgrade --roll-back"
            )
        for outcome in (*installs, planned):
            assert outcome.code == 20
            assert "the database may be partly migrated, so no server is started on it" in outcome.err
            assert "upgrade --roll-back" in outcome.err
        assert written == []
        assert looked == [0, 0, 0]
        assert snapshots(site) == before

    def test_a_snapshot_that_is_gone_is_missed_before_anything_is_moved(self, site, capsys):
        self.kill(site, at="DatabaseUpgrade")
        away = (volume(site) / "backups").rename(volume(site) / "elsewhere")
        site.forget_calls()

        back = upgrade(site, capsys, "--roll-back", "--yes")
        moved = [path for path in site.writes() if "deployments" in path or "projects" in path]
        (volume(site) / "backups").rmdir() if (volume(site) / "backups").exists() else None
        away.rename(volume(site) / "backups")
        again = upgrade(site, capsys, "--roll-back", "--yes")

        assert_error(
            back, 31, "The rollback was not started: Snapshot", "is not in the backup repository", "backup list"
        )
        assert "data is in snapshot" not in back.err
        assert [path for path in moved if not path.endswith("/jobs")] == []
        assert again.code == 0, again.err
        assert_is_first(site, capsys)

    def test_where_nothing_was_touched_install_may_go_on_and_the_upgrade_begins_again(self, site, capsys):
        names = ("release second.tar.gz", "1.0.0", "a0-1", "/kept")
        record = UpgradeRecord("d", *names, "replacing", WHEN, snapshot="s", options="--release second.tar.gz")
        state_of_upgrade(site, TypeAdapter(UpgradeRecord).dump_python(record, mode="json"))
        record = pending(site)
        unchanged = site.install(capsys)
        over = ("--replace", "--stop-server", "--release", str(site.second), "--json")
        declined = site.run(capsys, "restore", "--sandbox", *over)
        before = pending(site)
        site.owner().call("DELETE", f"deployments/{running(site)['id']}")
        replacing = site.run(capsys, "install", "--sandbox", "--release", str(site.second))
        started = site.install(capsys)

        assert replacing.code == 14, replacing.err
        assert "stays unfinished: `upgrade --release second.tar.gz --sandbox` finishes it" in replacing.err
        assert "the server is down" not in replacing.err, "none runs"
        assert (unchanged.code, started.code) == (0, 0), unchanged.err + started.err
        assert before == record
        assert (declined.code, declined.data["outcome"]) == (14, "failed"), declined.err
        assert "Re-run with --yes to confirm." in declined.data["error"]["remedy"]
        assert "the interrupted upgrade to release second.tar.gz is given up" in declined.err
        assert (
            "`upgrade --release second.tar.gz --sandbox` finishes it, `upgrade --roll-back --sandbox`" in declined.err
        )
        (warning,) = unchanged.data["stages"][5]["warnings"]
        assert "was interrupted; it has left the database unchanged." in warning
        assert pending(site) == {**record, "phase": "stopping", "snapshot": None}

    def test_a_restore_ends_an_interrupted_upgrade(self, site, capsys):
        self.kill(site, at="DatabaseUpgrade")
        there = ("--snapshot", snapshots(site)[-1], "--release", str(site.first), "--replace", "--stop-server", "--yes")

        done = site.run(capsys, "restore", "--sandbox", *there)

        assert done.code == 0, done.err
        assert pending(site) is None
        assert data(site) == BEFORE

    @pytest.mark.parametrize("verb", ["upgrade", "uninstall"])
    def test_the_project_of_a_killed_rehearsal_is_deleted(self, site, capsys, verb):
        self.kill(site, at="DatabaseUpgrade", options=("--rehearse",))
        left = projects(site)

        done = (
            upgrade(site, capsys, "--rehearse")
            if verb == "upgrade"
            else site.run(capsys, "uninstall", "--sandbox", "--yes")
        )

        assert left == ["mlflow.tracking.server", "mlflow.tracking.server.rehearsal"]
        assert done.code == 0, done.err
        assert projects(site) == (["mlflow.tracking.server"] if verb == "upgrade" else [])

    def test_a_lost_answer_to_the_removal_of_the_project_ends_upgraded_or_back(self, site, capsys):
        """Other requests: see tests/convergence."""
        site.control("POST", "/faults", {"method": "DELETE", "path": "/projects/", "times": 1, "drop": "after"})

        done = upgrade(site, capsys, "--yes", "--no-rehearsal")

        assert done.code in (0, 29), done.err
        if done.code == 0:
            assert data(site) == AFTER
            assert_serves(site)
        else:
            assert_is_first(site, capsys)
