"""The main job through `main(argv)`, on a sandbox whose server starts at once. Tests build on one another, in order."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.cli.answers import assert_error
from tests.cli.bench import ACCOUNT, make_release

# What an install without a change sends, between login and logout.
UNCHANGED = [
    "POST api/v2/credentials/user",  # the lock
    "GET api/v2/credentials/user",
    "GET api/v2/projects",
    "GET api/v2/projects/ID/revisions/latest/archive",
    "GET api/v2/deployments",
    "GET api/2.0/mlflow/experiments/search",
    "GET api/v2/deployments/ID/logs",
    "GET api/v2/deployments/ID/collaborators",
    "GET api/v2/jobs",
    "DELETE api/v2/credentials/user/LOCK",
]


def _shortened(call):
    path = re.sub("MLFLOW_AE5_LEASE.*", "LOCK", re.sub("a[0-9]-[0-9a-f]{32}", "ID", call["path"]))
    return f"{call['method']} {path.strip('/')}"


def outcomes(outcome):
    return {stage["name"]: stage["outcome"] for stage in outcome.data["stages"]}


class TestFirstInstall:
    def test_a_plan_before_anything_exists_writes_nothing(self, bench, capsys):
        options = ("plan", "--sandbox", "--release", str(bench.release))
        plan = bench.run(capsys, *options, "--json", "--exit-code")

        assert (plan.code, bench.run(capsys, *options).code, bench.run(capsys, *options, "--exit-code").code) == (
            30,
            0,
            30,
        )
        assert plan.data["outcome"] == "changes pending"
        assert len(plan.data["stages"]) == 14
        assert bench.writes() == []
        assert [path.name for path in (bench.folder / "state").iterdir()] == ["sandbox"]

    def test_installs_within_the_budget_of_requests(self, bench, capsys):
        bench.forget_calls()

        done = bench.install(capsys)

        assert done.code == 0, done.err
        assert done.data["outcome"] == "changed"
        assert [s["number"] for s in done.data["stages"]] == list(range(1, 15))
        platform = [(call["method"], call["path"]) for call in bench.calls() if call["surface"] == "platform"]
        polls = sum(call == following and call[0] == "GET" for call, following in pairwise(platform))
        assert len(platform) - polls <= 48  # 3 for the lock. How often something is awaited depends on the machine
        assert done.data["client"]["MLFLOW_TRACKING_URI"] == done.data["installation"]["url"]

    def test_the_platform_has_what_is_configured(self, bench):
        owner = bench.owner()
        (project,) = [p for p in owner.get("projects") if p["owner"] == ACCOUNT]
        (deployment,) = owner.get("deployments")
        (job,) = owner.get("jobs")

        assert project["name"] == "mlflow.tracking.server"
        assert deployment["name"] == "dev.mlflow.tracking.server"
        assert (deployment["command"], deployment["public"]) == ("TrackingServer", False)
        assert job["schedule"] == "*/10 * * * *"
        assert job["command"] == "GarbageCollection"
        assert set(owner.get("credentials/user")["data"]) == {
            "MLFLOW_BACKEND_STORE_URI",
            "MLFLOW_ARTIFACTS_DESTINATION",
            "MLFLOW_DEFAULT_ARTIFACT_ROOT",
            "MLFLOW_TRACKING_GC_TTL",
            "MLFLOW_CRYPTO_KEK_PASSPHRASE",
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
            "MLFLOW_TRACKING_URI",
            "MLFLOW_REGISTRY_URI",
            "MLFLOW_TRACKING_TOKEN",
        }
        (collaborator,) = owner.get(f"deployments/{deployment['id']}/collaborators")
        assert (collaborator["id"], collaborator["type"]) == ("everyone", "group")


class TestRepeatedInstall:
    def test_changes_nothing_with_no_write_and_few_requests(self, bench, capsys):
        bench.install(capsys)
        bench.forget_calls()

        again = bench.install(capsys)

        assert again.code == 0, again.err
        assert set(outcomes(again).values()) == {"unchanged"}
        assert all(stage["reason"] for stage in again.data["stages"])
        assert bench.writes() == []
        assert len(bench.calls()) <= 19  # 3 for the lock
        assert [_shortened(call) for call in bench.calls() if "/api/" in call["path"]] == UNCHANGED
        assert again.data["writes"] == 0

    def test_needs_no_memory_of_its_own_to_recognise_the_project(self, bench, capsys):
        for file in (bench.folder / "state").glob("localhost*/state.json"):
            file.unlink()

        refused = bench.install(capsys)
        again = bench.install(capsys, "--yes")

        assert_error(refused, 14, "Not confirmed: set 4 secrets", "--yes")  # the stored gc_ttl may be longer
        assert "the value before is not known here" in refused.err
        assert again.code == 0, again.err
        assert outcomes(again)["upload"] == "unchanged"
        assert outcomes(again)["token"] == "changed"
        assert "no record of the values before" in again.data["stages"][7]["warnings"][0]
        third = bench.install(capsys)
        assert set(outcomes(third).values()) == {"unchanged"}
        assert (
            "no record of the values before" in third.data["stages"][7]["warnings"][0]
        )  # storing them again has not restarted it
        assert bench.run(capsys, "rotate-token", "--sandbox", "--restart", "--yes").code == 0
        assert bench.install(capsys).data["stages"][7]["warnings"] == []

    def test_a_plan_then_has_nothing_to_do(self, bench, capsys):
        bench.forget_calls()

        plan = bench.run(capsys, "plan", "--sandbox", "--exit-code", "--release", str(bench.release))

        assert plan.code == 0, plan.err
        assert "No changes: all 14 stages" in plan.out
        assert bench.writes() == []


DRIFTS = [
    ("made public", lambda owner, d: owner.call("PATCH", f"deployments/{d['id']}", json={"public": True}), "deploy"),
    (
        "another profile",
        lambda o, d: o.call("PATCH", f"deployments/{d['id']}", json={"resource_profile": "large"}),
        "deploy",
    ),
    ("stopped", lambda owner, d: owner.call("DELETE", f"deployments/{d['id']}"), "deploy"),
    ("unshared", lambda owner, d: owner.call("PUT", f"deployments/{d['id']}/collaborators", json=[]), "sharing"),
    ("secret deleted", lambda owner, d: owner.call("DELETE", "credentials/user/MLFLOW_TRACKING_URI"), "store-url"),
    ("token deleted", lambda owner, d: owner.call("DELETE", "credentials/user/MLFLOW_TRACKING_TOKEN"), "store-token"),
]


class TestDrift:
    @pytest.mark.parametrize(("case", "disturb", "stage"), DRIFTS, ids=[row[0] for row in DRIFTS])
    def test_is_reported_corrected_and_then_gone(self, bench, capsys, case, disturb, stage):
        bench.install(capsys)
        owner = bench.owner()
        (deployment,) = owner.get("deployments")
        assert disturb(owner, deployment).status_code < 300

        fixed = bench.install(capsys, "--yes")
        again = bench.install(capsys)

        assert fixed.code == 0, fixed.err
        assert outcomes(fixed)[stage] == "changed"
        assert set(outcomes(again).values()) == {"unchanged"}
        (now,) = owner.get("deployments")
        assert (now["public"], now["resource_profile"], now["state"]) == (False, "default", "started")

    def test_a_second_gc_job_and_a_blocking_leftover_run_are_cleaned(self, bench, capsys):
        bench.install(capsys)
        owner = bench.owner()
        (project,) = [p for p in owner.get("projects") if p["owner"] == ACCOUNT]
        (job,) = owner.get("jobs")
        run = owner.post(f"jobs/{job['id']}/runs")
        owner.finished(run["id"])
        bench.control("PATCH", "/settings", {"job_delete_keeps_runs": True})
        owner.call("DELETE", f"jobs/{job['id']}")  # its run stays and blocks the name
        body = owner.job_body(project["id"], "hourly gc", schedule="0 * * * *")
        owner.post(f"projects/{project['id']}/jobs", body)

        fixed = bench.install(capsys)

        assert fixed.code == 0, fixed.err
        (job,) = owner.get("jobs")
        assert (job["name"], job["schedule"]) == ("scheduled mlflow.tracking.server garbage collection", "*/10 * * * *")


class TestReplacement:
    def test_is_refused_without_consent_and_shows_the_consequences(self, bench, capsys):
        bench.install(capsys)
        other = make_release(bench.folder, "other.tar.gz", extra__txt="new content")
        before = bench.owner().get("projects")
        bench.forget_calls()

        refused = bench.install(capsys, "--release", str(other))

        assert refused.code == 14
        assert "--replace" in refused.err
        assert "down until" in refused.err
        lost = "lost unless on a persistent volume: database, artifacts, snapshots"
        assert lost in " ".join(refused.err.split())
        assert bench.writes() == []
        assert bench.owner().get("projects") == before

    @pytest.mark.parametrize("flag", ["--replace", "--yes"])
    def test_with_consent_keeps_the_old_archive_and_makes_everything_again(self, bench, capsys, flag):
        bench.install(capsys, "--replace")
        other = make_release(bench.folder, "other.tar.gz", extra__txt=f"new content {flag}")

        done = bench.install(capsys, "--release", str(other), flag)
        again = bench.install(capsys, "--release", str(other))

        assert done.code == 0, done.err
        assert "down until" in done.err
        (kept,) = done.data["installation"]["kept_archives"]
        assert set(outcomes(again).values()) == {"unchanged"}
        back = bench.install(capsys, "--release", kept, "--replace")
        assert back.code == 0, back.err
        assert len(bench.owner().get("deployments")) == 1
        assert len(bench.owner().get("jobs")) == 1


class TestTroubleOnTheWay:
    WRITES = (
        "projects/upload$",
        "/deployments$",
        "credentials/user$",
        "/token$",
        "/collaborators$",
        "/jobs$",
        "/users$",
        "/impersonation$",
    )

    def test_writes_that_are_lost_on_their_way_end_in_the_same_installation(self, bench, capsys):
        """Each of them once. Lost answers, refusals and kills at each request: tests/convergence."""
        bench.run(capsys, "sandbox", "reset", "--yes")
        bench.start()
        for path in self.WRITES:
            method = "PUT" if "collaborators" in path else "POST"
            bench.control("POST", "/faults", {"method": method, "path": path, "times": 1, "drop": "before"})

        runs = [bench.install(capsys)]
        while runs[-1].code != 0 and len(runs) <= len(self.WRITES):
            runs.append(bench.install(capsys))
        left = bench.control("GET", "/")["faults"]
        last = bench.install(capsys)

        assert all(run.code in (10, 16, 18) for run in runs[:-1]), runs
        assert runs[-1].code == 0, runs[-1].err
        assert left == [], "a write that was not lost"
        assert set(outcomes(last).values()) == {"unchanged"}
        owner = bench.owner()
        assert len([p for p in owner.get("projects") if p["owner"] == ACCOUNT]) == 1
        assert len(owner.get("deployments")) == 1
        assert len(owner.get("jobs")) == 1
