"""What is left on a terminal after a verb has ended: the text, with no progress line in it and no word broken."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios

import pytest

from mlflow_ae5_deploy.common.errors import PartlyDone
from mlflow_ae5_deploy.render.console import Reporter
from tests.cli.terminal import Terminal, read_all, screen

_PROGRESS = re.compile(r"\d (?:s|min)  \S")  # how any progress line begins


@pytest.fixture(params=[80, 200])
def width(request, monkeypatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "xterm")
    return request.param


@pytest.fixture
def reporter(width) -> Reporter:
    both = Terminal()
    return Reporter(out=both, err=both)


def drawn(reporter: Reporter) -> None:
    """Now, and not when rich's thread comes to it."""
    assert reporter.progress._live is not None
    reporter.progress._live.refresh()


def shown(reporter: Reporter, width: int) -> list[str]:
    reporter.close()
    return screen(reporter.out.file.getvalue(), width)


def test_a_line_of_result_takes_the_progress_line_away(reporter, width):
    reporter.doing("schedule-gc")
    drawn(reporter)
    reporter.line("One run, now")
    for seconds in range(3):
        reporter.waiting("run a2-0123456789abcdef0123456789abcdef to end " + "x" * 200)
        drawn(reporter)
        reporter.line(f"  | {seconds}")
    reporter.doing("doctor")
    drawn(reporter)
    reporter.as_it_is("the document\n")

    lines = shown(reporter, width)

    assert [line for line in lines if line] == ["One run, now", "  | 0", "  | 1", "  | 2", "the document"]


def test_waiting_before_a_step_is_shown_without_a_separator(reporter, width):
    reporter.waiting("the answer")
    reporter.close()
    assert "0 s\x1b[0m  waiting for the answer" in reporter.err.file.getvalue()


def test_no_word_of_an_error_is_broken(reporter, width):
    words = [f"word{number:03}" for number in range(60)]
    text = " ".join(words)
    reporter.error(PartlyDone(f"{text}.", where=text, remedy=text, detail=f"- {text}\nsecond line"))
    reporter.note(f"This stays: {text}.")

    lines = shown(reporter, width)

    assert re.findall(r"word\d{3}", "\n".join(lines)) == words * 5
    assert "    second line" in lines


@pytest.mark.parametrize("columns", [80, 200])
def test_a_verb_leaves_nothing_but_its_text(bench, columns):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = bench.environment(TERM="xterm", COLUMNS=str(columns))
    with bench.spawn("doctor", "--sandbox", environment=environment, stdout=end, stderr=end) as process:
        os.close(end)
        written = read_all(terminal)
        process.wait(timeout=200)

    lines = screen(written.replace("\r\n", "\n"), columns)
    text = "\n".join(lines)
    assert _PROGRESS.search(re.sub(r"\x1b\[[0-9;]*m", "", written))  # there was a progress line
    assert not _PROGRESS.search(text), text
    assert process.returncode == 0, text
    assert re.search(r"^. \d+ ok, ", text, re.M)
