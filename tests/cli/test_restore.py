"""`restore` and `install --restore` through `main(argv)`, on a release whose commands restore a file.

Every test starts with a snapshot of the data `before`, and without a server.
"""

from __future__ import annotations

import json
import re
import signal

import pytest

from tests.cli.answers import assert_error, errors_of
from tests.cli.rotating import state_file, volume
from tests.cli.snapshotting import make_snapshotting_release
from tests.sandbox.support import wait_for

INSTALL_HEADLINES = ("is installed.", "Unchanged: all")
STAGES = [(7, "changed"), (8, "changed"), (13, "changed"), (14, "changed")]


@pytest.fixture
def site(bench, capsys):
    """A snapshot of `before`; nothing is installed, no data is left."""
    if bench.release.name != "snapshotting.tar.gz":
        bench.release = make_snapshotting_release(bench.folder / "snapshotting.tar.gz")
    for pattern in ("break-*", "gate-*", "calls", "kept"):
        for file in volume(bench).glob(pattern):
            file.unlink()
    bench.control("DELETE", "/faults")
    if not (volume(bench) / "backups").exists():
        assert bench.install(capsys).code == 0
        (volume(bench) / "db").write_text("schema-1\nbefore\n")
        assert bench.run(capsys, "backup", "--sandbox").code == 0
    gone(bench, capsys)
    return bench


def gone(bench, capsys):
    assert bench.run(capsys, "uninstall", "--sandbox", "--yes", "--purge-secrets").code == 0
    (volume(bench) / "db").unlink(missing_ok=True)
    (volume(bench) / "calls").unlink(missing_ok=True)


def restore(bench, capsys, *argv):
    return bench.run(capsys, "restore", "--sandbox", "--json", "--release", str(bench.release), *argv)


def in_words(bench, capsys, *argv):
    return bench.run(capsys, "restore", "--sandbox", "--release", str(bench.release), *argv)


def data(bench) -> str:
    file = volume(bench) / "db"
    return file.read_text() if file.exists() else ""


def calls(bench) -> list[str]:
    file = volume(bench) / "calls"
    return [line for line in file.read_text().splitlines() if line.startswith("Restore")] if file.exists() else []


def latest_log(bench) -> str:
    """Of the one-off job that runs."""
    (run,) = [run for run in bench.owner().get("runs") if run["state"] == "running"] or [None]
    return bench.owner().call("GET", f"runs/{run['id']}/logs").text if run else ""


def outcomes(done):
    return {(stage["number"], stage["outcome"]) for stage in done.data["stages"]}


