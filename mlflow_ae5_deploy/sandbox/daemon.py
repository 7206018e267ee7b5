"""The sandbox's process: `python -m mlflow_ae5_deploy.sandbox.daemon`.

`lifecycle.up` starts it, detached. It holds a lock on `daemon.lock` for as long as it lives, and writes
`daemon.json` when it answers.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import cast

from mlflow_ae5_deploy.sandbox.info import SandboxError
from mlflow_ae5_deploy.sandbox.sandbox import Database, Sandbox
from mlflow_ae5_deploy.sandbox.store import make_private_folder, write_private

READY_FILE = "daemon.json"
LOCK_FILE = "daemon.lock"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mlflow_ae5_deploy.sandbox.daemon")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--settings", type=json.loads, default={})
    options = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    state_dir = make_private_folder(options.state_dir.resolve())
    lock = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logging.error("another sandbox is running on %s", state_dir)  # noqa: TRY400 - nothing broke
        return 1
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    wake = _signals()
    try:
        server = Sandbox(state_dir, options.settings, port=options.port, database=cast("Database", options.database))
        info = server.start()
    except SandboxError as error:
        logging.error("%s", error)  # noqa: TRY400 - written for users, who need no traceback
        return 1
    write_private(state_dir / READY_FILE, info.to_json())
    number = os.read(wake, 1)[0]
    logging.info("received %s", signal.Signals(number).name)
    (state_dir / READY_FILE).unlink(missing_ok=True)
    server.stop()
    return 0


def _signals() -> int:
    """A descriptor that yields the number of a stop signal.

    Not an Event set by a handler: handlers wait for the main thread to be interrupted, and a signal that comes just
    before it goes to sleep, or to another thread, does not interrupt it.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return readable


if __name__ == "__main__":
    sys.exit(main())
