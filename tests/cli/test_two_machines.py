"""Two administrators on two machines: one run at a time, and the other is told whose it is.

Where no lease says so any more, neither deletes what the other's operation needs, as far as AE5 shows it.
"""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.engine.journal import operator
from mlflow_ae5_deploy.engine.lease import Lease, parse, scope_of
from tests.cli.answers import assert_error
from tests.cli.rotating import opens, stored, volume
from tests.cli.snapshotting import make_snapshotting_release
from tests.sandbox.support import wait_for

UPGRADE = ("upgrade", "--yes", "--no-rehearsal", "--release", "SECOND")


@pytest.fixture(scope="module")
def releases(module_bench):
    folder = module_bench.folder
    return {
        "FIRST": make_snapshotting_release(folder / "first.tar.gz"),
        "SECOND": make_snapshotting_release(folder / "second.tar.gz", schema="schema-2", version="3.18.0"),
    }


@pytest.fixture
def site(bench, capsys, releases):
    """The first release is installed from the first machine; nothing holds or is left."""
    bench.control("DELETE", "/faults")
    for gate in volume(bench).glob("gate-*"):
        gate.unlink()
    if (volume(bench) / "db").exists():
        (volume(bench) / "db").write_text("schema-1\n")
    bench.release = releases["FIRST"]
    assert bench.run(capsys, "uninstall", "--sandbox", "--yes", "--force").code == 0
    assert bench.install(capsys).code == 0
    assert bench.run(capsys, "backup", "--sandbox").code == 0
    return bench


def words(releases, given) -> list[str]:
    return [str(releases.get(word, word)) for word in given]


