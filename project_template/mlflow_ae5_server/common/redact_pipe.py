"""Redact standard input: `python -m mlflow_ae5_server.common.redact_pipe`."""

from __future__ import annotations

import io
import os
import signal
import sys

from mlflow_ae5_server.common import settings
from mlflow_ae5_server.common.redaction import scrub


def pipe_main() -> None:
    """Copy stdin to stdout, scrubbed; ends when the last writer is gone."""
    # The parent ends this process by closing the pipe. A signal to the whole group must not lose the last lines.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    settings.load(os.environ)
    for line in io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace"):
        sys.stdout.write(scrub(line))
        sys.stdout.flush()


if __name__ == "__main__":
    pipe_main()
