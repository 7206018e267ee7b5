"""The progress line: what it says at any width, and where it is written."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from mlflow_ae5_deploy.cli.sandbox_up import announce_first_install
from mlflow_ae5_deploy.common.durations import seconds_of
from mlflow_ae5_deploy.engine.progress import JOB_END, Phase
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.progress import ProgressLine, ProgressState, amount, words
from tests.cli.terminal import Terminal, screen

MB = 10**6
EXAMINING = Phase("examining artifacts", 2, 3, 210 * MB, 800 * MB, "bytes", 6.0)
BACKUP = ProgressState("backup", phase=EXAMINING, reported=6.0)
STAGE = ProgressState("deploy", "stage 8 of 14", waiting="the MLflow API at the endpoint")
LINES = [
    (STAGE, 80, "12 s  stage 8 of 14  deploy  waiting for the MLflow API at the endpoint"),
    (STAGE, 65, "12 s  stage 8 of 14  waiting for the MLflow API at the endpoint"),
    (STAGE, 60, "12 s  waiting for the MLflow API at the endpoint"),
    (STAGE, 40, "12 s  waiting for the MLflow API at the…"),
    (
        BACKUP,
        120,
        "12 s  step 2 of 3  examining artifacts  ███████░░░░░░░░░░░░░░░░░░░░░░░  210 of 800 MB  35.0 MB/s  16 s left",
    ),
    (BACKUP, 80, "12 s  step 2 of 3  examining artifacts  ███░░░░░░░░░░░  210 of 800 MB  16 s left"),
    (BACKUP, 62, "12 s  step 2 of 3  examining artifacts  █░░░░░░  210 of 800 MB"),
    (BACKUP, 30, "12 s  examining artifacts"),
    (BACKUP, None, "12 s  step 2 of 3  examining artifacts  210 of 800 MB  35.0 MB/s  16 s left"),
    (
        ProgressState("restore", "stage 7 of 14", down_since=2.0, phase=EXAMINING, reported=11.0),
        160,
        "12 s  server down for 10 s  stage 7 of 14  examining artifacts (2 of 3)  "
        "███████░░░░░░░░░░░░░░░░░░░░░░░  210 of 800 MB  35.0 MB/s  16 s left",
    ),
    (
        ProgressState("restore", "stage 7 of 14", down_since=2.0, phase=EXAMINING, reported=11.0),
        80,
        "12 s  server down for 10 s  examining artifacts (2 of 3)  █░░░░░░  210 of 800 MB",
    ),
    (replace(BACKUP, reported=5.9), None, "12 s  step 2 of 3  examining artifacts  210 of 800 MB"),
    (
        ProgressState("upgrade", phase=Phase("migrating the schema", 3, 4)),
        80,
        "12 s  step 3 of 4  migrating the schema",
    ),
    (
        ProgressState("gc", phase=Phase("finding orphaned folders", 4, 4, 1500, None, "folders", 1.0)),
        80,
        "12 s  step 4 of 4  finding orphaned folders  1,500 folders",
    ),
    (
        ProgressState("backup", phase=Phase("examining artifacts", None, None, 900 * MB, 800 * MB, "bytes", 1.0)),
        80,
        "12 s  examining artifacts  900 MB",
    ),
]


@pytest.mark.parametrize(("state", "width", "line"), LINES)
def test_the_line_says_the_most_important_that_fits(state, width, line):
    shown = "  ".join(text for text, _style in words(state, 12.0, width))
    assert shown == line
    assert width is None or len(shown) <= width


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (0, 1300 * MB, "bytes", "0 of 1.3 GB"),
        (512, None, "bytes", "512 bytes"),
        (45_500_000, 99 * MB, "bytes", "45.5 of 99.0 MB"),
        (1200, 5000, "rows", "1,200 of 5,000 rows"),
        (7, None, "objects", "7 objects"),
    ],
)
def test_amounts(done, total, unit, text):
    assert amount(done, total, unit) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.9, "0 s"), (59, "59 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")])
def test_durations(seconds, text):
    assert seconds_of(seconds) == text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line_on(file: io.StringIO, clock: Clock, environ: dict[str, str], **options: Any) -> ProgressLine:
    console = Console(file=file, width=80, force_terminal=True, soft_wrap=True)
    return ProgressLine(file, lambda: console, environ=environ, clock=clock, **options)


def work(line: ProgressLine, clock: Clock) -> None:
    """A job of 25 s in two phases, looked at every second."""
    line.step("backup")
    for second in range(25):
        clock.now = float(second)
        first = second < 15
        name, step = ("reading the database", 1) if first else ("examining artifacts", 2)
        line.phase(Phase(name, step, 2, second * MB, None if first else 30 * MB, "bytes", float(second)))
        line.waiting(JOB_END)


def test_between_two_phases_of_a_job_the_last_one_is_named():
    """The wait may be long; `Stopped during` has no better name for it."""
    file, clock = io.StringIO(), Clock()
    line = line_on(file, clock, {"CI": "1"})
    line.step("recovery", "stage 7 of 14")
    line.phase(Phase("checking the target", 2, 2, ended=True))
    for clock.now in (5.0, 10.0):
        line.waiting(JOB_END)

    assert file.getvalue() == "10 s, stage 7 of 14, recovery, waiting for the job (after checking the target)\n"


def test_without_a_terminal_a_plain_line_comes_every_ten_seconds():
    file, clock = io.StringIO(), Clock()
    work(line_on(file, clock, {"TERM": "xterm"}), clock)
    assert file.getvalue().splitlines() == [
        "10 s, step 1 of 2, reading the database, 10.0 MB, 1.0 MB/s",
        "20 s, step 2 of 2, examining artifacts, 20.0 of 30.0 MB, 1.0 MB/s, 10 s left",
    ]


def test_a_job_that_reports_nothing_more_gets_no_rate_and_no_time_left():
    file, clock = io.StringIO(), Clock()
    line = line_on(file, clock, {"TERM": "xterm"})
    line.step("backup")
    for clock.now in (2.0, 4.0):
        line.phase(Phase("examining artifacts", 2, 3, clock.now * 200 * MB, 1000 * MB, "bytes", clock.now))
    for clock.now in (10.0, 600.0):
        line.waiting(JOB_END)
    assert file.getvalue().splitlines() == [
        "10 s, step 2 of 3, examining artifacts, 0.8 of 1.0 GB, 200 MB/s, 1 s left",
        "10 min 00 s, step 2 of 3, examining artifacts, 0.8 of 1.0 GB",
    ]


@pytest.mark.parametrize(("environ", "options"), [({}, {}), ({"TERM": "xterm"}, {"quiet": True})], ids=["cron", "json"])
def test_nothing_is_written_for_cron_and_with_json(environ, options):
    for file in (io.StringIO(), Terminal() if options else io.StringIO()):
        clock = Clock()
        work(line_on(file, clock, environ, **options), clock)
        assert file.getvalue() == ""


def test_a_dumb_terminal_gets_plain_lines_without_signs_that_it_lacks():
    file, clock = Terminal(), Clock()
    line = line_on(file, clock, {"TERM": "dumb", "LANG": "C"})
    line.step("x" * 5, "stage 1 of 14")
    clock.now = 11.0
    line.waiting("an answer…")
    assert file.getvalue() == "11 s, stage 1 of 14, xxxxx, waiting for an answer...\n"


def test_on_a_terminal_the_line_is_gone_when_it_pauses():
    file, clock = Terminal(), Clock()
    line = line_on(file, clock, {"TERM": "xterm"})
    work(line, clock)
    assert line._live is not None
    line._live.refresh()
    assert "24 s  step 2 of 2  examining artifacts" in "".join(screen(file.getvalue(), 80))
    line.pause()
    assert [text for text in screen(file.getvalue(), 80) if text.strip()] == []
    assert "\x1b[?25h" in file.getvalue().rpartition("examining")[2]  # the cursor is back


def test_the_position_is_what_ran_last():
    clock = Clock()
    line = line_on(io.StringIO(), clock, {})
    assert line.position() == ""
    line.step("recovery", "stage 7 of 14")
    line.waiting("the run a2-0123456789abcdef0123456789abcdef")
    assert line.position() == "stage 7 of 14, recovery"
    line.phase(EXAMINING)
    line.waiting("the run to stop")
    assert line.position() == "stage 7 of 14, examining artifacts (2 of 3)"


def test_a_phase_that_has_ended_gives_way_to_what_is_awaited_next():
    file, clock = io.StringIO(), Clock()
    line = line_on(file, clock, {"TERM": "xterm"})
    line.step("upgrade", "step 3 of 8")
    line.phase(EXAMINING)
    clock.now = 11.0
    line.server_down(down=True)
    clock.now = 23.0
    line.waiting("the server to stop")
    assert file.getvalue().splitlines()[-1] == (
        "23 s, server down for 12 s, step 3 of 8, upgrade, waiting for the server to stop"
    )


def test_the_first_install_on_a_sandbox_says_what_it_does_and_how_long(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path))
    said = []
    for has_run, as_json in ((False, False), (False, True), (True, False)):
        if has_run:
            (tmp_path / "sandbox").mkdir()
            (tmp_path / "sandbox" / "state.json").write_text('{"port": 30280, "addressing": "port"}')
        err = io.StringIO()
        announce_first_install(Reporter(json_mode=as_json, err=err))
        said.append(err.getvalue())
    assert said[0].splitlines() == [
        "Starting an AE5 sandbox on this machine, and installing an MLflow server on it in 14 stages.",
        "The first time takes about half a minute.",
    ]
    assert said[1:] == ["", ""]
