"""The crontab line that rotates the token when needed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence

from mlflow_ae5_deploy.common.errors import Configuration


def crontab_line(schedule: str, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run this very installation of the tool, by absolute path. Results are discarded, because cron mails what is
    printed; errors are mailed."""
    settings = [f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    command = [shlex.quote(word) for word in (sys.executable, "-m", "mlflow_ae5_deploy", *arguments)]
    text = " ".join([*(["env", *settings] if settings else []), *command, ">/dev/null"])
    if "\n" in text or "\r" in text:
        raise Configuration(
            "A path with a line break in it cannot be written into a crontab.", remedy="Rename the file or folder."
        )
    return f"{schedule} {text}".replace("%", r"\%")  # in a crontab an unescaped % ends the command
