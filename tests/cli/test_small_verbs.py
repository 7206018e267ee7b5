"""logs, open, share, history and uninstall through `main(argv)`, on one sandbox."""

from __future__ import annotations

import contextlib
import json
import re
import signal

import pytest

from mlflow_ae5_deploy.cli.commands.open import browse
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer
from tests.cli.answers import assert_error, assert_no_accident
from tests.cli.bench import ACCOUNT
from tests.cli.collecting import make_collecting_release
from tests.sandbox.support import Client, wait_for

CONSUMER = {"consumers": [{"username": "dev-user"}], "platform": {"lost_answer_deadline": 0.5}}


@pytest.fixture
def here(bench, capsys):
    """An installation that is as configured, with one run of its job on record."""
    if not (bench.folder / "collecting.tar.gz").exists():
        bench.release = make_collecting_release(bench.folder / "collecting.tar.gz")
    assert bench.install(capsys).code == 0

    def run(*argv):
        return bench.run(capsys, *argv, "--sandbox")

    if not bench.owner().get("runs"):
        assert run("schedule-gc", "--run-now").code == 0
    return run


class TestLogs:
    def test_of_the_server_without_a_write(self, bench, here):
        bench.forget_calls()

        shown = here("logs")
        short = here("logs", "--lines", "1", "--json")
        proxy = here("logs", "--part", "events", "--json")

        assert (shown.code, short.code, proxy.code) == (0, 0, 0), shown.err
        assert "serving with" in shown.out
        assert "deployment dev.mlflow.tracking.server" in shown.err
        assert len(short.data["lines"]) == 1
        assert proxy.data["source"]["part"] == "events"
        assert bench.writes() == []

    def test_of_a_run_by_id_and_of_the_latest(self, bench, here):
        newest = max(bench.owner().get("runs"), key=lambda run: run["created"])

        latest = here("logs", "--run", "latest")
        verbose = here("logs", "--run", "latest", "-v", "-n", "1")
        named = here("logs", "--run", newest["id"], "--json")
        of_gc = here("logs", "--run", "gc", "--json")
        short = here("logs", "--run", newest["id"][:11], "--json")
        missing = here("logs", "--run", "a2-" + "0" * 32)
        never = [here("logs", "--run", job) for job in ("backup", "check", "drill")]

        assert "collecting older than 30d0h0m0s" in latest.out
        assert '"outcome"' not in latest.out + latest.err
        assert f"run {newest['id'][:11]}: " in latest.err
        assert '"outcome": "done"' in verbose.out.splitlines()[-1]
        assert "collecting older than 30d0h0m0s" in named.data["lines"]
        assert [shown.data["source"]["id"] for shown in (of_gc, short)] == [newest["id"]] * 2
        assert_error(missing, 15, "There is no run", "--run latest")
        for shown in never:
            assert_error(shown, 15, "of this project has not run yet")

    def test_follows_a_run_to_its_end(self, bench, here):
        gate = bench.folder / "gate"
        assert here("schedule-gc", "--variable", f"GATE={gate}").code == 0
        owner = bench.owner()
        run = owner.post(f"jobs/{owner.get('jobs')[0]['id']}/runs")

        with bench.spawn("logs", "--follow", "--run", run["id"], "--sandbox") as process:
            assert "collecting" in next(line for line in process.stdout if "older than" in line)
            gate.touch()
            out, err = process.communicate(timeout=200)

        assert process.returncode == 0
        assert '"outcome"' not in out + err
        assert "deleted 2 runs" in err

    def test_following_begins_with_the_last_lines(self, bench, here):
        newest = max(bench.owner().get("runs"), key=lambda run: run["created"])
        whole = here("logs", "--run", newest["id"], "-n", "0").out.splitlines()

        followed = here("logs", "--follow", "--run", newest["id"], "-n", "2")  # the last one is its report

        assert len(whole) > 1
        assert followed.out.splitlines() == whole[-1:]

    def test_follows_the_server_until_ctrl_c(self, bench, here):
        with bench.spawn("logs", "--follow", "--sandbox") as process:
            assert next(line for line in process.stdout if "serving with" in line)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=200)

        assert process.returncode == 0
        assert "Traceback" not in err

    @pytest.mark.parametrize("options", [("--part", "kernel"), ("--follow", "--json")])
    def test_what_does_not_go_together(self, bench, capsys, options):
        assert bench.run(capsys, "logs", *options).code == 2


