"""The progress line: what runs now, for how long, and how far it is. On stderr, and only for a person.

On a terminal it is one line that changes in place; elsewhere a plain line is written every ten seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from mlflow_ae5_deploy.common.durations import seconds_of
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import unit_of, with_short_ids
from mlflow_ae5_deploy.common.visible import visible
from mlflow_ae5_deploy.engine.progress import JOB_END, Phase
from mlflow_ae5_deploy.render.format import ascii_only, in_ascii

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_EVERY = 10.0  # seconds between two plain lines
_BAR = (6, 30)  # characters, at least and at most
_GAP = "  "
_STAYS = 8  # parts of this importance are never dropped
_STEADY = 3.0  # seconds of a phase after which its rate says something
_SILENT = 6.0  # seconds without a report after which it no longer does; a job reports every 2 s


@dataclass(frozen=True)
class ProgressState:
    """What the line shows. Times are of one clock, in seconds."""

    text: str = ""  # `upgrade`, or the name of a stage
    step: str = ""  # `step 2 of 8`
    since: float = 0.0  # when that began
    waiting: str = ""
    phase: Phase | None = None
    phase_since: float = 0.0
    reported: float = 0.0  # when the phase was last heard of
    down_since: float | None = None  # when the server was stopped


def words(state: ProgressState, now: float, width: int | None = None) -> list[tuple[str, str]]:
    """Pure: the parts of the line with their styles, most important first to stay where it gets narrow."""
    phase = state.phase
    parts = [(10, seconds_of(now - state.since), "bold")]
    if state.down_since is not None:
        parts.append((9, f"server down for {seconds_of(now - state.down_since)}", "yellow"))
    if phase is None:
        parts.append((7, state.step, "dim"))
        if state.waiting:
            parts += [(6, state.text, ""), (8, f"waiting for {state.waiting}", "")]
        else:
            parts.append((8, state.text, ""))
        return _fitted(parts, width)
    number = f"{phase.step} of {phase.steps}" if phase.step else ""
    inner = f"{phase.text} ({number})" if number and state.step else phase.text
    parts += [(5, state.step or (number and f"step {number}"), "dim"), (8, inner, "")]
    if phase.done is not None:
        total = phase.total if phase.total and phase.total >= phase.done else None
        bar = (6, "", "bar") if total else (0, "", "")
        steady = phase.seconds is not None and phase.seconds >= _STEADY and now - state.reported <= _SILENT
        rate = phase.done / phase.seconds if phase.seconds and steady else 0.0
        left = f"{seconds_of((total - phase.done) / rate)} left" if total and rate and not phase.ended else ""
        parts += [bar, (7, amount(phase.done, total, phase.unit) if total or phase.done else "", "")]
        parts += [(2, f"{amount(rate, None, phase.unit)}/s" if rate >= 1 else "", "dim"), (4, left, "")]
    return _fitted(parts, width, phase)


def _fitted(parts: list[tuple[int, str, str]], width: int | None, phase: Phase | None = None) -> list[tuple[str, str]]:
    """Drop the least important parts until the rest fits; the bar takes what is left."""
    kept = [part for part in parts if part[1] or part[2] == "bar"]
    if width is None:
        return [(text, style) for _, text, style in kept if style != "bar"]

    def taken() -> int:
        return sum(_BAR[0] if style == "bar" else len(text) for _, text, style in kept) + len(_GAP) * (len(kept) - 1)

    while taken() > width and min(kept)[0] < _STAYS:
        kept.remove(min(kept))
    room = max(width - taken(), 0) + _BAR[0]
    excess = taken() - width
    shown = []
    for _, text, style in kept:
        if style == "bar" and phase is not None and phase.done is not None and phase.total:
            length = min(room, _BAR[1])
            full = int(length * phase.done / phase.total)
            shown.append(("█" * full + "░" * (length - full), ""))
        else:
            cut = excess if (text, style) == kept[-1][1:] else 0
            shown.append((text if cut <= 0 else f"{text[: -cut - 1]}…", style))
    return shown


def amount(done: float, total: float | None, unit: str) -> str:
    """`210 of 800 MB`, `1,200 of 5,000 rows`: both in the unit of the larger one."""
    if unit != "bytes":
        return f"{done:,.0f} of {total:,.0f} {unit}" if total is not None else f"{done:,.0f} {unit}"
    factor, name = unit_of(max(done, total or 0))
    numbers = [f"{value / factor:.{0 if value == 0 or value / factor >= 100 or factor == 1 else 1}f}" for value in
               ((done,) if total is None else (done, total))]  # fmt: skip
    return f"{' of '.join(numbers)} {name}"


class ProgressLine:
    """The line of one run.

    console: makes the console of stderr, when it is needed. environ: a person's shell sets TERM, and CI sets CI; cron
    and service managers set neither, and mail or keep every line.
    """

    def __init__(
        self,
        file: TextIO,
        console: Callable[[], Console],
        *,
        quiet: bool = False,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._console, self._clock = file, console, clock
        live = file.isatty() and environ.get("TERM") != "dumb"
        self._mode = "" if quiet else "live" if live else "plain" if {"TERM", "CI"} & environ.keys() else ""
        self._ascii = ascii_only(getattr(file, "encoding", None) or "utf-8", environ)
        self._live: Live | None = None
        self._state = self._last = ProgressState(since=clock())
        self._printed = clock()

    @property
    def is_watched(self) -> bool:
        return self._mode != ""

    # what runs --------------------------------------------------------------------------------------------------

    def step(self, text: str, step: str = "") -> None:
        now = self._clock()
        self._last = replace(self._state, text=text, step=step, since=now, waiting="", phase=None)
        self._update(self._last)

    def waiting(self, what: str) -> None:
        """A phase of a job that runs is shown instead of the wait for its end; of one that has ended, its name."""
        running, last = (self._state.phase, self._last.phase) if what == JOB_END else (None, None)
        shown = running if running is not None and not running.ended else None
        if shown is None and last is not None and last.ended:
            what = f"{what} (after {last.text})"
        self._update(replace(self._state, waiting=what, phase=shown))

    def phase(self, phase: Phase) -> None:
        now, previous = self._clock(), self._state.phase
        same = previous is not None and (previous.text, previous.step) == (phase.text, phase.step)
        since = self._state.phase_since if same else now
        if phase.seconds is None:
            phase = replace(phase, seconds=now - since)
        self._last = replace(self._state, phase=phase, phase_since=since, reported=now, waiting="")
        self._update(self._last)

    def server_down(self, *, down: bool) -> None:
        since = self._state.down_since
        self._update(replace(self._state, down_since=(self._clock() if since is None else since) if down else None))

    def position(self) -> str:
        """What ran last, for a person; empty where nothing was shown."""
        state = self._last
        inner = replace(state.phase, done=None) if state.phase is not None else None
        parts = words(replace(state, phase=inner, down_since=None), self._clock())[1:]
        return self._safe(", ".join(text for text, _style in parts))

    # the line ---------------------------------------------------------------------------------------------------

    def _update(self, state: ProgressState) -> None:
        self._state = state
        if self._mode == "live":
            self._show()
        elif self._mode == "plain" and self._clock() - self._printed >= _EVERY:
            self._printed = self._clock()
            text = self._safe(", ".join(text for text, _style in words(state, self._clock())))
            self._file.write(f"{text}\n")
            self._file.flush()

    def _show(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(self, console=self._console(), transient=True, refresh_per_second=5)
            self._live.start()

    def __rich__(self) -> Text:
        from rich.text import Text

        width = self._console().width - 1  # a line that the terminal wraps cannot be erased
        line = Text(no_wrap=True, overflow="crop", end="")
        for number, (text, style) in enumerate(words(self._state, self._clock(), width)):
            line.append((_GAP if number else "") + self._safe(text), style)
        return line

    def _safe(self, text: str) -> str:
        shown = visible(with_short_ids(scrub(text)))
        return in_ascii(shown) if self._ascii else shown

    def pause(self) -> None:
        """Take the line off the terminal, before anything else is written there."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
