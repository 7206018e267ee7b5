"""`doctor` on a sandbox: what it reports, and that it leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json

import pytest

from mlflow_ae5_deploy.config.state_dir import installation_dir
from mlflow_ae5_deploy.operations.doctor.findings import GROUPS
from tests.cli.answers import errors_of
from tests.cli.bench import ACCOUNT
from tests.cli.rotating import stored
from tests.sandbox.support import APP, PROJECT_FILE, credentials, make_project_archive

NOWHERE = "localhost:1"  # nothing listens there
SEVERITIES = {"ok", "info", "warning", "error", "skipped"}
GOOD = {
    "command": "Check",
    "outcome": "ok",
    "exit_code": 0,
    "database": {
        "ok": True,
        "message": "sqlite answers, its schema is current",
        "revision": "abc",
        "expected_revision": "abc",
    },
    "artifacts": {"ok": True, "message": "data is writable"},
    "server": {"ok": True, "message": "lets this job in"},
}
BAD = {
    **GOOD,
    "outcome": "failed",
    "database": {"ok": False, "message": "the database refused the login", "hint": "correct user and password"},
}


# Says what the secret CHECK_REPORT tells it to say.
CHECKING = PROJECT_FILE.replace(
    "commands:\n",
    "commands:\n  Check:\n    unix: 'cat $MLFLOW_AE5_SECRETS_DIR/CHECK_REPORT; echo'\n    env_spec: default\n",
)


def release_with(bench, name, *, file=PROJECT_FILE, app=APP):
    return make_project_archive(bench.folder / name, project_file=file, files={"app.py": app})


def doctor(bench, capsys, *argv, release=None):
    seen = bench.run(capsys, "doctor", "--sandbox", "--json", "--release", str(release or bench.release), *argv)
    return seen, {finding["check"]: finding for finding in seen.data["findings"]}


def doctor_nowhere(bench, capsys, *argv):
    return bench.run(capsys, "doctor", "--json", "--hostname", NOWHERE, "--username", ACCOUNT, *argv)


def test_before_the_first_install_there_is_no_error_and_no_write(bench, capsys):
    bench.forget_calls()

    seen, found = doctor(bench, capsys)

    assert seen.code == 0, seen.out
    assert bench.writes() == []
    assert found["login"]["message"] == f"`{ACCOUNT}` does not exist yet; `install` creates it"
    assert found["server"]["severity"] == "skipped"
    assert {"python", "ae5-tools", "dns", "reachable", "tls", "clock", "release", "database-driver"} <= set(found)


# the configuration; the environment; check and words of every error about credentials
LACKING = [
    ("nothing", "", {}, [("credentials", "No password for")]),
    ("no password of the admin", "", {"AE5_ADMIN_USERNAME": "boss"}, [("credentials", "are incomplete")]),
    (
        "nor beside the account's own",
        "admin:\n  username: boss\n",
        {"AE5_PASSWORD": "account-pw"},
        [("credentials", "are incomplete")],
    ),
    (
        "nowhere, and nowhere",
        "account:\n  password: env:NOT_SET\nserver:\n  secrets:\n    A_KEY: file:gone\n    B_KEY: env:NOT_SET_EITHER\n",
        {},
        [
            ("credentials", "NOT_SET, which holds the account.password"),
            ("secret-references", "holds the server.secrets.A_KEY cannot be read"),
            ("secret-references", "NOT_SET_EITHER, which holds the server.secrets.B_KEY"),
        ],
    ),
    (
        "a consumer's",
        "consumers:\n  - username: reporting\n",
        {"AE5_PASSWORD": "account-pw"},
        [("consumer-credentials", "as the consumer `reporting`")],
    ),
    ("all there", "", {"AE5_PASSWORD": "account-pw"}, []),
]


@pytest.mark.parametrize(
    ("config", "environment", "errors"), [row[1:] for row in LACKING], ids=[row[0] for row in LACKING]
)
def test_missing_credentials_are_all_reported_without_a_request(
    bench, capsys, monkeypatch, config, environment, errors
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    seen = doctor_nowhere(bench, capsys, "--config", str(bench.configure(config or "{}\n")))

    about = ("credentials", "consumer-credentials", "secret-references")
    found = [item for item in seen.data["findings"] if item["severity"] == "error" and item["check"] in about]
    assert seen.code == 20
    assert [item["check"] for item in found] == [check for check, _ in errors]
    for item, (_, words) in zip(found, errors, strict=True):
        assert words in item["message"]
        assert item["remedy"]
    assert "account-pw" not in seen.out + seen.err


def test_without_credentials_there_is_one_error_and_no_login(bench, capsys, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bench.info.ca_file))
    bench.forget_calls()

    seen = bench.run(capsys, "doctor", "--json", "--hostname", bench.info.hostname, "--username", ACCOUNT)

    found = {item["check"]: item for item in seen.data["findings"]}
    assert (seen.code, found["credentials"]["severity"], found["reachable"]["severity"]) == (20, "error", "ok")
    assert found["login"]["message"] == "there are no credentials to sign in with"
    assert seen.out.count("no administrator to impersonate it") == 1
    assert not [call for call in bench.calls() if "login" in call["path"] or "/auth/" in call["path"]]


def test_a_state_folder_that_cannot_be_used_is_found(bench, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("open", "own"):
        (tmp_path / name).mkdir()
    (tmp_path / "open").chmod(0o777)
    installation_dir(tmp_path / "own", NOWHERE, ACCOUNT, "mlflow.tracking.server").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for folder, severity in (
        (tmp_path / "new" / "state", "ok"),
        (tmp_path / "file", "error"),
        (tmp_path / "file" / "state", "error"),
        (tmp_path / "open", "error"),
        (tmp_path / "own", "error"),
    ):
        monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(folder))
        seen = doctor_nowhere(bench, capsys)
        (finding,) = [item for item in seen.data["findings"] if item["check"] == "state-folder"]
        assert (finding["severity"], str(folder) in finding["message"]) == (severity, True), finding
        assert bool(finding["remedy"]) == (severity == "error")
    assert sorted(tmp_path.rglob("*")) == before


class TestInstalled:
    def test_reports_no_error_without_a_write(self, bench, capsys):
        bench.install(capsys)
        bench.forget_calls()

        seen, found = doctor(bench, capsys)

        assert seen.code == 0, seen.out
        assert bench.writes() == []
        assert seen.data["outcome"] == "passed"
        assert found.pop("backup-destination")["severity"] == "warning"  # the default keeps all on one volume
        assert found.pop("status")["message"] == "No backup recorded on this machine."
        assert {finding["severity"] for finding in found.values()} <= SEVERITIES - {"error", "warning"}
        assert sum(seen.data["counts"].values()) == len(found) + 2
        for check in ("tls", "login", "rights", "resource-profiles", "endpoint-name", "server", "allowed-hosts",
                      "gc-job"):  # fmt: skip
            assert found[check]["severity"] == "ok", found[check]
        assert found["token"]["severity"] == "info", "it is not tested"
        assert found["database-from-platform"]["severity"] == "skipped"
        assert "--from-platform" in found["database-from-platform"]["remedy"]
        assert {finding["group"] for finding in found.values()} == set(GROUPS)

    def test_a_person_reads_a_line_for_each_group_and_what_is_not_fine_with_a_remedy(self, bench, capsys):
        bench.install(capsys)
        config = bench.configure("deployment: {resource_profile: huge}\nbackup: {resource_profile: tiny}\n")

        seen = bench.run(capsys, "doctor", "--sandbox", "--release", str(bench.release), "--config", str(config))

        assert seen.code == 20
        every = bench.run(capsys, "doctor", "--sandbox", "--release", str(bench.release), "--config", str(config), "-v")

        assert "✓ platform 4 checks ok\n" in seen.out
        shown = " ".join(seen.out.split())
        for profile, setting in (("huge", "deployment"), ("tiny", "backup")):
            assert f"The platform has no resource profile `{profile}`. ({setting}.resource_profile)" in shown
        assert "\n           Use one of: default, large.\n" in seen.out
        assert "- inside   4 checks skipped: they need a job on the platform\n" in seen.out
        assert "1 error, 4 skipped (`doctor -v " in seen.out.splitlines()[-1]
        assert "dns  localhost is 127.0.0.1" not in seen.out
        assert "✓ platform dns        localhost is 127.0.0.1\n" in every.out

    @pytest.mark.parametrize(("schedule", "severity"), [("null", "warning"), ("'0 2 * * *'", "error")])
    def test_the_profile_of_backups_is_an_error_only_where_install_needs_it(self, bench, capsys, schedule, severity):
        config = bench.configure(f"backup: {{resource_profile: tiny, schedule: {schedule}}}\n")

        installed = bench.install(capsys, "--config", str(config))
        seen, found = doctor(bench, capsys, "--config", str(config))

        finding = found["resource-profiles"]
        assert (finding["severity"], installed.code == 0, seen.code == 0) == (severity, *[severity == "warning"] * 2)
        assert finding["message"].endswith("and `upgrade` need it.") is (severity == "warning")

    def test_a_stopped_server_and_an_invalid_token_are_errors_with_remedies(self, bench, capsys):
        bench.install(capsys)
        owner = bench.owner()
        (deployment,) = owner.get("deployments")
        owner.call("PATCH", f"deployments/{deployment['id']}", json={"public": True})
        owner.call("DELETE", "credentials/user/MLFLOW_TRACKING_TOKEN")

        seen, found = doctor(bench, capsys)

        assert seen.code == 20
        assert "public" in found["server"]["message"]
        assert found["token"]["severity"] == "error"
        assert all(finding["remedy"] for finding in found.values() if finding["severity"] == "error")
        assert bench.install(capsys, "--yes").code == 0

    def test_a_server_that_rejects_a_form_of_its_own_name_is_found_out(self, bench, capsys):
        picky = APP.replace(
            '        path = self.path.partition("?")[0]\n',
            '        path = self.path.partition("?")[0]\n'
            '        if path.startswith("/api") and ":" not in self.headers["Host"]:\n'
            '            return self.answer("Invalid Host header - possible DNS rebinding", "text/plain", 403)\n',
            1,
        )
        release = release_with(bench, "picky.tar.gz", app=picky)
        done = bench.install(capsys, "--release", str(release), "--replace")
        assert done.code == 0, done.err

        seen, found = doctor(bench, capsys, release=release)

        assert seen.code == 20
        assert found["server"]["severity"] == "ok"
        assert "rejects the host name localhost with 403" in found["allowed-hosts"]["message"]


def test_a_release_without_the_check_command_is_skipped_with_the_reason(bench, capsys):
    bench.install(capsys, "--replace")
    seen, found = doctor(bench, capsys, "--from-platform")
    assert seen.code == 0, seen.out
    assert found["database-from-platform"]["severity"] == "skipped"
    assert "no command `Check`" in found["database-from-platform"]["message"]


class TestConnection:
    AUTHORITY = "signed by an unknown authority. It says: for localhost"

    @pytest.mark.parametrize(
        ("hostname", "check", "message"),
        [
            (NOWHERE, "reachable", "nothing listens there"),
            ("no-such-host.invalid", "dns", "does not resolve"),
            (None, "tls", AUTHORITY),
        ],
    )
    def test_a_failed_step_is_one_error_and_what_follows_is_skipped(self, bench, capsys, hostname, check, message):
        words = ("--hostname", hostname or bench.info.hostname, "--username", "x")
        seen = bench.run(capsys, "doctor", "--json", *words)

        found = {finding["check"]: finding for finding in seen.data["findings"]}
        assert seen.code == 20
        assert (found[check]["severity"], message in found[check]["message"]) == ("error", True), found[check]
        assert found[check]["remedy"]
        assert found[check]["message"].count(words[1]) <= 1
        for later in ("login", "endpoint-dns", "endpoint-tls", "server"):
            assert (found[later]["severity"], found[later]["message"]) == ("skipped", "the platform cannot be reached")


class TestFromPlatform:
    """Last, because another release is installed for it."""

    @pytest.fixture
    def release(self, bench, capsys):
        release = release_with(bench, "checking.tar.gz", file=CHECKING)
        done = bench.install(capsys, "--release", str(release), "--replace")
        assert done.code == 0, done.err
        return release

    def report(self, bench, report):
        bench.owner().post("credentials/user", {"key": "CHECK_REPORT", "value": json.dumps(report)})

    def test_the_log_of_the_job_is_shown_with_verbose_only(self, bench, capsys, release):
        own = 'settings (1):\n  A_SETTING  1\nprogress {"phase": "check-database"}\nlooking at the database\n'
        bench.owner().post("credentials/user", {"key": "CHECK_REPORT", "value": own + json.dumps(GOOD)})
        words = ("doctor", "--sandbox", "--from-platform", "--release", str(release))

        short, verbose = bench.run(capsys, *words), bench.run(capsys, *words, "-v")

        assert (short.code, verbose.code) == (0, 0), short.out
        assert "schema is current (revision abc)" in short.out
        assert "(`doctor -v --from-platform " in short.out.splitlines()[-1]
        for text in ("progress {", '"outcome"', "A_SETTING", "looking at the database"):
            assert text not in short.out + short.err
        for text in ("  | looking at the database", '  | {"command": "Check"', "  |   A_SETTING"):
            assert text in verbose.err
        assert "progress {" not in verbose.out + verbose.err

    def leftovers(self, bench):
        owner = bench.owner()
        names = [job["name"] for job in owner.get("jobs")] + [run["name"] for run in owner.get("runs")]
        return [name for name in names if "doctor" in name]

    @pytest.mark.parametrize(
        ("report", "exit_code", "severities"),
        [
            (GOOD, 0, ("ok", "ok", "ok")),
            (BAD, 20, ("error", "ok", "ok")),
            ({"nothing": 1}, 20, ("error", "error", "error")),
        ],
    )
    def test_a_temporary_job_reports_and_is_deleted(self, bench, capsys, release, report, exit_code, severities):
        self.report(bench, report)

        seen, found = doctor(bench, capsys, "--from-platform", release=release)

        assert seen.code == exit_code, seen.out
        checks = ("database-from-platform", "artifacts-from-platform", "endpoint-from-platform")
        assert tuple(found[check]["severity"] for check in checks) == severities
        assert self.leftovers(bench) == []
        if report is GOOD:
            assert found["database-from-platform"]["message"].endswith("schema is current (revision abc)")
        journal = next((bench.folder / "state").glob("localhost*/journal.jsonl")).read_text().splitlines()
        assert json.loads(journal[-1])["event"] == "end"

    def test_the_next_run_deletes_what_an_interrupted_job_left(self, bench, capsys, release):
        self.report(bench, GOOD)
        no_log = bench.fault("GET", "/runs/.*/logs$", status=403, times=None)
        with no_log, bench.fault("DELETE", "/jobs/", status=403, times=None):
            cut, found = doctor(bench, capsys, "--from-platform", release=release)
        assert (cut.code, found["database-from-platform"]["severity"]) == (20, "error")
        assert self.leftovers(bench)

        seen, _ = doctor(bench, capsys, "--from-platform", release=release)

        assert seen.code == 0, seen.out
        assert self.leftovers(bench) == []


@pytest.mark.skipif(importlib.util.find_spec("ae5_tools") is None, reason="ae5-tools is not installed here")
class TestOnAClusterThroughAe5Tools:
    """The sandbox plays the cluster; without --sandbox it is reached as one."""

    @pytest.fixture(autouse=True)
    def cluster(self, bench, monkeypatch):
        monkeypatch.setenv("AE5_HOSTNAME", bench.info.hostname)
        monkeypatch.setenv("AE5_USERNAME", ACCOUNT)
        monkeypatch.setenv("AE5_PASSWORD", credentials(bench.info)["reserved"][ACCOUNT])
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bench.info.ca_file))

    def test_what_is_seen(self, bench, capsys):
        seen = bench.run(capsys, "doctor", "--json", "--from-platform", "--release", str(bench.release))
        status = bench.run(capsys, "status", "--json", "--release", str(bench.release))

        found = {finding["check"]: finding["severity"] for finding in seen.data["findings"]}
        for check in ("ae5-tools", "tls", "login", "rights", "server", "allowed-hosts", "database-from-platform"):
            assert found[check] == "ok", seen.out
        assert seen.code == 0
        assert (status.data["api"]["status"], errors_of(status.data)) == ("healthy", [])

    def test_a_token_of_the_environment_hides_no_problem_of_the_stored_ones(self, bench, capsys, monkeypatch):
        config = ("--config", str(bench.configure("consumers: [file: token]\n")))
        rotated = bench.run(capsys, "rotate-token", "--sandbox", *config)
        (bench.folder / "token").unlink()
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", stored(bench))

        seen = bench.run(capsys, "doctor", "--json", "--release", str(bench.release), *config)

        found = [(item["check"], item["severity"], item["message"]) for item in seen.data["findings"]]
        assert ("token", "ok", "the token of the environment (MLFLOW_TRACKING_TOKEN) opens the endpoint") in found
        lost = f"The token file {bench.folder / 'token'} does not exist."
        assert ("status", "error", lost) in found, rotated.err
        assert seen.code == 20
