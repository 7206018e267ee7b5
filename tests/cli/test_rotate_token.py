"""rotate-token through `main(argv)`, on a sandbox whose server starts at once. Each test leaves a healthy server."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.common.clock import SystemClock
from mlflow_ae5_deploy.engine.lock import InstallationLock
from tests.cli.answers import errors_of, warnings_of
from tests.cli.bench import ACCOUNT
from tests.cli.rotating import (
    CONSUMER,
    PLATFORM,
    PROBE,
    jobs_made,
    make_rotating_release,
    opens,
    outcomes,
    rotation,
    running,
    state_file,
    stored,
    token_writes,
    tokens_issued,
    volume,
)
from tests.sandbox.support import Admin, Client, endpoint_name

RESTARTS = "server: {variables: {MLFLOW_LOGGING_LEVEL: %s}}\n"  # of a value that it does not have yet
MAY_INVALIDATE = "the new one may invalidate the stored one"


def reasons(stages) -> dict[str, str]:
    """Of the changes to tokens, by recipient."""
    changes = [change for stage in stages for change in stage["changes"]]
    return {change["name"] or change["phrase"]: change["reason"] for change in changes}


class TestRotation:
    def test_a_new_token_is_proved_then_stored_for_everybody_then_the_job_is_proved(self, rotatable, capsys):
        old = {account: stored(rotatable, account) for account in (ACCOUNT, "dev-user")}

        done = rotation(rotatable, capsys)

        assert done.code == 0, done.err
        assert (done.data["outcome"], done.data["token_downtime_seconds"]) == ("rotated", None)
        assert outcomes(done) == {ACCOUNT: "stored", "dev-user": "stored"}
        assert done.data["gc"]["state"] == "passed"
        assert done.data["token"]["expires"] > "2030"
        assert stored(rotatable) == stored(rotatable, "dev-user") != old[ACCOUNT]
        assert opens(rotatable, stored(rotatable)) == 200
        calls = rotatable.calls()
        steps = [
            next(c["number"] for c in calls if c["path"].endswith("/token") and "/deployments/" in c["path"]),
            next(c["number"] for c in calls if c["surface"].startswith("endpoint") and c["path"] == PROBE),
            next(c["number"] for c in calls if c["method"] == "POST" and c["secret"].startswith("MLFLOW_TRACKING")),
            next(c["number"] for c in calls if c["method"] == "POST" and c["path"].endswith("/jobs")),
        ]
        assert steps == sorted(steps)
        assert tokens_issued(rotatable) == 1

    def test_the_dry_run_leaves_nothing_behind(self, rotatable, capsys):
        before = rotatable.everything()

        rotation(rotatable, capsys)

        assert rotatable.everything() == before
        assert not [run for run in rotatable.owner().get("runs") if "dry run" in run["name"]]

    def test_who_uses_the_old_token_meanwhile_notices_nothing(self, rotatable, capsys):
        url, old = running(rotatable)["url"], stored(rotatable)
        over, seen = threading.Event(), []

        def hammer():
            while not over.is_set():
                seen.append(opens(rotatable, old, url))

        threads = [threading.Thread(target=hammer) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            done = rotation(rotatable, capsys)
        finally:
            over.set()
            for thread in threads:
                thread.join()

        assert done.code == 0, done.err
        assert stored(rotatable) != old
        assert len(seen) > 10
        assert set(seen) == {200}

    def test_the_text_output_has_the_same(self, rotatable, capsys):
        done = rotatable.run(capsys, "rotate-token", "--sandbox")

        assert done.code == 0, done.err
        for words in (
            "+ Token rotated: stored for ",
            f"{ACCOUNT}, dev-user",
            "works with the stored token",
            running(rotatable)["id"][:11],
        ):
            assert words in done.out
        assert done.err == ""

    def test_no_token_is_printed_or_saved(self, rotatable, capsys):
        old = stored(rotatable)
        done = rotation(rotatable, capsys)
        plain_text = rotatable.run(capsys, "rotate-token", "--sandbox", "--traceback")

        kept = [p for p in (rotatable.folder / "state").glob("localhost*/**/*") if p.is_file()]
        text = done.out + done.err + plain_text.out + plain_text.err + json.dumps(rotatable.calls())
        text += "".join(file.read_bytes().decode("utf-8", "replace") for file in kept)
        assert len(kept) >= 3
        for token in (old, stored(rotatable)):
            assert token not in text
            assert token.split(".")[1] not in text

    def test_a_token_that_fails_its_proof_is_never_stored(self, rotatable, capsys):
        old, state = stored(rotatable), state_file(rotatable).read_bytes()
        rotatable.control("POST", "/faults", {"method": "GET", "path": PROBE, "times": None, "status": 500})

        impatient = rotatable.configure(f"platform: {{deployment_deadline: 0.5}}\n{CONSUMER}")
        failed = rotatable.run(capsys, "rotate-token", "--sandbox", "--config", str(impatient))

        assert failed.code == 21, failed.err
        assert "was not stored" in failed.err
        assert "app:" in failed.err  # the end of the server's log
        assert token_writes(rotatable) == []
        assert (stored(rotatable), stored(rotatable, "dev-user")) == (old, old)
        assert state_file(rotatable).read_bytes() == state

    @pytest.mark.parametrize("status", [401, 302, 403])
    def test_nor_one_that_is_turned_away(self, rotatable, capsys, status):
        fault = {"method": "GET", "path": PROBE, "times": None, "status": status, "headers": {"Location": "/login"}}
        rotatable.control("POST", "/faults", fault)

        failed = rotation(
            rotatable, capsys, "--config", str(rotatable.configure("platform: {deployment_deadline: 0.3}\n"))
        )

        assert failed.code == 21, failed.err
        assert failed.data["error"]["kind"] == "VerificationFailed"
        assert token_writes(rotatable) == []

    def test_without_a_deployment_it_says_what_to_do(self, bench, capsys):
        config = bench.configure("project: {name: elsewhere}\n")

        for argv in ([], ["--restart"], ["--if-needed"]):
            failed = rotation(bench, capsys, "--config", str(config), *argv)
            assert failed.code == 15
            assert "install" in failed.data["error"]["remedy"]

    def test_a_second_run_at_the_same_time_is_refused(self, rotatable, capsys):
        folder = state_file(rotatable).parent
        with InstallationLock(folder, SystemClock(), verb="install").held():
            refused = rotation(rotatable, capsys)

        assert refused.code == 22
        assert "install" in refused.data["error"]["what"]
        assert tokens_issued(rotatable) == 0

    @pytest.mark.parametrize("other", ["--restart", "--all"])
    def test_contradictory_options_are_refused(self, bench, capsys, other):
        assert rotation(bench, capsys, "--if-needed", other).code == 2


class TestOldTokens:
    """Only where nothing is known that ends them, the output says that they probably keep working."""

    def shown(self, bench, capsys, *argv):
        done = bench.run(capsys, "rotate-token", "--sandbox", "--yes", *argv)
        assert done.code == 0, done.err
        assert "Unchanged" not in done.out
        return "Old tokens clients with an earlier token probably keep working" in " ".join(done.out.split())

    def edit(self, bench, change):
        """Change the recorded tokens."""
        file = state_file(bench)
        data = json.loads(file.read_text())
        change(data["tokens"])
        file.write_text(json.dumps(data))

    def test_of_this_deployment_keep_working(self, rotatable, capsys):
        assert self.shown(rotatable, capsys)

    def test_of_one_that_this_run_restarts_do_not(self, rotatable, capsys):
        assert not self.shown(rotatable, capsys, "--restart")

    @pytest.mark.parametrize("argv", [[], ["--if-needed"]])
    def test_of_one_that_somebody_else_restarted_do_not(self, rotatable, capsys, argv):
        restart(rotatable)

        assert not self.shown(rotatable, capsys, *argv)

    def test_nor_where_an_earlier_run_restarted_it(self, rotatable, capsys):
        (volume(rotatable) / "broken-collection").touch()
        failed = rotatable.run(capsys, "rotate-token", "--sandbox", "--yes", "--restart")
        (volume(rotatable) / "broken-collection").unlink()

        assert (failed.code, "Old tokens" in failed.out) == (21, False)
        assert not self.shown(rotatable, capsys)

    def test_nor_where_an_unfinished_run_came_after_a_restart_by_somebody_else(self, rotatable, capsys):
        restart(rotatable)
        (volume(rotatable) / "broken-collection").touch()
        assert rotation(rotatable, capsys).code == 21
        (volume(rotatable) / "broken-collection").unlink()

        assert not self.shown(rotatable, capsys)

    def test_expired_ones_do_not(self, rotatable, capsys):
        yesterday = (datetime.now(UTC) - timedelta(1)).isoformat(timespec="seconds")
        self.edit(rotatable, lambda tokens: tokens[ACCOUNT].update(expires=yesterday))

        assert not self.shown(rotatable, capsys)

    def test_those_of_a_consumer_of_another_deployment_do_not(self, rotatable, capsys):
        self.edit(rotatable, lambda tokens: tokens["dev-user"].update(deployment_id="a2-of-before"))

        assert not self.shown(rotatable, capsys, "--if-needed")

    def test_unrecorded_ones_are_not_known(self, rotatable, capsys):
        state_file(rotatable).unlink()

        assert not self.shown(rotatable, capsys)

    def test_those_that_the_gc_job_cannot_use_do_not(self, rotatable, capsys):
        self.edit(rotatable, lambda tokens: tokens.pop("dev-user"))  # the others keep theirs, as far as is known
        rotatable.owner().post("credentials/user", {"key": "MLFLOW_TRACKING_TOKEN", "value": "invalid-since-then"})

        assert not self.shown(rotatable, capsys, "--if-needed")
        assert opens(rotatable, stored(rotatable)) == 200


def restart(bench):
    """As somebody else does, without this tool."""
    owner, previous = bench.owner(), running(bench)
    project = next(p for p in owner.get("projects") if p["owner"] == ACCOUNT)
    owner.call("DELETE", f"deployments/{previous['id']}")
    owner.deploy(project["id"], name=previous["name"], static_endpoint=endpoint_name(previous))


class TestIfNeeded:
    def test_does_nothing_when_nothing_is_needed(self, rotatable, capsys):
        files = sorted(state_file(rotatable).parent.glob("*"))
        before = {file: file.read_bytes() for file in files if file.is_file() and file.name != "lock"}

        done = rotation(rotatable, capsys, "--if-needed")

        assert (done.code, done.data["outcome"]) == (0, "unchanged")
        assert rotatable.writes() == []
        assert len(rotatable.calls()) <= 18  # 3 for the lock
        assert {file: file.read_bytes() for file in before} == before

    def test_rotates_after_somebody_else_restarted_the_server(self, rotatable, capsys):
        restart(rotatable)

        done = rotation(rotatable, capsys, "--if-needed")

        assert (done.code, done.data["outcome"]) == (0, "rotated"), done.err
        assert done.data["token_downtime_seconds"] is None  # what was stored meanwhile was not observed
        assert opens(rotatable, stored(rotatable)) == 200

    def test_where_nothing_is_on_record_no_downtime_is_printed(self, rotatable, capsys):
        state_file(rotatable).unlink()

        done = rotatable.run(capsys, "rotate-token", "--sandbox", "--if-needed")

        assert done.code == 0, done.err
        assert "Downtime" not in done.out

    def test_stores_it_again_where_the_secret_was_deleted(self, rotatable, capsys):
        rotatable.owner().call("DELETE", "credentials/user/MLFLOW_TRACKING_TOKEN")
        rotatable.forget_calls()

        done = rotation(rotatable, capsys, "--if-needed")

        assert outcomes(done) == {ACCOUNT: "stored", "dev-user": "kept"}

    def test_rotates_when_the_end_is_near_and_warns_before(self, rotatable, capsys):
        file = state_file(rotatable)
        for days, outcome, warned in ((20, "unchanged", True), (2, "rotated", False), (-1, "rotated", False)):
            data = json.loads(file.read_text())
            end = (datetime.now(UTC) + timedelta(days)).isoformat(timespec="seconds")
            data["tokens"][ACCOUNT] |= {
                "expires": end,
                "issued": "2020-01-01T00:00:00+00:00",
            }
            file.write_text(json.dumps(data))

            done = rotation(rotatable, capsys, "--if-needed")

            assert done.data["outcome"] == outcome
            assert bool(done.data["warnings"]) is warned
        assert done.data["token_downtime_seconds"] > 80000  # the one that had ended a day ago

    def test_a_new_token_of_short_life_is_warned_of(self, rotatable, capsys):
        rotatable.control("PATCH", "/settings", {"deployment_token_seconds": 3 * 86400})
        try:
            done = rotatable.run(capsys, "rotate-token", "--sandbox")
        finally:
            rotatable.control("PATCH", "/settings", {"deployment_token_seconds": 1e9})

        assert "in 3 days" in done.out
        rotation(rotatable, capsys, "--all")


class TestConsumers:
    def test_one_that_fails_is_named_the_others_are_served_and_the_next_run_does_just_that_one(
        self, rotatable, capsys, tmp_path
    ):
        password = "the-password-of-a-consumer"
        secret = tmp_path / "password"
        secret.write_text(password)
        secret.chmod(0o600)
        both = f"consumers:\n  - username: late-comer\n    password: file:{secret}\n  - username: dev-user\n"
        config = ["--config", str(rotatable.configure(PLATFORM + both))]

        first = rotation(rotatable, capsys, *config)

        assert (first.code, first.data["outcome"], first.data["remaining"]) == (23, "incomplete", ["late-comer"])
        assert "late-comer" in first.data["error"]["what"]
        assert outcomes(first) == {ACCOUNT: "stored", "late-comer": "failed", "dev-user": "stored"}
        assert stored(rotatable, "dev-user") == stored(rotatable)
        kept = stored(rotatable)

        Admin(rotatable.info).create("late-comer", password)
        rotatable.forget_calls()
        second = rotation(rotatable, capsys, *config)

        assert (second.code, second.data["outcome"]) == (0, "finished"), second.err
        assert outcomes(second) == {ACCOUNT: "kept", "late-comer": "stored", "dev-user": "kept"}
        assert set(token_writes(rotatable)) == {"late-comer"}
        assert not [c for c in rotatable.calls() if c["account"] == "dev-user"]
        assert (
            sum(c["path"].endswith("/impersonation") for c in rotatable.calls()) == 1
        )  # the late-comer has a password
        assert (stored(rotatable), stored(rotatable, "dev-user")) == (kept, kept)
        assert opens(rotatable, stored(rotatable, "late-comer")) == 200
        names = Client(rotatable.info, "late-comer", password).get("credentials/user")["data"]
        assert set(names) == {"MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"}
        assert rotation(rotatable, capsys, "--if-needed", *config).data["outcome"] == "unchanged"
        everybody = rotation(rotatable, capsys, *config)
        assert set(outcomes(everybody).values()) == {"stored"}
        assert password not in first.out + first.err + second.out + second.err

    def test_where_the_platform_invalidates_earlier_tokens_everybody_gets_the_new_one(self, rotatable, capsys):
        config = ["--config", str(rotatable.configure(PLATFORM + CONSUMER + "  - username: nobody-yet\n"))]
        rotation(rotatable, capsys, *config)
        Admin(rotatable.info).create("nobody-yet", "some-password")
        rotatable.owner().post("credentials/user", {"key": "MLFLOW_TRACKING_TOKEN", "value": "invalid-since-then"})

        second = rotation(rotatable, capsys, *config)

        assert outcomes(second) == {ACCOUNT: "stored", "dev-user": "stored", "nobody-yet": "stored"}
        assert second.data["gc"]["state"] == "passed"
        assert second.data["token_downtime_seconds"] is None
        assert opens(rotatable, stored(rotatable)) == 200

    def test_where_nobody_who_is_left_can_be_served_no_token_is_issued_and_no_job_run(self, rotatable, capsys):
        config = ["--config", str(rotatable.configure(PLATFORM + CONSUMER + "  - username: nobody-here\n"))]
        first = rotation(rotatable, capsys, *config)
        kept = stored(rotatable)
        rotatable.forget_calls()

        again = rotation(rotatable, capsys, "--if-needed", *config)
        issued, made, same = tokens_issued(rotatable), jobs_made(rotatable), stored(rotatable) == kept
        plain = rotation(rotatable, capsys)  # without that consumer in the configuration
        after = rotation(rotatable, capsys, "--if-needed")

        assert (first.code, first.data["gc"]["state"]) == (23, "passed")
        assert (again.code, again.data["remaining"], again.data["gc"]) == (23, ["nobody-here"], None)
        assert (issued, made, same) == (0, 0, True)
        assert (plain.code, plain.data["outcome"], plain.data["reason"]) == (0, "rotated", "a new token was requested")
        assert after.data["outcome"] == "unchanged"


class TestTokenFile:
    """A consumer that is a file; a relative path, because the sandbox ignores others."""

    @pytest.fixture
    def file(self, rotatable):
        folder = rotatable.folder / "scraper"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder / "token"

    @pytest.fixture
    def config(self, rotatable, file):
        return ["--config", str(rotatable.configure(f"{PLATFORM}{CONSUMER}  - file: scraper/token\n"))]

    def test_holds_the_token_alone_and_for_its_owner_alone(self, rotatable, capsys, file, config):
        file.write_text("an earlier one")
        file.chmod(0o644)
        opened = file.open()

        done = rotation(rotatable, capsys, *config)

        assert (done.code, outcomes(done)[str(file)]) == (0, "stored"), done.err
        assert file.read_text() == stored(rotatable)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with opened:
            assert opened.read() == "an earlier one", "it was not replaced in one step"
        assert list(file.parent.iterdir()) == [file]
        assert file.read_text() not in done.out + done.err + state_file(rotatable).read_text()

    def test_a_lost_one_is_a_problem_with_its_reason_everywhere(self, rotatable, capsys, file, config):
        rotation(rotatable, capsys, *config)
        release = ["--sandbox", "--release", str(rotatable.release), *config]
        before = rotatable.run(capsys, "status", "--json", *release)
        file.unlink()

        after = rotatable.run(capsys, "status", "--json", *release)
        text = rotatable.run(capsys, "status", *release)
        checked = rotatable.run(capsys, "doctor", "--json", "--sandbox", *config)

        seen = [[token["account"] for token in done.data["token"]["stored"]] for done in (before, after)]
        assert seen == [[ACCOUNT, "dev-user", str(file)], [ACCOUNT, "dev-user"]]
        assert (before.code, after.code) == (0, 20)
        (problem,) = [item for item in after.data["problems"] if item["severity"] == "error"]
        assert (problem["code"], problem["message"]) == ("token-missing", f"The token file {file} does not exist.")
        assert "scraper/token: does not exist" in "".join(text.out.split("\n")).replace("             ", "")
        assert reasons(after.data["drift"]) == {
            "issue a token": "the token file does not exist",
            **dict.fromkeys((ACCOUNT, "dev-user"), MAY_INVALIDATE),
            str(file): "the token file does not exist",
        }
        (finding,) = [item for item in checked.data["findings"] if item["check"] == "token"]
        assert (checked.code, finding["severity"]) == (20, "error")

        again = rotation(rotatable, capsys, "--if-needed", *config)

        assert (again.data["outcome"], outcomes(again)[str(file)]) == ("rotated", "stored")  # nothing was unfinished
        assert again.data["token"]["age_seconds"] < before.data["token"]["stored"][0]["age_seconds"] + 60

    def test_a_new_one_is_planned_as_it_is_installed(self, rotatable, capsys, file):
        file = file.with_name("new")
        config = ["--config", str(rotatable.configure(f"{PLATFORM}{CONSUMER}  - file: scraper/new\n"))]
        planned = rotatable.run(capsys, "plan", "--sandbox", "--json", "--release", str(rotatable.release), *config)
        done = rotatable.install(capsys, "--yes", *config)

        assert done.code == 0, done.err
        stages = [[stage for stage in one.data["stages"] if "token" in stage["name"]] for one in (planned, done)]
        why = "none recorded here for this consumer"
        expected = {"issue a token": why, **dict.fromkeys((ACCOUNT, "dev-user"), MAY_INVALIDATE), str(file): why}
        assert [reasons(one) for one in stages] == [expected, expected]

    @pytest.mark.parametrize("change", ["deleted", "truncated", "replaced", "none"])
    def test_is_renewed_if_needed(self, rotatable, capsys, file, config, change):
        rotation(rotatable, capsys, *config)
        before = file.read_text()
        match change:
            case "deleted":
                file.unlink()
            case "truncated":
                file.write_text(before[:20])
            case "replaced":
                file.write_bytes(b"\xff of another server")

        done = rotation(rotatable, capsys, "--if-needed", *config)

        assert done.code == 0, done.err
        assert (done.data["outcome"] == "unchanged") == (change == "none")
        assert opens(rotatable, file.read_text()) == 200
        assert outcomes(done)[ACCOUNT] == "kept"

    def test_a_folder_that_is_gone_is_named_and_not_created(self, rotatable, capsys, file, config):
        file.parent.rmdir()
        rotatable.forget_calls()

        failed = rotation(rotatable, capsys, *config)
        checked = rotatable.run(capsys, "doctor", "--sandbox", "--json", *config)

        assert (failed.code, failed.data["remaining"]) == (23, [str(file)])
        assert "(2 of 3 recipients have one)" in failed.data["error"]["what"]
        assert "for the remaining 1 recipient." in failed.data["error"]["remedy"]
        assert outcomes(failed)[ACCOUNT] == "stored"
        assert "its folder does not exist. Create the folder" in failed.data["error"]["detail"]
        assert not file.parent.exists()
        (finding,) = [item for item in checked.data["findings"] if item["check"] == "consumer-credentials"]
        assert "its folder does not exist" in finding["message"]

        file.parent.mkdir()
        again = rotation(rotatable, capsys, "--if-needed", *config)

        assert (again.code, again.data["outcome"]) == (0, "finished"), again.err
        assert opens(rotatable, file.read_text()) == 200

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda file: file.parent.rmdir(), "its folder does not exist"),
            (lambda file: (file.parent.rmdir(), file.parent.touch()), "its folder is not a directory"),
            (lambda file: file.mkdir(), "it is not a regular file"),
        ],
        ids=["no folder", "folder is a file", "file is a folder"],
    )
    def test_install_and_plan_check_it_before_any_change(self, rotatable, capsys, file, spoil, why):
        spoil(file)
        argv = [
            "--config",
            str(rotatable.configure(f"{PLATFORM}{RESTARTS % 'DEBUG'}{CONSUMER}  - file: scraper/token\n")),
        ]
        before = rotatable.everything()
        rotatable.forget_calls()

        planned = rotatable.run(capsys, "plan", "--sandbox", "--json", "--release", str(rotatable.release), *argv)
        failed = rotatable.install(capsys, "--yes", *argv)

        if file.parent.is_file():
            file.parent.unlink()
        for done in (planned, failed):
            assert (done.code, [stage["name"] for stage in done.data["stages"]]) == (3, ["store-token"])
            assert done.data["error"]["what"] == f"Cannot write the token file: {why}."
        assert rotatable.writes() == []
        assert rotatable.everything() == before

    def test_a_folder_in_its_place_is_not_replaced(self, rotatable, capsys, file, config):
        file.mkdir()

        failed = rotation(rotatable, capsys, *config)

        assert (failed.code, failed.data["remaining"]) == (23, [str(file)])
        assert "not a regular file" in failed.data["error"]["detail"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
    def test_stays_that_of_its_user(self, rotatable, capsys, file, config):
        file.touch()
        os.chown(file, 65534, 65534)

        assert rotation(rotatable, capsys, *config).code == 0

        assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65534)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_install_writes_it_and_the_sandbox_does_not_touch_real_ones(self, rotatable, capsys, file, config):
        real = rotatable.folder / "real-token"
        both = f"{PLATFORM}{CONSUMER}  - file: scraper/token\n  - file: {real}\n"

        done = rotatable.install(capsys, "--yes", "--config", str(rotatable.configure(both)))

        assert done.code == 0, done.err
        assert opens(rotatable, file.read_text()) == 200
        assert not real.exists()
        assert "consumers.file" in done.err


class TestInstall:
    """A restart by `install`, with recipients that cannot get the token."""

    def test_serves_the_others_ends_the_runbook_and_names_what_is_left(self, rotatable, capsys):
        shared = "sharing: {users: [dev-user]}\n"
        text = f"{PLATFORM}{RESTARTS % 'DEBUG'}{shared}consumers: [username: nobody-here, username: dev-user]\n"
        config = ["--config", str(rotatable.configure(text))]
        (job,) = rotatable.owner().get("jobs")
        rotatable.owner().call("DELETE", f"jobs/{job['id']}")
        status = ["status", "--sandbox", "--json", "--release", str(rotatable.release)]

        failed = rotatable.install(capsys, "--yes", *config)

        assert (failed.code, failed.data["error"]["kind"]) == (23, "PartlyDone"), failed.out
        assert "not stored for nobody-here (2 of 3 recipients have one)" in failed.data["error"]["what"]
        outcomes = {stage["name"]: stage["outcome"] for stage in failed.data["stages"]}
        ends = {name: outcomes[name] for name in ("store-token", "sharing", "gc-schedule")}
        assert ends == {"store-token": "failed", "sharing": "changed", "gc-schedule": "changed"}
        assert opens(rotatable, stored(rotatable)) == opens(rotatable, stored(rotatable, "dev-user")) == 200
        assert len(rotatable.owner().get("jobs")) == 1

        left = rotatable.run(capsys, *status, *config)
        assert left.data["unfinished"]["accounts_remaining"] == ["nobody-here"]
        assert "no new token for nobody-here yet" in " ".join(errors_of(left.data))
        assert rotatable.install(capsys, "--yes").code == 0
        assert rotatable.run(capsys, *status).code == 0

    def test_the_text_names_the_stage_and_what_is_left(self, rotatable, capsys):
        text = f"{PLATFORM}{RESTARTS % 'ERROR'}consumers: [username: nobody-here]\n"
        argv = ["--sandbox", "--yes", "--release", str(rotatable.release)]

        failed = rotatable.run(capsys, "install", *argv, "--config", str(rotatable.configure(text)))

        assert failed.code == 23
        assert "stage 12 (store-token)" in failed.err
        assert "nobody-here" in failed.err
        assert "run `mlflow-ae5-deploy rotate-token --sandbox" in " ".join(failed.err.split())
        assert "issue a token: none stored for this deployment" in failed.out
        assert "13 sharing" in failed.out
        assert "  URL         https://" in failed.out

    def test_a_plan_with_a_restart_gives_the_restart_as_the_reason(self, rotatable, capsys):
        config = ["--config", str(rotatable.configure(f"{PLATFORM}{RESTARTS % 'CRITICAL'}{CONSUMER}"))]

        planned = rotatable.run(capsys, "plan", "--sandbox", "--json", "--release", str(rotatable.release), *config)

        reasons = {stage["name"]: {change["reason"] for change in stage["changes"]} for stage in planned.data["stages"]}
        for stage in ("token", "store-token", "sharing"):
            assert reasons[stage] == {"the restart requires it"}
        assert reasons["gc-schedule"] == set()


class TestWhatStatusSaysMeanwhile:
    """`status` reports an interrupted run, with the verb that ends it."""

    def status_of(self, bench, capsys, *argv):
        return bench.run(capsys, "status", "--sandbox", "--json", "--release", str(bench.release), *argv)

    def test_who_is_left(self, rotatable, capsys):
        config = ["--config", str(rotatable.configure(PLATFORM + CONSUMER + "  - username: nobody-here\n"))]
        rotation(rotatable, capsys, *config)

        left, gone = self.status_of(rotatable, capsys, *config), self.status_of(rotatable, capsys)

        assert (left.code, left.data["unfinished"]["accounts_remaining"]) == (20, ["nobody-here"])
        assert "`mlflow-ae5-deploy rotate-token --sandbox --config " in errors_of(left.data)[0]
        assert (gone.code, errors_of(gone.data)) == (0, [])  # it is no consumer any more

    def test_a_job_that_was_not_proved(self, rotatable, capsys):
        (volume(rotatable) / "broken-collection").touch()
        rotation(rotatable, capsys)
        (volume(rotatable) / "broken-collection").unlink()

        seen = self.status_of(rotatable, capsys)
        rotation(rotatable, capsys)

        assert (seen.code, seen.data["unfinished"]["gc_untested"]) == (20, True)
        assert self.status_of(rotatable, capsys).code == 0

    def test_a_restart_that_was_cut_off_and_where_the_token_is_from(self, rotatable, capsys):
        previous = running(rotatable)["id"]
        (volume(rotatable) / "failures").write_text("2")
        assert rotation(rotatable, capsys, "--restart").code == 20

        seen = self.status_of(rotatable, capsys)
        plain_text = rotatable.run(capsys, "status", "--sandbox", "--release", str(rotatable.release))
        rotation(rotatable, capsys)

        assert seen.code == 20
        assert any("A restart has not finished" in text for text in errors_of(seen.data))
        assert {item["deployment_id"] for item in seen.data["token"]["previous"]} == {previous}
        assert "before the last change to the deployment" in plain_text.out
        assert "stored elsewhere" not in plain_text.out
        assert self.status_of(rotatable, capsys).code == 0

    def test_who_is_at_work(self, rotatable, capsys):
        with InstallationLock(state_file(rotatable).parent, SystemClock(), verb="install").held():
            seen = self.status_of(rotatable, capsys)

        assert seen.code == 0, seen.out
        assert "install" in seen.data["unfinished"]["running"]
        assert any("Another run is in progress" in text for text in warnings_of(seen.data))
        assert self.status_of(rotatable, capsys).data["unfinished"]["running"] == ""

    def test_a_collection_that_failed_before_the_rotation_is_no_present_trouble(self, rotatable, capsys):
        owner = rotatable.owner()
        (job,) = owner.get("jobs")
        (volume(rotatable) / "broken-collection").touch()
        owner.finished(owner.post(f"jobs/{job['id']}/runs")["id"])
        (volume(rotatable) / "broken-collection").unlink()
        before = self.status_of(rotatable, capsys)
        rotation(rotatable, capsys)

        after = self.status_of(rotatable, capsys)
        examined = rotatable.run(capsys, "doctor", "--sandbox", "--json")

        assert before.code == 20
        assert (after.code, after.data["gc"]["outdated"]) == (0, True), after.out
        assert any("before the token was renewed" in text for text in warnings_of(after.data))
        (finding,) = [item for item in examined.data["findings"] if item["check"] == "gc-job"]
        assert (finding["severity"], "--run-now" in finding["remedy"]) == ("warning", True)


class TestGarbageCollection:
    def test_a_failing_job_is_reported_and_the_next_run_tests_only_the_job(self, rotatable, capsys):
        (volume(rotatable) / "broken-collection").touch()

        first = rotation(rotatable, capsys)

        assert (first.code, first.data["error"]["kind"]) == (21, "VerificationFailed")
        assert "another version" in first.data["error"]["what"]
        assert outcomes(first) == {ACCOUNT: "stored", "dev-user": "stored"}

        (volume(rotatable) / "broken-collection").unlink()
        rotatable.forget_calls()
        second = rotation(rotatable, capsys, "--if-needed", "--verbose")

        assert (second.code, second.data["outcome"]) == (0, "finished"), second.err
        assert '\n  | {"command": "GarbageCollection"' in second.err
        assert "  | " not in first.err
        assert second.data["gc"]["state"] == "passed"
        assert (tokens_issued(rotatable), token_writes(rotatable)) == (0, [])

    def test_a_secret_that_reaches_the_job_late_is_waited_for(self, rotatable, capsys):
        rotatable.control("PATCH", "/settings", {"secret_mount_seconds": 1.5})
        try:
            done = rotation(rotatable, capsys)
        finally:
            rotatable.control("PATCH", "/settings", {"secret_mount_seconds": 0})

        assert (done.code, done.data["gc"]["state"]) == (0, "passed"), done.err
        assert jobs_made(rotatable) == 2

    @pytest.mark.parametrize("missing", ["command", "dry run"])
    def test_a_release_that_cannot_rehearse_is_not_made_to_collect(self, rotatable, capsys, missing):
        if missing == "command":
            argv = ["--config", str(rotatable.configure(PLATFORM + CONSUMER + "gc: {command: Elsewhere}\n"))]
        else:
            plain = make_rotating_release(rotatable.folder / "plain.tar.gz", dry_run=False)
            assert rotatable.install(capsys, "--release", str(plain), "--replace").code == 0
            argv = []
        rotatable.forget_calls()

        done = rotation(rotatable, capsys, *argv)
        made = jobs_made(rotatable)
        if missing != "command":
            rotatable.install(capsys, "--replace")

        assert (done.code, done.data["gc"]["state"]) == (0, "untested"), done.err
        assert ("Elsewhere" if missing == "command" else "GC_DRY_RUN") in done.data["gc"]["message"]
        assert made == 0