class TestOpen:
    def test_prints_the_address_and_starts_the_browser(self, bench, here):
        seen = bench.folder / "seen"
        script = bench.folder / "browser.sh"
        script.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
        script.chmod(0o700)
        environment = bench.environment(BROWSER=f"{script} %s")

        done = bench.process("open", "--sandbox", environment=environment)

        url = done.out.strip()
        assert done.code == 0, done.err
        assert url == here("open", "--json").data["url"] == here("open", "--no-browser").out.strip()
        wait_for(lambda: seen.exists() and seen.read_text().strip() == url, "the browser")

    def test_a_machine_without_a_browser_gets_a_note(self):
        assert browse("https://server.example.com", lambda _url: False) is False
        assert browse("https://server.example.com", lambda _url: True) is True
        with pytest.raises(UnexpectedAnswer):
            browse("file:///etc/passwd", lambda _url: True)


class TestShare:
    def test_adds_lists_and_removes_and_notes_what_install_will_change(self, bench, capsys, here):
        (deployment,) = bench.owner().get("deployments")
        path = f"deployments/{deployment['id']}/collaborators"

        added = here("share", "--user", "dev-user", "--json")
        again = here("share", "--user", "dev-user", "--json")
        listed = here("share", "--json")
        installed = bench.install(capsys)
        removed = here("share", "--remove", "--user", "dev-user", "--group", "everyone")
        now = bench.owner().get(path)
        restored = bench.install(capsys)

        assert [added.data["outcome"], again.data["outcome"], listed.data["outcome"]] == [
            "changed",
            "unchanged",
            "done",
        ]
        assert "users: [dev-user]" in added.data["notes"][0]
        assert listed.data["shared"] == [
            {"kind": "group", "name": "everyone", "configured": True},
            {"kind": "user", "name": "dev-user", "configured": False},
        ]
        assert installed.data["stages"][12]["outcome"] == "unchanged"
        assert now == []
        assert "The next `install --sandbox` will share with them again" in removed.err
        assert restored.data["stages"][12]["outcome"] == "changed"
        assert [c["id"] for c in bench.owner().get(path)] == ["everyone"]

    def test_an_unknown_user_is_refused_by_name(self, here):
        refused = here("share", "--user", "nobody-of-that-name")

        assert_error(refused, 16, "nobody-of-that-name", "Check the names")
        assert "Run this again" not in refused.err

    @pytest.mark.parametrize("options", [("--remove",), ("--user", "a b"), ("--group", "")])
    def test_what_cannot_be_meant(self, bench, capsys, options):
        assert bench.run(capsys, "share", *options).code == 2

    def test_a_lost_or_refused_write_is_repeated(self, bench, here):
        for fault in ({"drop": "after"}, {"drop": "before"}, {"status": 503}):
            with bench.fault("PUT", "collaborators$", times=1, **fault):
                first = here("share", "--user", "dev-user")
            second = here("share", "--user", "dev-user", "--json")

            assert first.code in (0, 10, 16, 18), first.err
            assert {item["name"] for item in second.data["shared"]} == {"everyone", "dev-user"}
            assert here("share", "--remove", "--user", "dev-user").code == 0


