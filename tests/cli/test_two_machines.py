"""Two administrators on two machines: neither deletes what the other's operation needs, as far as AE5 shows it."""

from __future__ import annotations

import signal

import pytest

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


def elsewhere(site, capsys, releases, *given: str):
    """On the second machine: nothing of what the first one knows but the platform."""
    other = site.folder / "elsewhere"
    other.mkdir(exist_ok=True, mode=0o700)
    if not (other / "sandbox").exists():
        (other / "sandbox").symlink_to(site.folder / "state" / "sandbox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(other))
        return site.run(capsys, *words(releases, given), "--sandbox")


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
            assert_error(refused, 22, "machine", "`mlflow-ae5-deploy backup`", "Ask who else administers")
        assert (site.owner().get("deployments"), site.owner().get("projects"), jobs(site)) == before

        gate.unlink()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert opens(site, stored(site)) == 200


MOMENTS = [
    ("upgrade, the server stopped", UPGRADE, "POST", "/jobs$", 2, "no server runs"),
    ("upgrade, about to start", UPGRADE, "POST", "/deployments$", 0, "no server runs"),
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

    for refused in (held, killed):
        assert_error(refused, 22, "An operation of another machine seems unfinished", message, "add --force")
    assert [p["name"] for p in site.owner().get("projects")]
    again = site.run(capsys, *words(releases, given), "--sandbox")
    assert again.code == 0, again.err


def test_force_uninstalls_in_spite_of_an_unfinished_operation(site, capsys, releases):
    (deployment,) = site.owner().get("deployments")
    site.owner().call("DELETE", f"deployments/{deployment['id']}")
    assert elsewhere(site, capsys, releases, "uninstall", "--yes").code == 22

    done = elsewhere(site, capsys, releases, "uninstall", "--yes", "--force")

    assert done.code == 0, done.err
    assert not site.owner().get("projects")