class TestAfterADisaster:
    def test_everything_is_restored_and_verified(self, site, capsys):
        done = restore(site, capsys)

        assert done.code == 0, done.err
        assert set(STAGES) <= outcomes(done)
        assert data(site) == "schema-1\nbefore\n"
        assert done.data["verification"]["passed"] is True
        assert done.data["recovery"]["report"]["database_identical"] is True
        recovery = done.data["stages"][6]
        assert [change["change"] for change in recovery["changes"]] == ["set_secrets", "restore_snapshot"]
        assert "identical to the snapshot" in recovery["reason"]
        assert calls(site) == ["Restore --snapshot latest"]
        assert state_file(site).stat().st_mode & 0o077 == 0

    def test_install_can_restore_and_shows_the_result(self, site, capsys):
        snapshot = sorted(p.name for p in (volume(site) / "backups").iterdir())[0]

        done = site.run(capsys, "install", "--sandbox", "--release", str(site.release), "--restore", snapshot)

        assert done.code == 0, done.err
        assert "Restore starts; " not in done.out + done.err
        assert f"estored snapshot {snapshot} (2026-11-22 00:00 UTC): 12 rows, 5 artifacts" in done.out
        assert "checks passed" in done.out
        assert f"✓ Restored snapshot {snapshot} (2026-11-22 00:00 UTC).\n" in done.out
        assert "It replaced no data." in done.out
        assert not [text for text in INSTALL_HEADLINES if text in done.out]

    def test_a_second_restore_changes_nothing(self, site, capsys):
        assert restore(site, capsys).code == 0

        again = restore(site, capsys)
        shown = in_words(site, capsys)

        assert again.code == 0, again.err
        assert "! NOT restored again: snapshot " in shown.out
        assert "a server has run since." in shown.out
        assert "run `restore --replace --stop-server --sandbox --release" in shown.out
        assert "✓ 1-6                 unchanged" in shown.out
        assert "!  7 recovery         not restored again" in shown.out
        assert not [text for text in INSTALL_HEADLINES if text in shown.out]
        assert again.data["outcome"] == "unchanged"
        assert "--replace --stop-server" in again.data["stages"][6]["reason"]
        assert again.data["verification"]["passed"] is True
        assert len(calls(site)) == 1
        runs = site.run(capsys, "history", "--sandbox", "--json").data["entries"]
        assert {one["outcome"] for one in runs} == {"done"}

    def test_an_earlier_record_does_not_prevent_a_restore_into_a_new_project(self, site, capsys):
        assert restore(site, capsys).code == 0
        gone(site, capsys)

        assert restore(site, capsys).code == 0
        assert data(site) == "schema-1\nbefore\n"

    def test_a_dry_run_works_without_an_installation_and_writes_no_data(self, site, capsys):
        shown = site.run(capsys, "restore", "--sandbox", "--release", str(site.release), "--dry-run")

        assert shown.code == 0, shown.err
        assert "Would restore snapshot" in shown.out
        assert "estimated time 3.5 s" in shown.out
        assert "There is no project to run the job in" in shown.out
        assert data(site) == ""
        assert site.owner().get("deployments") == []
        again = restore(site, capsys, "--dry-run")
        assert again.data["run"]["outcome"] == "dry-run"
        assert restore(site, capsys).code == 0
        served = site.run(capsys, "restore", "--sandbox", "--release", str(site.release), "--dry-run")
        assert (
            "! Would be refused now: the database holds 12 rows. Add --replace, which keeps a saved copy." in served.out
        )


