"""What could not be made again is refused before anything is taken down, and a plan tells what a restart brings."""

from __future__ import annotations

import json

import pytest

IMPOSSIBLE = [
    ("a revision that does not exist", {"deployment": {"revision": "9.9.9"}}, 15, "9.9.9"),
    ("a profile that does not exist", {"deployment": {"resource_profile": "nosuch"}}, 3, "nosuch"),
    ("a gc profile that does not exist", {"gc": {"resource_profile": "nosuch"}}, 3, "nosuch"),
]


def options(bench, changes):
    path = bench.folder / "changed.yaml"
    path.write_text(json.dumps({"platform": {"lost_answer_deadline": 0.5}, **changes}))
    return ["--config", str(path)]


def without_times(record):
    return {key: value for key, value in record.items() if key != "updated"}


@pytest.mark.parametrize("verb", ["plan", "install"])
@pytest.mark.parametrize(("case", "changes", "code", "named"), IMPOSSIBLE, ids=[row[0] for row in IMPOSSIBLE])
def test_the_impossible_is_refused_with_everything_still_running(bench, capsys, verb, case, changes, code, named):
    assert bench.install(capsys, "--yes").code == 0
    owner = bench.owner()
    before = [without_times(r) for r in owner.get("deployments") + owner.get("jobs")]
    bench.forget_calls()

    refused = bench.run(capsys, verb, "--sandbox", "--json", "--release", str(bench.release), *options(bench, changes))

    assert refused.code == code, refused.err
    assert named in refused.data["error"]["what"]
    assert [without_times(r) for r in owner.get("deployments") + owner.get("jobs")] == before
    assert [w for w in bench.writes() if "DELETE" in w] == []


def test_a_plan_tells_what_a_new_endpoint_brings_with_it(bench, capsys):
    assert bench.install(capsys, "--yes").code == 0
    changed = options(bench, {"deployment": {"endpoint": "elsewhere"}})

    plan = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release), *changed)
    done = bench.install(capsys, "--yes", *changed)

    def touched(outcome, word):
        return {s["name"] for s in outcome.data["stages"] if s["outcome"] == word}

    assert done.code == 0, done.err
    assert touched(done, "changed") <= touched(plan, "planned")
    (restart,) = [c for s in plan.data["stages"] for c in s["changes"] if c["change"] == "restart_deployment"]
    assert "every token issued so far is invalidated" in restart["consequences"][1]["text"]
    back = bench.install(capsys, "--yes")
    assert back.code == 0, back.err


def test_making_a_server_private_keeps_its_token(bench, capsys):
    assert bench.install(capsys, "--yes").code == 0
    owner = bench.owner()
    (deployment,) = owner.get("deployments")
    owner.call("PATCH", f"deployments/{deployment['id']}", json={"public": True})
    bench.forget_calls()

    done = bench.install(capsys, "--yes")

    assert done.code == 0, done.err
    assert {s["name"] for s in done.data["stages"] if s["outcome"] == "changed"} == {"deploy"}
    assert [w for w in bench.writes() if "token" in w or "credentials" in w] == []
    assert "not documented" in done.data["stages"][7]["warnings"][0]


def test_a_group_that_does_not_exist_points_to_the_setting(bench, capsys):
    assert bench.install(capsys, "--yes").code == 0

    refused = bench.install(capsys, *options(bench, {"sharing": {"groups": ["nosuch"]}}))

    assert refused.code == 16
    assert "sharing.groups" in refused.data["error"]["where"]
