"""The picture of a terminal and the transcript in README.md: one real run on a sandbox of its own.

    .venv/bin/python tools/terminal_picture.py      # writes runbooks/images/terminal.svg and the transcript

Progress is not in them. The picture shows stdout in colour, the transcript also warnings.
"""

from __future__ import annotations

import html
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "runbooks" / "images" / "terminal.svg"
README = ROOT / "README.md"
PROGRAM = "mlflow-ae5-deploy"
IN_PICTURE = ("install --sandbox", "status --sandbox")
IN_TRANSCRIPT = ("backup --sandbox", "backup list --sandbox", "rotate-token --sandbox", "install --sandbox")
_COLUMNS = 80
_PROGRESS = re.compile(r"^[0-9]+ (?:s|min)\b.*\n", re.M)  # a line every 10 seconds, with TERM=dumb
_STATE = "~/.local/state/mlflow-ae5-deploy"
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.S)  # rich's template loads them from another host
_TRANSCRIPT = re.compile(r"(?<=<!-- generated: transcript -->\n```console\n).*?(?=```\n<!-- end -->)", re.S)
# What differs from run to run.
_VARYING = (
    (r"(?s)\bGC +every.*?Backup", "GC"),  # the schedule may start a run between two commands
    (r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]+", "SNAPSHOT"),
    (r"(?<![0-9a-z])[0-9a-f]{6,}(?![0-9a-z])", "ID"),
    (r"[0-9.]+ (s|min|h|days|bytes|kB|MB)\b", "AMOUNT"),
    (r"[0-9]+", "N"),
    (r"\s+", ""),
)
Recorded = Sequence[tuple[str, str]]
"""(command, coloured output) of each command."""


def record(folder: Path, commands: Sequence[str]) -> Recorded:
    """Run the commands on a sandbox in `folder`, which is reset afterwards. Raises CalledProcessError."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("AE5_", "MLFLOW_", "NO_COLOR"))}
    environ = given | {
        "MLFLOW_AE5_DEPLOY_STATE": str(folder),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": str(_COLUMNS),
    }
    environ.pop("CI", None)
    shown = re.compile(r"/\s*".join(re.escape(part) for part in str(folder).split("/")))  # a long path is folded
    try:
        return [(command, shown.sub(_STATE, _output(command, environ))) for command in commands]
    finally:
        _output("sandbox reset --yes", environ)


def _output(command: str, environ: Mapping[str, str]) -> str:
    """What the command writes to a terminal on its stdout; for the transcript also on its stderr."""
    ours, theirs = pty.openpty()
    plain = command in IN_TRANSCRIPT[:-1]
    with os.fdopen(ours, "rb") as reading, tempfile.TemporaryFile() as errors:
        words, stderr = [PROGRAM, *command.split()], theirs if plain else errors
        environ = {**environ, "TERM": "dumb" if plain else "xterm-256color"}
        process = subprocess.Popen(words, env=environ, stdin=subprocess.DEVNULL, stdout=theirs, stderr=stderr)
        os.close(theirs)
        written = b""
        while piece := _read(reading):
            written += piece
        if code := process.wait():
            errors.seek(0)
            raise subprocess.CalledProcessError(code, command, written, errors.read())
    return _PROGRESS.sub("", written.decode().replace("\r\n", "\n")).rstrip("\n")


def _read(reading: io.BufferedReader) -> bytes:
    try:
        return reading.read1()
    except OSError:  # how Linux says that the other end of a terminal is closed
        return b""


def picture(recorded: Recorded) -> str:
    """An SVG that needs nothing from elsewhere."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for number, (command, output) in enumerate(recorded):
        if number:
            console.print()
        console.print(Text(f"$ {PROGRAM} {command}", style="bold"))
        console.print(Text.from_ansi(output))
    svg = _FONTS.sub("", console.export_svg(title=PROGRAM, theme=MONOKAI, unique_id="terminal"))
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace")


def transcript(recorded: Recorded) -> str:
    return "".join(f"$ {PROGRAM} {command}\n{Text.from_ansi(output).plain}\n" for command, output in recorded)


def transcript_in_readme() -> str:
    """The transcript in README.md."""
    found = _TRANSCRIPT.search(README.read_text(encoding="utf-8"))
    return found[0] if found else ""


def constant(text: str) -> str:
    """What every run prints the same: without numbers, ids and white space."""
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text)
    return text


def text_in(svg: str) -> str:
    """The text in a picture."""
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", "", svg, flags=re.S)).replace("\xa0", " ")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        recorded = record(Path(folder), [*IN_PICTURE, *IN_TRANSCRIPT])
    PICTURE.write_text(picture(recorded[: len(IN_PICTURE)]), encoding="utf-8")
    lines = transcript(recorded[len(IN_PICTURE) :])
    README.write_text(_TRANSCRIPT.sub(lambda _: lines, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