class TestHistory:
    def test_shows_who_did_what_and_how_it_ended(self, bench, here):
        here("share", "--user", "nobody-of-that-name")
        here("share", "--user", "dev-user")
        here("share", "--remove", "--user", "dev-user")
        bench.forget_calls()

        shown = here("history", "--limit", "3")
        data = here("history", "--limit", "3", "--json").data

        assert [entry["outcome"] for entry in data["entries"]] == ["done", "done", "Refused"]
        assert "nobody-of-that-name" in data["entries"][2]["trouble"][0]
        assert data["entries"][1]["changed"][0].startswith("share with user dev-user")
        assert all(entry["who"] and entry["began"] for entry in data["entries"])
        assert re.search(r"^✗  20\d\d-\d\d-\d\d \d\d:\d\d  share +[\d.]+ s  failed \(refused\) +0$", shown.out, re.M), (
            shown.out
        )
        assert shown.out.count("  share  ") == 3
        assert "The last 3 of " in shown.out
        assert "+ share with user dev-user" in here("history", "--limit", "3", "-v").out
        assert bench.calls() == []

    def test_a_killed_run_is_shown_as_unfinished(self, bench, here):
        (journal,) = (bench.folder / "state").glob("localhost*/journal.jsonl")
        line = {"time": "2026-01-01T00:00:00+00:00", "who": "a@b", "verb": "install", "event": "begin"}
        with journal.open("a") as file:
            file.write(json.dumps(line) + "\n" + '{"time": "2026-01-01T00:00:0')

        shown = here("history", "--limit", "1")

        assert "unfinished: killed" in shown.out
        assert "1 line of" in shown.err
        journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-2]))

    def test_of_an_installation_that_never_was(self, bench, capsys):
        shown = bench.run(
            capsys, "history", "--sandbox", "--config", str(bench.configure("project: {name: another}\n"))
        )

        assert (shown.code, shown.out) == (0, "No operations recorded on this machine.\n")


@pytest.fixture
def with_consumer(bench, capsys, here):
    path = bench.configure(json.dumps(CONSUMER))
    assert bench.install(capsys, "--config", str(path)).code == 0
    return ["--config", str(path)]


