"""Progress lines: how often they come, and that those of real jobs are what contract.json agrees on."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import pytest
from mlflow_ae5_server.backup.artifacts import Artifact
from mlflow_ae5_server.backup.sizing import sized
from mlflow_ae5_server.common.progress import Progress
from mlflow_ae5_server.common.report import Report, warn

from tests.contract import CONTRACT, checked
from tests.project_template.conftest import eventually

AGREED = CONTRACT["progress"]
TYPES = {"text": str, "integer": int, "number": (int, float), "flag": bool}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def read(text: str) -> list[dict[str, Any]]:
    """The progress lines of a log, each checked against the contract."""
    lines = [json.loads(line.removeprefix("progress ")) for line in text.splitlines() if line.startswith("progress ")]
    for line in lines:
        assert line.keys() <= AGREED["line"].keys()
        assert all(isinstance(value, TYPES[AGREED["line"][name]]) for name, value in line.items())
        assert line["phase"] in AGREED["phases"]
        assert line.get("unit") in (None, *AGREED["units"])
    return lines


def test_a_phase_is_reported_when_it_starts_every_two_seconds_and_exactly_at_its_end():
    clock, lines = Clock(), list[str]()
    progress = Progress(["read-database", "examine-artifacts"], write=lines.append, clock=clock)

    with progress.phase("examine-artifacts", "bytes", 1000) as phase:
        for _ in range(40):
            clock.now += 0.25
            phase.advance(25)

    base = {"phase": "examine-artifacts", "step": 2, "steps": 2, "total": 1000, "unit": "bytes"}
    found = read("\n".join(lines))
    seen = [(line.pop("done"), line.pop("seconds"), line.pop("ended")) for line in found]
    assert found == [base] * len(found)
    assert [(done, ended) for done, _seconds, ended in seen] == [
        (0, False), (200, False), (400, False), (600, False), (800, False), (1000, False), (1000, True),
    ]  # fmt: skip
    assert [seconds for _done, seconds, _ended in seen] == pytest.approx([0, 2, 4, 6, 8, 10, 10], abs=0.05)


def test_a_total_that_was_overtaken_is_not_reported_and_the_last_line_has_the_real_one():
    clock, lines = Clock(), list[str]()
    with Progress(["examine-artifacts"], write=lines.append, clock=clock).phase(
        "examine-artifacts", "bytes", 10
    ) as phase:
        clock.now += 3
        phase.advance(11)
        phase.was(12)
    assert [(line["done"], line.get("total")) for line in read("\n".join(lines))] == [(0, 10), (11, None), (12, 12)]


class Store:
    """An artifact store with files of these sizes."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self.sizes, self.listed = sizes, threading.Event()

    def scan(self) -> Iterator[Artifact]:
        for size in self.sizes:
            self.listed.set()
            yield Artifact("a", "file", size, 0, "")


@pytest.mark.parametrize(
    ("after", "sizes", "body", "total"),
    [
        (0, (300, 700), lambda phase, _store: eventually(lambda: phase.total is not None), 1000),
        (0, itertools.repeat(1), lambda _phase, store: store.listed.wait(20), None),  # ends while it is measured
        (60, (300, 700), lambda _phase, store: not store.listed.is_set(), None),
    ],
    ids=["slow", "slow, but ends first", "fast"],
)
def test_a_slow_copy_has_a_total_and_a_fast_one_does_not_list_the_store_again(after, sizes, body, total):
    lines, store = list[str](), Store(sizes)
    with Progress(["examine-artifacts"], write=lines.append).phase("examine-artifacts", "bytes") as phase:
        with sized(phase, store, after):
            assert body(phase, store)
        assert store.listed.is_set() == (after == 0)
        phase.advance(1000)
    assert read("\n".join(lines))[-1].get("total") == total


def test_a_failed_phase_has_no_last_line():
    lines = list[str]()
    with pytest.raises(OSError), Progress(["publish"], write=lines.append).phase("publish"):
        raise OSError
    assert [line["ended"] for line in read("\n".join(lines))] == [False]


@pytest.mark.parametrize(("name", "unit"), [("unknown", None), ("publish", "mlflow-secret")])
def test_only_words_of_the_contract_are_written(name, unit):
    with pytest.raises(ValueError, match="contract"), Progress([name]).phase(name, unit):
        pass


@pytest.mark.parametrize("command", sorted(CONTRACT["commands"]))
def test_every_phase_of_a_command_has_a_text(command):
    named = {name for phases in CONTRACT["commands"][command]["phases"].values() for name in phases}
    assert named <= AGREED["phases"].keys()


def phases(text: str) -> list[tuple[str, int, int]]:
    """(phase, done, total) of each last line, in order. Each phase starts at 0 and ends once."""
    found = []
    for name, group in groupby(read(text), key=lambda line: line["phase"]):
        lines = list(group)
        assert lines[0].get("done", 0) == 0, lines
        assert not lines[0]["ended"], lines
        assert [line["ended"] for line in lines] == [False] * (len(lines) - 1) + [True], lines
        found.append((name, lines[-1].get("done"), lines[-1].get("total")))
    return found


def steps(text: str) -> list[tuple[int, int]]:
    return list(dict.fromkeys((line["step"], line["steps"]) for line in read(text)))


def test_a_report_has_the_warnings_since_it_was_started(capsys):
    Report("Backup")  # of a job that was killed: it is not printed
    warn("the disk is slow")
    report = Report("Backup")
    warn("the disk is full")
    capsys.readouterr()
    report.print(0)
    assert json.loads(capsys.readouterr().out)["warnings"] == ["the disk is full"]


def test_a_warning_is_logged_and_reported_once(capsys):
    for expected in (["the disk is slow"], None):
        report = Report("Backup")
        if expected:
            warn("the disk is slow")
        report.print(0)
        printed = capsys.readouterr()
        assert ("warning: the disk is slow\n" in printed.err) == bool(expected)
        assert checked(json.loads(printed.out) | {"outcome": "done"}).get("warnings") == expected
