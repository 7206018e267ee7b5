"""The line that keeps the token right without anybody: what it is, and how it gets into a crontab and out again.

The line is known by the mark at its end, so that installing it again replaces it, whatever it was.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration, Refused

_SECONDS = 30.0


def mark(installation: str) -> str:
    """installation: the name of its state folder, which no other installation has."""
    return f"# mlflow-ae5-deploy rotate-token {installation}"


def line(schedule: str, command: Sequence[str], environment: Mapping[str, str], installation: str) -> str:
    """One line of a crontab. Its results go nowhere, because cron mails what is printed; errors are mailed."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    words = [*(["env", *settings] if settings else []), *(shlex.quote(word) for word in command), ">/dev/null"]
    text = " ".join(words)
    if "\n" in text or "\r" in text:
        raise Configuration(
            "A path with a line break in it cannot be written into a crontab.", remedy="Rename the file or folder."
        )
    # In a crontab an unescaped % ends the command.
    return f"{schedule} {text} {mark(installation)}".replace("%", r"\%")


def with_line(table: str, desired: str, installation: str) -> str:
    """Pure: the table with exactly this line of ours, in the place of an earlier one."""
    lines = _lines(table)
    ours = [number for number, text in enumerate(lines) if _is_ours(text, installation)]
    kept = [text for text in lines if not _is_ours(text, installation)]
    kept.insert(ours[0] if ours else len(kept), desired)
    return "\n".join(kept) + "\n"


def without_line(table: str, installation: str) -> str:
    """Pure: the table without any line of ours."""
    kept = [text for text in _lines(table) if not _is_ours(text, installation)]
    return "\n".join(kept) + "\n" if kept else ""


def own_lines(table: str, installation: str) -> list[str]:
    return [text for text in _lines(table) if _is_ours(text, installation)]


def has_line(table: str, installation: str) -> bool:
    return bool(own_lines(table, installation))


def _lines(table: str) -> list[str]:
    """Only at line breaks: what else `splitlines` takes for one may stand inside of somebody's line."""
    return table.removesuffix("\n").split("\n") if table else []


def _is_ours(text: str, installation: str) -> bool:
    return text.rstrip().endswith(mark(installation).replace("%", r"\%"))


class Crontab:
    """The table of whoever runs this, through the program `crontab`. Raises Configuration where there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {**environ, "LC_ALL": "C"}

    def read(self) -> str:
        """Empty when there is no table yet; anything else that goes wrong is an error, or it would be overwritten."""
        done = self._run("-l")
        if done.returncode == 0:
            return done.stdout
        if "no crontab for" in done.stderr.lower():
            return ""
        raise self._refused("read", done.stderr)

    def write(self, table: str) -> None:
        """Replace the table, and see that it is there."""
        done = self._run("-", given=table)
        if done.returncode != 0:
            raise self._refused("written", done.stderr)
        if not self.read().endswith(table):  # some put a header of their own in front
            raise self._refused("written", "it reads back differently")

    def _run(self, argument: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        program = shutil.which("crontab", path=self._environ.get("PATH", os.defpath))
        if program is None:
            raise Configuration(
                "There is no program `crontab` on this machine.",
                where="PATH",
                remedy="Install cron, or give the line to another scheduler: `schedule-rotation` prints it.",
            )
        try:
            return subprocess.run(
                [program, argument],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                env=self._environ,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"`crontab {argument}` did not end within {_SECONDS:.0f} s"
        except (OSError, ValueError) as error:
            message = type(error).__name__
        raise self._refused("used", message)

    @staticmethod
    def _refused(what: str, message: str) -> Refused:
        return Refused(
            f"The crontab could not be {what}: {' '.join(message.split())[:300] or 'no reason given'}.",
            where="crontab",
            remedy="Nothing was changed. Add the line by hand (`crontab -e`): `schedule-rotation` prints it.",
        )


def program() -> list[str]:
    """How to start this very installation of the tool, by absolute path. cron has no PATH to speak of."""
    import sys

    return [str(Path(sys.executable)), "-m", "mlflow_ae5_deploy"]
