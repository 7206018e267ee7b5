"""The terminal: results on stdout; progress, remarks and errors on stderr.

Every text but a token that was asked for passes through `scrub`, the last of several guards against printing a secret.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.common.text import Target, addressed, whole_commands, with_short_ids, with_target
from mlflow_ae5_deploy.common.visible import json_text, visible, visible_lines
from mlflow_ae5_deploy.render.format import Mark, ascii_only, in_ascii, style_of, table_lines
from mlflow_ae5_deploy.render.progress import ProgressLine

if TYPE_CHECKING:
    from rich.console import Console

    from mlflow_ae5_deploy.common.errors import DeployError
    from mlflow_ae5_deploy.engine.progress import Phase
    from mlflow_ae5_deploy.engine.stage import AnyStage
    from mlflow_ae5_deploy.operations.verify import Check

SCHEMA = 1  # of every JSON document
_LEAD = re.compile(r" *(?:[-+!✓✗] )?")  # indentation and mark; a wrapped line continues below what follows them
_LOG_LEAD = re.compile(r" *(?:\| *)?")
# Fields of a JSON document with commands that a person runs.
_WITH_COMMANDS = ("remedy", "warnings", "notes", "markdown")


class Reporter:
    """json_mode: nothing but one JSON document goes to stdout. verbose: ids are shown whole. target: options that
    select the installation, added to every command in backquotes."""

    def __init__(
        self,
        *,
        json_mode: bool = False,
        verbose: bool = False,
        target: Target = (),
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.json_mode = json_mode
        self.verbose = verbose
        self._target = target
        self._out_file = out or sys.stdout
        self._err_file = err or sys.stderr
        self._out: Console | None = None
        self._err: Console | None = None
        self._progress: ProgressLine | None = None

    # consoles are made when first needed: importing rich costs more than most verbs take --------------------------

    @property
    def out(self) -> Console:
        if self._out is None:
            self._out = _console(self._out_file)
        return self._out

    @property
    def err(self) -> Console:
        if self._err is None:
            self._err = _console(self._err_file)
        return self._err

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line of result; wrapped on a terminal, below its own indentation."""
        if not self.json_mode:
            self._pause()  # or the progress line stays in the text: both are on the same terminal
            self._print(self.out, _broken(self.out, self._shown(text)), style)

    def copied(self, text: str) -> None:
        """A line of result that is meant to be copied: never wrapped."""
        if not self.json_mode:
            self._pause()
            self._print(self.out, self._shown(text))

    def foreign(self, line: str, lead: str = "") -> None:
        """A line of a log, without `target`: no command in it is ours. Wrapped on a terminal."""
        if not self.json_mode:
            self._pause()
            self._print(self.out, _of_log(self.out, lead + visible(scrub(line.removesuffix("\r")))))

    def raw(self, line: str) -> None:
        """A line of a log, byte for byte but for secrets."""
        self.as_it_is(f"{scrub(line)}\n")

    def command(self, command: str) -> str:
        """A command of this tool, for the same installation."""
        return with_target(command, self._target)

    def hanging(self, lead: str, text: str, style: str | None = None) -> None:
        """A line of result; wrapped on a terminal, with the rest below the beginning of `text`."""
        if not self.json_mode:
            self._pause()
            self._print(self.out, _wrapped(self.out, lead, self._shown(text)), style)

    def marked(self, mark: Mark, text: str) -> None:
        """A line of result with its mark."""
        self.hanging(f"{mark.sign} ", text, mark.style)

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Collection[str] = (),
        folds: Collection[str] = (),
    ) -> None:
        """A table; on a terminal that is too narrow for it, a paragraph for each row. right, folds: see table_lines."""
        if self.json_mode or not rows:
            return
        self._pause()
        shown = [[self._shown(cell) for cell in row] for row in rows]
        lines = table_lines(self.out, heads, shown, right, folds)
        for number, line in enumerate(lines):
            self._print(self.out, line, "bold" if number == 0 else style_of(line))
        for row in shown if not lines else ():
            first, *rest = [f"{head} {cell}" for head, cell in zip(heads, row, strict=True) if head]
            marked = first if heads[0] else f"{row[0]} {first}"  # the column of marks has no head
            self._print(self.out, marked, style_of(marked) or "bold")
            self._print(self.out, _wrapped(self.out, "  ", ", ".join(rest)))

    def note(self, text: str, style: str | None = None) -> None:
        """A remark on stderr; wrapped on a terminal."""
        self._pause()
        self._print(self.err, _broken(self.err, self._shown(text)), style)

    @contextlib.contextmanager
    def one_piece(self) -> Iterator[None]:
        """Write the notes of the body in a single write, so that output of `install | cat` cannot come between them."""
        self._pause()
        with self.err:
            yield

    def log(self, line: str) -> None:
        """A line of `--verbose`, on stderr; wrapped on a terminal."""
        self._pause()
        self._print(self.err, _of_log(self.err, visible(scrub(line))), "dim")

    def _shown(self, text: str) -> str:
        shown = visible(addressed(scrub(text), self._target))
        return shown if self.verbose else with_short_ids(shown)

    def _print(self, console: Console, text: str, style: str | None = None) -> None:
        """The one way to a terminal; `text` is safe for it."""
        if ascii_only(console.encoding, os.environ):
            text = in_ascii(text)
        console.print(text, style=style, markup=False, emoji=False)

    def data(self, value: Any, *, compact: bool = False) -> None:
        """The JSON document; compact: on one line, where several follow one another."""
        self.as_it_is(json_text(_scrubbed(value, self._target), indent=None if compact else 2) + "\n")

    def document(self, verb: str, outcome: str = "done", *, compact: bool = False, **fields: Any) -> None:
        """The JSON document of a verb; nothing without --json. compact: see data."""
        if self.json_mode:
            self.data({"schema": SCHEMA, "verb": verb, "outcome": outcome, **fields}, compact=compact)

    def as_it_is(self, text: str) -> None:
        """To stdout without the scrubber: scrubbed text, or a token that was asked for with --show-token."""
        self._pause()
        try:
            self._out_file.write(text)
            self._out_file.flush()
        except BrokenPipeError:
            discard(self._out_file)

    # progress ---------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> ProgressLine:
        if self._progress is None:
            self._progress = ProgressLine(self._err_file, lambda: self.err, quiet=self.json_mode)
        return self._progress

    def doing(self, text: str, step: str = "") -> None:
        """step: `step 2 of 8`, of a longer piece of work."""
        self.progress.step(text, step)

    def waiting(self, what: str) -> None:
        self.progress.waiting(what)

    def phase(self, phase: Phase) -> None:
        self.progress.phase(phase)

    def server_down(self, *, down: bool) -> None:
        self.progress.server_down(down=down)

    def warning(self, text: str) -> None:
        """A remark on stderr, with its mark."""
        self.note(f"{Mark.WARNING.sign} {text}", Mark.WARNING.style)

    @contextlib.contextmanager
    def one_screen(self) -> Iterator[None]:
        """Show the block's lines on a cleared terminal, from its top: what does not fit is left out at the end."""
        with self.out.capture() as captured:
            yield
        lines, room = captured.get().splitlines(), self.out.height - 2  # one for the cursor, one for the progress line
        if len(lines) > room:
            lines[room - 1 :] = [self._shown(f"  ... {len(lines) - room + 1} more lines in a higher terminal")]
        self.close()
        self.out.clear()
        self.as_it_is("\n".join([*lines, ""]))

    def _pause(self) -> None:
        if self._progress is not None:
            self._progress.pause()

    def interrupted(self) -> None:
        """Say what was being done, to a person who was shown it."""
        if self._progress is not None and self._progress.is_watched and (position := self._progress.position()):
            self.note(f"Stopped during: {position}.")

    def close(self) -> None:
        self._pause()

    # the run ----------------------------------------------------------------------------------------------------

    def stage_begins(self, stage: AnyStage) -> None:
        self.doing(stage.name, f"stage {stage.number} of 14")

    def check(self, check: Check) -> None:
        """One check of `verify`; what was observed where it failed, or with --verbose."""
        detail = "" if check.passed and not self.verbose else f": {check.message}"
        self.marked(Mark.OK if check.passed else Mark.FAILED, f"{check.name}{detail}")

    def error(self, error: DeployError, *, stage: str = "") -> None:
        """One block: what, where, what to do; then the detail."""
        self._pause()
        self.err.print()
        what = visible(scrub(f"Error: {error.what}"))  # a command in it is named, not recommended
        if not self.verbose:
            what = with_short_ids(what)
        self._print(self.err, _broken(self.err, what), "bold red")
        location = ", ".join(dict.fromkeys(part for part in (stage, error.where) if part))
        if location:
            self._print(self.err, _wrapped(self.err, "  where    ", self._shown(location)))
        if error.remedy:
            self._print(self.err, _wrapped(self.err, "  do this  ", self._shown(whole_commands(error.remedy))))
        self.note(f"  exit     {error.exit_code} ({error.kind})")
        if error.detail:
            self.err.print()
            for line in visible_lines(scrub(error.detail)).split("\n"):
                self._print(self.err, _broken(self.err, textwrap.indent(line, "    ")))


