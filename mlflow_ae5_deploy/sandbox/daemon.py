"""The sandbox as a process: `python -m mlflow_ae5_deploy.sandbox.daemon --state-dir DIR`.

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
import threading
from pathlib import Path
from types import FrameType
from typing import cast

from .info import SandboxError
from .server import Database, SandboxServer
from .store import make_private_folder, write_private

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
        logging.exception("another sandbox already runs on %s", state_dir)
        return 1
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    end = threading.Event()

    def finish(number: int, _: FrameType | None) -> None:
        logging.info("received %s", signal.Signals(number).name)
        end.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, finish)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = SandboxServer(
            state_dir, options.settings, port=options.port, database=cast("Database", options.database)
        )
        info = server.start()
    except SandboxError as error:
        logging.error("%s", error)  # noqa: TRY400 - written for users, who need no traceback
        return 1
    write_private(state_dir / READY_FILE, info.to_json())
    end.wait()
    (state_dir / READY_FILE).unlink(missing_ok=True)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
