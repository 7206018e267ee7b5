"""What interrupts the server or invalidates tokens needs consent (14); the impossible is refused before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cli.answers import assert_error
from tests.cli.bench import Bench, Outcome, make_release

DOWN, TOKENS = "the server is down", "all tokens are invalidated"
NAMES = "deployment: {endpoint: elsewhere}\n"


def made_public(bench: Bench) -> None:
    owner = bench.owner()
    (deployment,) = owner.get("deployments")
    assert owner.call("PATCH", f"deployments/{deployment['id']}", json={"public": True}).status_code < 300


def with_another_profile(bench: Bench) -> None:
    owner = bench.owner()
    (deployment,) = owner.get("deployments")
    assert owner.call("PATCH", f"deployments/{deployment['id']}", json={"resource_profile": "large"}).status_code < 300


@dataclass(frozen=True)
class Case:
    """consequences: words of each, in order. differences: lines. disturb: what happens on the platform before."""

    name: str
    consequences: tuple[str, ...]
    disturb: Callable[[Bench], None] = lambda _bench: None
    configuration: str = ""
    files: tuple[tuple[str, str], ...] = ()
    differences: tuple[str, ...] = ()


CASES = [
    Case(
        "another endpoint",
        (DOWN, TOKENS),
        configuration=NAMES,
        differences=("endpoint: dev-mlflow-tracking-server → elsewhere",),
    ),
    Case("another profile", (DOWN, TOKENS), with_another_profile, differences=("resource profile: large → default",)),
    Case("a shorter time to restore", ("more than 7d ago is purged",), configuration="server: {gc_ttl: 7d}\n"),
    Case("a public deployment", ("clients without a token",), made_public),
    Case(
        "another release",
        (DOWN, TOKENS),
        files=(("notes__txt", "another\n"),),
        differences=("release: release.tar.gz → next.tar.gz", "file notes.txt: added"),
    ),
]


def running(bench: Bench) -> list[Any]:
    return [(d["id"], d["public"], d["url"]) for d in bench.owner().get("deployments")]


def consequences(outcome: Outcome) -> list[str]:
    return [item["text"] for s in outcome.data["stages"] for change in s["changes"] for item in change["consequences"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_install_interrupts_nothing_that_was_not_agreed_to(bench, capsys, case):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    release = make_release(bench.folder, "next.tar.gz", **dict(case.files)) if case.files else bench.release
    config = bench.configure("platform: {lost_answer_deadline: 0.5}\n" + case.configuration)
    options = ("--sandbox", "--config", str(config), "--release", str(release))
    case.disturb(bench)
    before = running(bench)

    planned = bench.run(capsys, "plan", *options, "--json")
    shown = bench.run(capsys, "plan", *options)
    refused = bench.run(capsys, "install", *options, "--json")

    for words in case.consequences:
        assert any(words in line for line in consequences(planned)), planned.out
        assert words in shown.out
        assert refused.err.count(words) == 1  # before the question, and not with the error again
    assert_error(refused, 14, "Not confirmed", "--yes" if not case.files else "--replace")
    for line in case.differences:
        assert f"    {line}\n" in refused.err
        assert f"  {line}\n" in shown.out
    assert running(bench) == before

    agreed = bench.run(capsys, "install", *options, "--json", "--yes")

    assert agreed.code == 0, agreed.err
    assert consequences(bench.run(capsys, "plan", *options, "--json")) == []


def test_replace_agrees_to_another_content_only(bench, capsys):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    with_another_profile(bench)
    before = running(bench)

    assert_error(bench.install(capsys, "--replace"), 14, "Not confirmed", "--yes")

    assert running(bench) == before


def test_replace_agrees_to_no_earlier_deletion_and_asks_before_it_deletes_anything(bench, capsys):
    """Of a secret that stage 8 sets, and of the jobs that stage 14 creates for those deleted with the project."""

    def options(ttl: str, dry_run: str, release: str) -> tuple[str, ...]:
        server = f"platform: {{lost_answer_deadline: 0.5}}\nserver: {{gc_ttl: {ttl}}}\n"
        config = bench.configure(f"{server}gc: {{variables: {{MLFLOW_TRACKING_GC_DRY_RUN: '{dry_run}'}}}}\n")
        content = make_release(bench.folder, f"{release}.tar.gz", notes__txt=release)
        return "--sandbox", "--json", "--config", str(config), "--release", str(content)

    assert bench.run(capsys, "install", *options("30d", "true", "one"), "--yes").code == 0
    before = bench.everything()
    for changed, second in (
        (options("7d", "true", "two"), "set secret MLFLOW_TRACKING_GC_TTL"),
        (options("30d", "false", "two"), "recreate the garbage collection job"),
    ):
        bench.forget_calls()
        refused = bench.run(capsys, "install", *changed, "--replace")

        assert_error(refused, 14, "Not confirmed", "stage 6 (upload)", "Re-run with --yes")
        changes = refused.data["stages"][-1]["changes"]
        assert [change["phrase"] for change in changes] == ["replace project mlflow.tracking.server", second]
        assert [item["impact"] for item in changes[1]["consequences"]] == ["data"]
        assert bench.writes() == []
        assert bench.everything() == before

    done = bench.run(capsys, "install", *options("7d", "false", "two"), "--replace", "--yes")

    assert done.code == 0, done.err
    for words in ("more than 7d ago is purged", "deletes again what it only lists now"):
        assert done.err.count(words) == 1


def test_rotate_token_restarts_only_what_was_agreed_to(bench, capsys):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    before = running(bench)

    refused = bench.run(capsys, "rotate-token", "--sandbox", "--json", "--restart")

    assert_error(refused, 14, "Not confirmed", "--yes")
    assert [refused.err.count(words) for words in (DOWN, TOKENS)] == [1, 1]
    assert running(bench) == before
    assert bench.run(capsys, "rotate-token", "--sandbox", "--restart", "--yes").code == 0
    assert running(bench) != before


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


@pytest.mark.parametrize(("case", "changes", "code", "named"), IMPOSSIBLE[1:], ids=[row[0] for row in IMPOSSIBLE[1:]])
def test_no_project_is_replaced_whose_server_could_not_be_started(bench, capsys, case, changes, code, named):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    release = make_release(bench.folder, "next.tar.gz", notes__txt="another\n")
    before = running(bench)
    bench.forget_calls()

    refused = bench.run(
        capsys, "install", "--sandbox", "--release", str(release), "--replace", "--yes", *options(bench, changes)
    )

    assert_error(refused, code, named, "stage 6 (upload)", "Use one of: default, large")
    assert running(bench) == before
    assert [w for w in bench.writes() if "DELETE" in w] == []


def test_a_plan_shows_the_consequences_of_a_new_endpoint(bench, capsys):
    assert bench.install(capsys, "--yes").code == 0
    changed = options(bench, {"deployment": {"endpoint": "elsewhere"}})

    plan = bench.run(capsys, "plan", "--sandbox", "--json", "--release", str(bench.release), *changed)
    done = bench.install(capsys, "--yes", *changed)

    def touched(outcome, word):
        return {s["name"] for s in outcome.data["stages"] if s["outcome"] == word}

    assert done.code == 0, done.err
    assert touched(done, "changed") <= touched(plan, "planned")
    (restart,) = [c for s in plan.data["stages"] for c in s["changes"] if c["change"] == "restart_deployment"]
    assert TOKENS in restart["consequences"][1]["text"]
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
    assert "does not document" in done.data["stages"][7]["warnings"][0]


def test_a_group_that_does_not_exist_points_to_the_setting(bench, capsys):
    assert bench.install(capsys, "--yes").code == 0

    refused = bench.install(capsys, *options(bench, {"sharing": {"groups": ["nosuch"]}}))

    assert refused.code == 16
    assert "sharing.groups" in refused.data["error"]["where"]


def test_plan_and_question_show_the_secrets_that_change(bench, capsys):
    def options(ttl: str, more: str) -> tuple[str, ...]:
        server = f"server: {{gc_ttl: {ttl}, variables: {{{more}}}}}\n"
        config = bench.configure("platform: {lost_answer_deadline: 0.5}\n" + server)
        return "--sandbox", "--config", str(config), "--release", str(bench.release)

    assert bench.run(capsys, "install", *options("30d0h0m0s", "A: one"), "--yes", "--replace").code == 0
    changed = options("0d1h0m0s", "A: two, B: three")
    expected = ["MLFLOW_TRACKING_GC_TTL: 30d0h0m0s → 0d1h0m0s", "A: one → two", "B: not set → three"]

    planned = bench.run(capsys, "plan", *changed, "--json")
    shown = bench.run(capsys, "plan", *changed)
    asked = bench.run(capsys, "install", *changed)

    (sets,) = [c for s in planned.data["stages"] for c in s["changes"] if c["change"] == "set_secrets"]
    assert sets["differences"] == expected
    for line in expected:
        assert f"  {line}\n" in shown.out
        assert shown.out.count(line) == asked.err.count(line) == 1
        assert f"    {line}\n" in asked.err
    assert_error(asked, 14, "Not confirmed")