class TestRefused:
    def test_a_running_server_is_named_and_nothing_is_changed(self, site, capsys):
        assert site.install(capsys).code == 0
        site.forget_calls()

        refused = restore(site, capsys)

        assert_error(refused, 27, "dev.mlflow.tracking.server", "started", "--stop-server", "also add --replace")
        assert calls(site) == []
        assert not [path for path in site.writes() if "deployments" in path or "jobs" in path]

    def test_stopping_the_server_needs_consent(self, site, capsys):
        assert site.install(capsys).code == 0

        refused = restore(site, capsys, "--stop-server", "--replace")
        agreed = restore(site, capsys, "--stop-server", "--replace", "--yes")
        undo = in_words(site, capsys, "--undo", "--stop-server")
        dropped = site.run(capsys, "restore", "--sandbox", "--drop-saved", "kept-1", "--yes")
        nothing = in_words(site, capsys, "--undo", "--stop-server")

        assert_error(refused, 14, "Not confirmed: 3 changes", "--yes")
        assert refused.err.count("all tokens are invalidated") == 1
        stopped, restored = [item for item in refused.data["stages"][6]["changes"] if item["consequences"]]
        assert (stopped["change"], restored["change"]) == ("stop_deployment", "restore_snapshot")
        assert "changes" not in refused.data, "they are in the stage"
        known = r"the latest recorded here is 20261122T000001Z-abcdef, 2026-\d\d-\d\d \d\d:\d\d UTC, 3 runs\n"
        assert re.search(rf"! Restore the latest snapshot: in place of the present data; {known}", refused.err)
        assert (undo.code, dropped.code, nothing.code) == (14, 0, 14), dropped.err
        known = r"the one recorded here is kept-1, of the restore at 20\d\d-"
        assert re.search(rf"the saved copy of the last restore: in place of the present data; {known}", undo.err)
        assert "present data; no saved copy is recorded here (`restore --list-saved" in nothing.err
        assert agreed.code == 0, agreed.err
        assert data(site) == "schema-1\nbefore\n"

    def test_the_server_is_not_stopped_for_a_restore_that_would_be_refused(self, site, capsys):
        assert site.install(capsys).code == 0
        before = site.owner().get("deployments")

        occupied = restore(site, capsys, "--stop-server", "--yes")
        (volume(site) / "break-Restore").write_text("25")
        damaged = restore(site, capsys, "--stop-server", "--replace", "--yes")
        assert_error(occupied, 26, "not empty", "restore --replace --stop-server --sandbox")
        (volume(site) / "break-Restore").unlink()
        unknown = restore(site, capsys, "--snapshot", "nope", "--stop-server", "--replace", "--yes")
        assert_error(damaged, 25, "The restore dry run failed")
        assert_error(unknown, 15, "No data was changed, and the server was not stopped. See the list.")
        assert unknown.err.count("there is no snapshot nope") == 1
        assert [d["id"] for d in site.owner().get("deployments")] == [d["id"] for d in before]

    def test_a_refusal_of_the_dry_run_has_its_own_exit_code(self, site, capsys):
        assert site.install(capsys).code == 0
        before = site.owner().get("deployments")
        served = {"exit_code": 27, "error": "it is served", "hint": ""}
        for code in (10, 11, 22, 26, 28):
            refusal = {"exit_code": code, "error": "that cannot be", "hint": "try another"}
            report = {"outcome": "dry-run", "would_refuse": [served, refusal]}
            (volume(site) / "break-Restore").write_text(f"0 {json.dumps(report)}")
            refused = restore(site, capsys, "--stop-server", "--replace", "--yes")
            assert_error(refused, code, "The restore would be refused: that cannot be.", "Try another.")
        assert [d["id"] for d in site.owner().get("deployments")] == [d["id"] for d in before]

    def test_values_that_the_database_cannot_keep_are_listed(self, site, capsys):
        value = {"table": "runs", "column": "name", "what": "is longer than 250 characters (it has 300)"}
        value |= {"row": {"run_uuid": "r1"}, "length": 300, "limit": 250, "unit": "characters", "free_text": True}
        refused = {"refused_values": [value], "refused_total": 3}
        taken = {"refused_values": [], "refused_total": 0, "shortened_values": [value], "shortened_total": 1}
        shown = []
        for report in (refused, taken):
            given = json.dumps({"outcome": "dry-run", "would_refuse": [], **report})
            (volume(site) / "break-Restore").write_text(f"0 {given}")
            words = ("--dry-run", "--shorten-text", "--release", str(site.release))
            shown.append(site.run(capsys, "restore", "--sandbox", *words).out)

        message = "runs.name is longer than 250 characters (it has 300); run_uuid r1"
        assert f"refused: {message} (free text)" in " ".join(shown[0].split())
        assert "2 more, see the job's log" in shown[0]
        assert f"shortened: {message}" in " ".join(shown[1].split())
        assert "1 text shortened" in shown[1]
        assert calls(site)[-1] == "Restore --snapshot latest --shorten-text --dry-run"

    def test_no_other_release_is_installed_for_a_restore_that_would_be_refused(self, site, capsys):
        assert site.install(capsys).code == 0
        newer = make_snapshotting_release(site.folder / "newer.tar.gz", version="3.18.0")
        there = ("--release", str(newer), "--stop-server", "--yes")
        before = [item["id"] for item in site.owner().get("deployments")]

        nothing_kept = restore(site, capsys, "--undo", *there)
        (volume(site) / "break-Restore").write_text("25")
        damaged = restore(site, capsys, "--replace", *there)
        kept = [item["id"] for item in site.owner().get("deployments")]
        (volume(site) / "break-Restore").write_text("33")  # a newer schema than the installed release knows
        tried = restore(site, capsys, "--replace", *there)

        assert_error(nothing_kept, 15, "there is no saved copy", "stage 6 (upload)")
        assert_error(damaged, 25, "The restore dry run failed", "stage 6 (upload)")
        assert kept == before
        assert_error(tried, 33, "stage 7 (recovery)", "The server is stopped.")

    def test_present_data_is_not_overwritten(self, site, capsys):
        (volume(site) / "db").write_text("schema-1\nprecious\n")

        refused = restore(site, capsys)

        assert_error(refused, 26, "the database holds 12 rows", "--replace")
        assert data(site) == "schema-1\nprecious\n"
        assert site.owner().get("deployments") == []
        assert site.install(capsys).code == 0, "nothing was started"

    @pytest.mark.parametrize(("how", "code"), [("25", 25), ("kill", 24)])
    def test_a_failed_restore_starts_no_server(self, site, capsys, how, code):
        (volume(site) / "break-Restore").write_text(how)

        failed = restore(site, capsys)

        assert_error(failed, code, "The restore failed", "stage 7 (recovery)")
        assert site.owner().get("deployments") == []

    def test_a_release_without_the_command_is_refused(self, site, capsys):
        old = make_snapshotting_release(site.folder / "cannot.tar.gz", without=("Restore",))

        refused = site.run(capsys, "restore", "--sandbox", "--json", "--release", str(old))

        assert_error(refused, 3, "no command `Restore`")
        assert site.owner().get("deployments") == []