def elsewhere(site, capsys, releases, *given: str, machine: str = "elsewhere"):
    """On the second machine: nothing of what the first one knows but the platform."""
    other = site.folder / machine
    other.mkdir(exist_ok=True, mode=0o700)
    if not (other / "sandbox").exists():
        (other / "sandbox").symlink_to(site.folder / "state" / "sandbox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(other))
        return site.run(capsys, *words(releases, given), "--sandbox")


def leases(site) -> list[Lease]:
    names = site.owner().get("credentials/user")["data"]
    return [lease for name in names if (lease := parse(name)) is not None]


def expire(site) -> None:
    """As if the terms of all leases were over.

    Clearly over: `since` may be a second ahead of the platform's clock, and its answers leave out the part of a second.
    """
    owner = site.owner()
    for lease in leases(site):
        expired = replace(lease, expires=lease.since - timedelta(minutes=1))
        owner.post("credentials/user", {"key": expired.name, "value": "-"})
        owner.call("DELETE", f"credentials/user/{lease.name}")


def jobs(site) -> list[str]:
    return [job["name"] for job in site.owner().get("jobs")]


DESTRUCTIVE = [
    ("uninstall", "--yes"),
    ("install", "--replace", "--yes", "--release", "SECOND"),
    ("rotate-token", "--restart", "--yes"),
    ("restore", "--replace", "--stop-server", "--yes", "--release", "FIRST"),
    UPGRADE,
    ("backup",),
]


def test_while_a_job_of_the_other_machine_runs_no_verb_deletes_anything(site, capsys, releases):
    gate = volume(site) / "gate-Backup"
    gate.touch()
    with site.spawn(*words(releases, UPGRADE), "--sandbox") as process:
        wait_for(lambda: [r for r in site.owner().get("runs") if r["state"] == "running"], "the snapshot to be taken")
        before = (site.owner().get("deployments"), site.owner().get("projects"), jobs(site))

        for verb in DESTRUCTIVE:
            refused = elsewhere(site, capsys, releases, *verb)
            assert_error(refused, 22, f"Locked by another run: upgrade, {operator()}, since", "--lock-wait")
        expire(site)
        for verb in DESTRUCTIVE:
            refused = elsewhere(site, capsys, releases, *verb)
            assert_error(refused, 22, "machine", "`mlflow-ae5-deploy backup`", "Ask who else administers")
        assert (site.owner().get("deployments"), site.owner().get("projects"), jobs(site)) == before

        gate.unlink()
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert opens(site, stored(site)) == 200


MOMENTS = [
    ("upgrade, the server stopped", UPGRADE, "POST", "/jobs$", 2, "upgrade was interrupted"),
    ("upgrade, about to start", UPGRADE, "POST", "/deployments$", 0, "upgrade was interrupted"),
    ("restart, about to start", ("rotate-token", "--restart", "--yes"), "POST", "/deployments$", 0, "no server runs"),
    ("rehearsal", ("upgrade", "--rehearse", "--release", "SECOND"), "POST", "/jobs$", 0, "server.rehearsal` exists"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "given", "method", "path", "skip", "message"), MOMENTS, ids=[row[0] for row in MOMENTS]
)
def test_uninstall_is_refused_while_an_operation_of_the_other_machine_is_unfinished(
    site, capsys, releases, moment, given, method, path, skip, message
):
    with site.held([*words(releases, given), "--sandbox"], method, path, skip=skip) as process:
        held = elsewhere(site, capsys, releases, "uninstall", "--yes")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        killed = elsewhere(site, capsys, releases, "uninstall", "--yes")
    expire(site)
    later = elsewhere(site, capsys, releases, "uninstall", "--yes")

    for refused in (held, killed):
        assert_error(refused, 22, f"Locked by another run: {given[0]}", operator(), "the lock ends by itself at")
    assert_error(later, 22, message, "Nothing was changed")
    assert [p["name"] for p in site.owner().get("projects")]
    again = site.run(capsys, *words(releases, given), "--sandbox")
    assert again.code == 0, again.err
    assert leases(site) == []


def test_an_interrupted_upgrade_is_finished_where_it_was_started_or_given_up_by_name(site, capsys, releases):
    with site.held([*words(releases, UPGRADE), "--sandbox"], "POST", "/jobs$", skip=2) as process:
        seen = elsewhere(site, capsys, releases, "status", "--json")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    here = site.run(capsys, "status", "--sandbox", "--json")
    expire(site)
    calls = ("install", "--release", "FIRST"), ("uninstall", "--yes"), ("backup", "prune", "--keep-last", "1", "--yes")
    calls += (("restore", "--replace", "--stop-server", "--yes", "--release", "FIRST"), UPGRADE, ("rotate-token",))
    before = site.everything()

    for verb in calls:
        refused = elsewhere(site, capsys, releases, *verb)
        assert_error(refused, 22, f"Another machine's upgrade was interrupted: {operator()}, since", "--break-lock")
    after = elsewhere(site, capsys, releases, "status", "--json")
    listed = elsewhere(site, capsys, releases, "backup", "list")

    assert site.everything() == before
    assert listed.code == 0, listed.err
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    running = rf"upgrade, {re.escape(operator())}, since {time}; its lock ends at {time} unless that run renews it"
    assert re.fullmatch(running, seen.data["unfinished"]["running"])
    assert "upgrade-interrupted" in [problem["code"] for problem in after.data["problems"]]
    codes = [problem["code"] for problem in here.data["problems"]]
    assert ("upgrade-interrupted" in codes, "run-in-progress" in codes) == (True, False)  # the killed run is our own
    given_up = elsewhere(site, capsys, releases, "uninstall", "--yes", "--force", machine="third")
    assert given_up.code == 0, given_up.err
    assert leases(site) == []


def test_a_run_waits_for_that_of_another_machine(site, capsys, releases):
    site.forget_calls()
    with site.held(["schedule-gc", "--sandbox", "--cron", "30 3 * * 0"], "POST", "/jobs$") as first:
        refused = elsewhere(site, capsys, releases, "install", "--release", "FIRST", "--lock-wait", "1")
        site.control("DELETE", "/faults")
        waited = elsewhere(site, capsys, releases, "install", "--release", "FIRST", "--lock-wait", "60", "--yes")
        first.communicate(timeout=200)

    assert_error(refused, 22, f"Locked by another run: schedule-gc, {operator()}")
    assert (first.returncode, waited.code) == (0, 0), waited.err
    assert leases(site) == []


def token_words(outcome) -> list[str]:
    """The drift about the token, and the warnings about it."""
    stages = [*outcome.data["drift"], *outcome.data["not_compared"]]
    found = [problem["code"] for problem in outcome.data["problems"] if problem["code"].startswith("token")]
    return [*found, *(stage.get("message", "differs") for stage in stages if "token" in stage["name"])]


SET_ELSEWHERE = "not known here (set from another machine)"


def test_what_is_known_of_a_token_that_the_other_machine_stored(site, capsys, releases):
    """After a rotation, and after a restart."""
    first = ("--release", str(releases["FIRST"]), "--sandbox", "--json")
    planned = elsewhere(site, capsys, releases, "plan", "--release", "FIRST", "--json", machine="fresh")
    seen = elsewhere(site, capsys, releases, "status", "--release", "FIRST", "--json", machine="fresh")
    reasons = {c["reason"] for stage in planned.data["stages"] for c in stage["changes"] if "token" in stage["name"]}
    assert reasons == {SET_ELSEWHERE}
    assert token_words(seen) == [
        "token-not-known",
        f"issue a token: {SET_ELSEWHERE}",
        f"store the token for mlflow-service: {SET_ELSEWHERE}",
    ]

    assert elsewhere(site, capsys, releases, "rotate-token", "--restart", "--yes").code == 0
    here = site.run(capsys, "status", *first)

    why = "none recorded here for this deployment"
    assert token_words(here) == [
        "token-outdated",
        f"issue a token: {why}",
        f"store the token for mlflow-service: {why}",
    ]
    assert here.data["drift"] == []


def test_a_token_file_that_the_other_machine_wrote(site, capsys, releases):
    (site.folder / "scraper").mkdir(exist_ok=True)
    config = ("--config", str(site.configure("consumers: [file: scraper/token]\n")))
    status = ("status", "--release", str(releases["FIRST"]), "--sandbox", "--json", *config)
    assert site.install(capsys, "--yes", *config).code == 0
    assert token_words(site.run(capsys, *status)) == []

    assert elsewhere(site, capsys, releases, "rotate-token", *config).code == 0
    here = site.run(capsys, *status)
    shown = site.run(capsys, *(word for word in status if word != "--json"))

    assert "  Token      mlflow-service: stored here " in shown.out
    assert "another machine may have stored a newer one since" in " ".join(shown.out.split())
    assert here.code == 0
    why = "the file has another token than this machine wrote"
    file = site.folder / "scraper" / "token"
    assert token_words(here) == [
        "token-not-known",
        f"issue a token: {why}",
        "store the token for mlflow-service: the new one may invalidate the stored one; "
        f"store the token for {file}: {why}",
    ]
    assert "warning" in here.data["headline"]


def test_a_deleted_secret_is_missing_on_each_machine(site, capsys, releases):
    """Whatever of the account's secrets a machine has recorded: a backup stores one, and an install no keys."""
    assert elsewhere(site, capsys, releases, "backup", machine="only-backup").code == 0
    assert elsewhere(site, capsys, releases, "install", "--release", "FIRST", "--yes").code == 0
    deleted = ["MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_TRACKING_URI"]

    def absent(machine):
        seen = elsewhere(site, capsys, releases, "status", "--release", "FIRST", "--json", machine=machine)
        return seen.code, sorted(seen.data["secrets"]["missing"]), seen.data["secrets"]["new"]

    for name in deleted:
        site.owner().call("DELETE", f"credentials/user/{name}")
    assert absent("elsewhere") == (20, deleted, [])
    site.owner().call("DELETE", "credentials/user/MLFLOW_BACKEND_STORE_URI")
    assert absent("only-backup") == (20, sorted([*deleted, "MLFLOW_BACKEND_STORE_URI"]), [])


def test_names_made_by_hand(site, capsys, releases):
    """One that says nothing is named and ignored. One that can be read is believed, and deleting it is the way out."""
    owner, site_scope = site.owner(), scope_of("mlflow.tracking.server")
    by_hand = "MLFLOW_AE5_LEASE_DO_NOT_TOUCH"
    owner.post("credentials/user", {"key": by_hand, "value": "x"})

    ignored = site.install(capsys)

    assert ignored.code == 0, ignored.err
    assert [by_hand in warning for warning in ignored.data["warnings"]] == [True]
    owner.call("DELETE", f"credentials/user/{by_hand}")

    now = datetime.now(UTC).replace(microsecond=0)
    forever = Lease(site_scope, now, now.replace(year=9999), "0" * 8, False, "maintenance", "the\x1b[31m boss")
    owner.post("credentials/user", {"key": forever.name, "value": "x"})
    refused = site.run(capsys, "rotate-token", "--sandbox")
    assert_error(refused, 22, "Locked by another run: maintenance, the", f"secret {forever.name}", "9999")
    assert "\x1b" not in refused.err
    owner.call("DELETE", f"credentials/user/{forever.name}")
    assert site.run(capsys, "rotate-token", "--sandbox").code == 0


def test_force_uninstalls_in_spite_of_an_unfinished_operation(site, capsys, releases):
    (deployment,) = site.owner().get("deployments")
    site.owner().call("DELETE", f"deployments/{deployment['id']}")
    assert elsewhere(site, capsys, releases, "uninstall", "--yes").code == 22

    done = elsewhere(site, capsys, releases, "uninstall", "--yes", "--force")

    assert done.code == 0, done.err
    assert not site.owner().get("projects")
