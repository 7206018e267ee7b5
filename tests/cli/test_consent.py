"""What interrupts the server or invalidates tokens is shown and asked for; without agreement: exit code 14."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cli.answers import assert_tells
from tests.cli.bench import Bench, Outcome, make_release

DOWN, TOKENS = "the server is down", "every token issued so far is invalidated"
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
    """consequences: words of each, in order. disturb: what happens on the platform before."""

    name: str
    consequences: tuple[str, ...]
    disturb: Callable[[Bench], None] = lambda _bench: None
    configuration: str = ""
    files: tuple[tuple[str, str], ...] = ()


CASES = [
    Case("another endpoint", (DOWN, TOKENS), configuration=NAMES),
    Case("another profile", (DOWN, TOKENS), with_another_profile),
    Case("a public deployment", ("clients without a token",), made_public),
    Case("another release", (DOWN, TOKENS), files=(("notes__txt", "another\n"),)),
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
        assert words in refused.err
    assert_tells(refused, 14, "was not agreed to", "--yes" if not case.files else "--replace")
    assert running(bench) == before

    agreed = bench.run(capsys, "install", *options, "--json", "--yes")

    assert agreed.code == 0, agreed.err
    assert consequences(bench.run(capsys, "plan", *options, "--json")) == []


def test_replace_agrees_to_another_content_only(bench, capsys):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    with_another_profile(bench)
    before = running(bench)

    assert_tells(bench.install(capsys, "--replace"), 14, "was not agreed to", "--yes")

    assert running(bench) == before


def test_rotate_token_restarts_only_what_was_agreed_to(bench, capsys):
    assert bench.install(capsys, "--yes", "--replace").code == 0
    before = running(bench)

    refused = bench.run(capsys, "rotate-token", "--sandbox", "--json", "--restart")

    assert_tells(refused, 14, "was not agreed to", DOWN, TOKENS, "--yes")
    assert running(bench) == before
    assert bench.run(capsys, "rotate-token", "--sandbox", "--restart", "--yes").code == 0
    assert running(bench) != before