class TestReplaceAndUndo:
    def test_undo_brings_back_the_replaced_data(self, site, capsys):
        assert restore(site, capsys).code == 0
        (volume(site) / "db").write_text("schema-1\nafter\n")
        (volume(site) / "warnings").write_text("the snapshot's rows could not be checked\n")

        replaced = restore(site, capsys, "--replace", "--stop-server", "--yes")
        (volume(site) / "warnings").unlink()
        kept = data(site)
        preview = restore(site, capsys, "--undo", "--dry-run")
        assert (preview.code, data(site)) == (0, kept)
        assert restore(site, capsys, "--undo", "--saved", "kept-1", "--dry-run").code == 0
        assert (volume(site) / "calls").read_text().splitlines()[-1] == "Restore --undo --saved kept-1 --dry-run"
        undone = restore(site, capsys, "--undo", "--stop-server", "--yes")
        history = site.run(capsys, "history", "--sandbox", "--json").data["entries"]

        assert (replaced.code, undone.code) == (0, 0), undone.err
        assert [entry["verb"] for entry in history[:4]] == [
            "restore --undo",
            "restore --undo --dry-run",
            "restore --undo --dry-run",
            "restore",
        ]
        downtimes = [done.data["installation"]["downtime_seconds"] for done in (replaced, undone)]
        assert all(seconds > 0 for seconds in downtimes)
        assert replaced.data["warnings"] == ["The snapshot's rows could not be checked."]
        assert replaced.err.count("! The snapshot's rows could not be checked.") == 1
        assert kept == "schema-1\nbefore\n"
        assert data(site) == "schema-1\nafter\n"
        assert "would bring back kept-1" in preview.data["run"]["message"]
        assert "saved as kept-1" in replaced.data["recovery"]["message"]
        assert undone.data["recovery"]["message"] == "brought back kept-1"
        assert undone.data["verification"]["passed"] is True

    def test_without_a_saved_copy_the_server_keeps_running(self, site, capsys):
        site.install(capsys)
        before = site.owner().get("deployments")

        refused = restore(site, capsys, "--undo", "--stop-server", "--yes")
        dry_run = restore(site, capsys, "--undo", "--dry-run")

        assert_error(refused, 15, "there is no saved copy")
        assert_error(dry_run, 15, "there is no saved copy")
        assert [d["id"] for d in site.owner().get("deployments")] == [d["id"] for d in before]