def discard(file: TextIO) -> None:
    """Send everything written to `file` nowhere, without an error: its reader is gone (`install | head`)."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, file.fileno())
        finally:
            os.close(null)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    class Steady(Console):
        def on_broken_pipe(self) -> None:
            """rich would end the program here, half-way through an install."""
            self.quiet = True
            discard(file)

    return Steady(file=file, highlight=False, soft_wrap=True)


def _wrapped(console: Console, lead: str, text: str) -> str:
    """`text` in the column behind `lead`.

    A word that is too long for it is moved left on a line of its own, so that it can be copied.
    """
    if not console.is_terminal:
        return lead + text
    room = max(console.width - len(lead), 20)
    lines: list[str] = []
    for line in textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False):
        if len(line) <= room:
            lines.append(" " * len(lead) + line)
        else:
            lines.append(" " * max(console.width - len(line), 0) + line)
    if lines and lines[0].startswith(" " * len(lead)):
        lines[0] = lead + lines[0][len(lead) :]
    elif lead.strip() or not lines:
        lines.insert(0, lead.rstrip())
    return "\n".join(lines)


def _broken(console: Console, text: str) -> str:
    """Wrap every line of `text` on its own, with its own indentation."""
    if not console.is_terminal:
        return text
    lines = []
    for line in text.split("\n"):
        lead = _LEAD.match(line)[0]  # type: ignore[index]
        lines.append(_wrapped(console, lead, line[len(lead) :].rstrip()) if len(line) > console.width else line)
    return "\n".join(lines)


def _of_log(console: Console, line: str) -> str:
    """Wrap a line of a log, and indent the rest of it: where a line of the log begins must be seen."""
    if not console.is_terminal or len(line) <= console.width:
        return line
    lead = _LOG_LEAD.match(line)[0][: console.width // 2]  # type: ignore[index]
    text = _wrapped(console, f"{lead}  ", line[len(lead) :])
    return text.replace(f"{lead}  ", lead, 1) if text.startswith(f"{lead}  ") else text


def _scrubbed(value: Any, target: Target) -> Any:
    """target: added to the commands in fields for a person."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, dict):
        return {
            key: _addressed(_scrubbed(item, target), target, whole=key == "remedy")
            if key in _WITH_COMMANDS
            else _scrubbed(item, target)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_scrubbed(item, target) for item in value]
    return value


def _addressed(value: Any, target: Target, *, whole: bool = False) -> Any:
    if isinstance(value, list):
        return [_addressed(item, target) for item in value]
    if not isinstance(value, str):
        return value
    return addressed(whole_commands(value) if whole else value, target)
