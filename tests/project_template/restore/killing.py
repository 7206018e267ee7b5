"""Ends a job by SIGKILL in the midst of things, at any chosen one of the files it opens, makes, moves or removes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable

_EVENTS = frozenset(
    {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.truncate", "sqlite3.connect", "os.link"}
)


def run(
    work: Callable[[], object], at: int | None = None, when: Callable[[], bool] = lambda: False, after: str = ""
) -> tuple[int, int]:
    """`work` in a fork of this process, killed at its event number `at`, or at one `when` something holds, or at the
    next one after it has opened the file `after`.

    Returns the signal (0: it ended) and the number of events.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
            counter = itertools.count(1)
            events, asking, opened = 0, False, False

            def hook(name: str, arguments: tuple[object, ...]) -> None:
                nonlocal events, asking, opened
                if name in _EVENTS and not asking:
                    events = next(counter)
                    asking = True  # what `when` opens is no event
                    try:
                        if events == at or opened or when():
                            os.kill(os.getpid(), signal.SIGKILL)
                        opened = after != "" and str(arguments[0]).endswith(after)
                    finally:
                        asking = False

            sys.addaudithook(hook)
            work()
            os.write(writing, str(events).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        message = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in {0, -signal.SIGKILL}, ended
    return -ended, int(message or 0)