class TestInterrupted:
    def test_a_run_interrupted_after_the_restore_resumes_without_restoring_again(self, site, capsys):
        site.control("POST", "/faults", {"method": "POST", "path": "/deployments$", "status": 400, "reason": "no"})

        failed = restore(site, capsys)
        site.control("DELETE", "/faults")
        again = restore(site, capsys)

        assert failed.code == 16, failed.err
        assert failed.data["stages"][6]["outcome"] == "changed"
        assert again.code == 0, again.err
        assert "by the interrupted run; resuming" in again.data["stages"][6]["reason"]
        assert again.data["verification"]["passed"] is True
        assert len(calls(site)) == 1

    def test_a_resumed_run_ends_with_what_the_interrupted_one_restored(self, site, capsys):
        (volume(site) / "db").write_text("schema-1\nafter\n")
        site.control("POST", "/faults", {"method": "POST", "path": "/deployments$", "status": 400, "reason": "no"})
        failed = restore(site, capsys, "--replace", "--yes")
        site.control("DELETE", "/faults")

        resumed = in_words(site, capsys, "--replace", "--yes")

        assert failed.code == 16, failed.err
        assert resumed.code == 0, resumed.err
        assert "by the interrupted run; resuming" in resumed.out
        assert "✓ Restored snapshot 20261122T000001Z-abcdef (2026-11-22 00:00 UTC).\n" in resumed.out
        assert "The data it replaced is saved as kept-1; `restore --undo" in resumed.out
        assert not [text for text in INSTALL_HEADLINES if text in resumed.out]

    def test_no_server_is_started_on_the_data_of_a_killed_job(self, site, capsys):
        (volume(site) / "break-Restore").write_text("kill")
        assert restore(site, capsys).code == 24
        report = {"interrupted_restore": "a restore of the snapshot S has not ended"}
        site.forget_calls()

        planned = site.run(capsys, "plan", "--sandbox", "--release", str(site.release))
        refused = site.install(capsys)
        other = make_snapshotting_release(site.folder / "newer.tar.gz", version="3.18.0")
        replaced = site.install(capsys, "--replace", "--release", str(other))
        unhealthy = site.run(capsys, "status", "--sandbox", "--json")
        assert site.writes() == []
        (volume(site) / "break-Restore").write_text(f"0 {json.dumps({**report, 'outcome': 'dry-run'})}")
        dry_run = site.run(capsys, "restore", "--sandbox", "--dry-run")
        refused_again = site.install(capsys)
        (volume(site) / "break-Restore").unlink()
        whole = restore(site, capsys, "--dry-run")
        done = site.install(capsys)
        state = json.loads(state_file(site).read_text())
        state["restore"] = {"requested": "S", "project_id": "", "status": "started", "when": "2026-01-01T00:00:00Z"}
        state_file(site).write_text(json.dumps(state))  # ended from another machine, for a server runs
        renewed = site.install(capsys, "--replace", "--release", str(other))

        for outcome in (planned, refused, replaced):
            assert outcome.code == 20
            assert "A restore started at" in outcome.err
            assert "its result is unknown" in outcome.err
            assert "Run `mlflow-ae5-deploy restore " in outcome.err
            assert "--undo" not in outcome.err  # it may have saved nothing
        assert "its result is unknown" in errors_of(unhealthy.data)[0]
        assert "! Interrupted restore: a restore of the snapshot S has not ended" in dry_run.out
        assert_error(refused_again, 20, "are incomplete: a restore of the snapshot S has not ended")
        assert "restore --undo" in refused_again.err
        assert (whole.code, done.code, renewed.code) == (0, 0, 0), done.err + renewed.err

    def kill_while_the_job_runs(self, site):
        gate = volume(site) / "gate-Restore"
        volume(site).mkdir(parents=True, exist_ok=True)
        gate.touch()
        with site.spawn("restore", "--sandbox", "--json", "--release", str(site.release)) as process:
            wait_for(lambda: calls(site), "the job to start")
            wait_for(lambda: '"status": "started"' in state_file(site).read_text(), "the record of it")
            process.kill()
        return gate

    def test_ctrl_c_tells_of_the_data_and_names_both_ways_out(self, site, capsys):
        """As far as the stopped job reports it, or nothing is known."""
        gate = volume(site) / "gate-Restore"
        report, seen = "a restore of the snapshot S, started at T, has not finished", []
        for content in ("", None, report):
            gate.touch()
            if content is not None:
                (volume(site) / "break-stop-Restore").write_text(content)
            (volume(site) / "calls").unlink(missing_ok=True)
            words = ("restore", "--sandbox", "--replace", "--yes", "--release", str(site.release))
            with site.spawn(*words) as process:
                wait_for(lambda: calls(site), "the job to start")
                if content is not None:
                    wait_for(lambda: "it can be stopped" in latest_log(site), "the job to be ready for a signal")
                process.send_signal(signal.SIGINT)
                seen.append(" ".join(process.communicate(timeout=200)[1].split("Interrupted.")[-1].split()))
            (volume(site) / "break-stop-Restore").unlink(missing_ok=True)
        health = errors_of(site.run(capsys, "status", "--sandbox", "--json").data)
        gate.unlink()

        unchanged, unknown, incomplete = seen
        assert "The job for restore was stopped." in unchanged
        assert "incomplete" not in unchanged
        assert "# to run it again" in unchanged
        assert "Database and artifacts may be incomplete." in unknown
        assert "restore --dry-run --sandbox" in unknown.split(" or ")[1]
        assert f"Database and artifacts are incomplete: {report}." in incomplete
        first, second = incomplete.split("do this ")[1].split(" or ")
        assert first.endswith(f" {' '.join(words)} # to finish")
        undo = f" restore --undo --sandbox --release {site.release}"
        assert second.endswith(f"{undo} # to bring back the data from before it")
        (problem,) = [text for text in health if "incomplete" in text]
        assert "restore --replace" in problem
        assert "restore --undo --sandbox`" in problem

    def let_the_job_end(self, site, gate):
        gate.unlink()
        wait_for(lambda: data(site), "the restore to end")
        wait_for(lambda: all(r["state"] == "completed" for r in site.owner().get("runs")), "the run to end")

    @pytest.mark.parametrize("ended", [False, True], ids=["active", "ended meanwhile"])
    def test_a_run_killed_while_the_job_was_active_takes_its_result(self, site, capsys, ended):
        gate = self.kill_while_the_job_runs(site)
        if ended:
            self.let_the_job_end(site, gate)
            again = restore(site, capsys)
        else:
            assert_error(site.install(capsys), 20, "is still running on the platform", "to follow it")
            site.forget_calls()
            with site.spawn("restore", "--sandbox", "--json", "--release", str(site.release)) as process:
                wait_for(lambda: [c for c in site.calls() if c["path"].endswith("/logs")][1:], "the run to be read")
                gate.unlink()
                out, err = process.communicate(timeout=200)
            assert process.returncode == 0, err
            assert json.loads(out)["verification"]["passed"] is True
            again = restore(site, capsys)

        assert again.code == 0, again.err
        assert len(calls(site)) == 1
        assert data(site) == "schema-1\nbefore\n"
        assert [job["command"] for job in site.owner().get("jobs")] == ["GarbageCollection"]

    def test_a_server_may_start_once_an_unattended_restore_has_ended(self, site, capsys):
        self.let_the_job_end(site, self.kill_while_the_job_runs(site))

        assert site.install(capsys).code == 0
        assert data(site) == "schema-1\nbefore\n"
        assert '"status": "started"' not in state_file(site).read_text()