class TestUninstall:
    def test_lists_what_goes_and_does_nothing_without_consent(self, bench, here):
        config = bench.configure("consumers: [{file: token}, {file: no-token}]\n")
        (bench.folder / "token").touch()
        before = bench.everything()
        bench.forget_calls()

        refused = here("uninstall", "--json", "--config", str(config))

        assert_error(refused, 14, "Not confirmed", "--yes")
        for words in (
            "stop deployment dev.mlflow.tracking.server",
            "job run record",
            "Stays (-v shows where): the account",
            ", token file (delete it: its token is invalid without the server)",
        ):
            assert words in refused.err
        assert bench.writes() == []
        assert bench.everything() == before

    def test_where_there_is_nothing_there_is_nothing_to_do(self, bench, here):
        nothing = here("uninstall", "--config", str(bench.configure("project: {name: another}\n")), "--json")

        assert (nothing.code, nothing.data["outcome"]) == (0, "unchanged")
        assert len(bench.owner().get("deployments")) == 1

    def test_removes_all_but_account_data_secrets_and_archive_and_can_be_repeated(self, bench, capsys, here):
        owner = bench.owner()
        secrets = owner.get("credentials/user")["data"]
        (job,) = owner.get("jobs")
        gate = bench.folder / "never"
        assert here("schedule-gc", "--variable", f"GATE={gate}").code == 0
        (job,) = owner.get("jobs")
        owner.post(f"jobs/{job['id']}/runs")  # active when the uninstall starts

        done = here("uninstall", "--yes", "--json")
        state = json.loads(next((bench.folder / "state").glob("localhost*/state.json")).read_text())
        bench.forget_calls()
        again = here("uninstall", "--json")

        assert (done.code, done.data["outcome"]) == (0, "changed"), done.err
        assert state["tokens"] == {}
        assert "MLFLOW_BACKEND_STORE_URI" in state["secrets"]["mlflow-service"]
        for kind in ("deployments", "jobs", "runs"):
            assert owner.get(kind) == []
        assert [p for p in owner.get("projects") if p["owner"] == ACCOUNT] == []
        assert owner.get("credentials/user")["data"] == secrets
        assert (again.code, again.data["outcome"]) == (0, "unchanged")
        assert bench.writes() == []
        back = bench.install(capsys, "--release", done.data["archive"])
        assert back.code == 0, back.err
        assert bench.install(capsys).data["stages"][5]["outcome"] == "unchanged"

    def test_secrets_go_on_demand_also_those_of_consumers(self, bench, capsys, with_consumer, here):
        consumer = Client(bench.info, "dev-user")
        consumer.post("credentials/user", {"key": "MINE", "value": "x"})
        owner = bench.owner()
        owner.post("credentials/user", {"key": "SOMEBODY_ELSES", "value": "x"})

        kept = here("uninstall", "--yes", *with_consumer)
        purged = here("uninstall", "--yes", "--purge-secrets", "--json", *with_consumer)
        again = here("uninstall", "--purge-secrets", *with_consumer)

        assert kept.code == 0, kept.err
        assert purged.data["outcome"] == "changed", purged.err
        assert owner.get("credentials/user")["data"] == ["SOMEBODY_ELSES"]
        assert consumer.get("credentials/user")["data"] == ["MINE"]
        assert again.out == "✓ Unchanged: nothing is installed.\n"
        state = json.loads(next((bench.folder / "state").glob("localhost*/state.json")).read_text())
        assert (state["secrets"], state["tokens"], state["shared"]) == ({}, {}, [])

    def test_a_consumer_that_cannot_be_reached_is_named_and_the_rest_is_done(
        self, bench, with_consumer, here, monkeypatch
    ):
        monkeypatch.setenv("WRONG", "wrong-consumer-password")
        wrong = {**CONSUMER, "consumers": [{"username": "dev-user", "password": "env:WRONG"}]}
        path = bench.configure(json.dumps(wrong))

        partly = here("uninstall", "--yes", "--purge-secrets", "--config", str(path))
        done = here("uninstall", "--yes", "--purge-secrets", *with_consumer)

        assert_error(partly, 23, "dev-user")
        assert "wrong-consumer-password" not in partly.out + partly.err
        assert done.code == 0, done.err
        assert "MLFLOW_TRACKING_TOKEN" not in Client(bench.info, "dev-user").get("credentials/user")["data"]

    def test_a_consumer_taken_out_of_the_configuration_is_served_too(self, bench, with_consumer, here):
        consumer = Client(bench.info, "dev-user")
        assert "MLFLOW_TRACKING_TOKEN" in consumer.get("credentials/user")["data"]

        done = here("uninstall", "--yes", "--purge-secrets", "--json")

        assert done.code == 0, done.err
        assert any(change["name"] == "dev-user" for change in done.data["changes"])
        assert [n for n in consumer.get("credentials/user")["data"] if n.startswith("MLFLOW_")] == []

    def test_and_named_where_that_is_not_possible(self, bench, with_consumer, here):
        with bench.fault("POST", "/impersonation$", skip=1, times=None, status=403):
            partly = here("uninstall", "--yes", "--purge-secrets")
        done = here("uninstall", "--yes", "--purge-secrets")

        assert_error(partly, 23, "dev-user")
        assert "Unchanged" not in partly.out
        assert done.code == 0, done.err
        assert "MLFLOW_TRACKING_TOKEN" not in Client(bench.info, "dev-user").get("credentials/user")["data"]

    @pytest.mark.parametrize("fault", [{"drop": "before"}, {"status": 503}], ids=str)
    def test_lost_and_refused_deletes_leave_nothing_in_the_end(self, bench, here, fault):
        """Lost answers, a single refusal and kills at each request: tests/convergence."""
        kinds = ("jobs", "runs", "deployments", "projects")
        with contextlib.ExitStack() as faults:
            for kind in kinds:
                times = 3 if (kind, "status" in fault) == ("deployments", True) else 1  # so often that the run gives up
                faults.enter_context(bench.fault("DELETE", f"/{kind}/", times=times, **fault))
            runs = [here("uninstall", "--yes")]
            while runs[-1].code != 0 and len(runs) <= len(kinds):
                runs.append(here("uninstall", "--yes"))
        again = here("uninstall", "--json")

        for run in runs[:-1]:
            assert run.code in (10, 16, 18), run.err
            assert_no_accident(run)
        assert (runs[-1].code, again.data["outcome"]) == (0, "unchanged"), runs[-1].err
        found = bench.everything()
        assert [found[kind] for kind in ("projects", "deployments", "jobs")] == [[], [], []]
        kept = [file.name.partition("-")[2] for file in (bench.folder / "state").glob("localhost*/removed/*")]
        assert len(kept) == len(set(kept))  # one archive of each project, however often it was interrupted

    def test_an_account_that_does_not_exist_has_nothing_left(self, bench, capsys):
        nothing = bench.run(capsys, "uninstall", "--sandbox", "--username", "never-was")

        assert (nothing.code, nothing.out) == (0, "✓ Unchanged: nothing is installed.\n")
