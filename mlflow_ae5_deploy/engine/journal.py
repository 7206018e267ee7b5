"""The journal: one line of JSON per effect, on disk before the next effect is begun."""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.files import cannot_write, private_folder
from mlflow_ae5_deploy.common.redaction import scrub

_log = logging.getLogger(__name__)


def operator() -> str:
    """Who runs this tool, as `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Journal:
    """`journal.jsonl` (0600) of one installation. With read_only nothing is written."""

    def __init__(self, folder: Path, clock: Clock, *, verb: str, read_only: bool = False) -> None:
        self.path = folder / "journal.jsonl"
        self._clock = clock
        self._verb = verb
        self._read_only = read_only

    def effect(self, action: str, resource: str, name: str = "", **fields: Any) -> None:
        """Note what a request has just changed. name: of the resource; `id` and `account` are further fields."""
        self.write("effect", action=action, resource=resource, name=name, **fields)

    def write(self, event: str, **fields: Any) -> None:
        """Append one line and wait until it is on disk. Text fields are scrubbed of secrets."""
        if self._read_only:
            return
        line = {
            "time": self._clock.now().isoformat(timespec="milliseconds"),
            "who": operator(),
            "verb": self._verb,
            "event": event,
            **{key: scrub(value) if isinstance(value, str) else value for key, value in fields.items()},
        }
        _log.info(
            "%s %s", event, " ".join(f"{key}={value}" for key, value in fields.items() if value not in ("", None))
        )
        private_folder(self.path.parent)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # what a full disk has left of a line
                os.write(descriptor, (("\n" if torn else "") + json.dumps(line) + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(error, self.path) from None
