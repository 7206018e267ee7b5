"""`python -m mlflow_ae5_deploy`, and the installed command."""

from __future__ import annotations

import sys
from types import FrameType


def entrypoint() -> None:
    """Ctrl-C, SIGTERM and SIGHUP are answered in the same way from here to the end, also while the program is still
    being loaded."""
    try:
        try:
            _answer_signals()
            from mlflow_ae5_deploy.cli.main import main

            code = main()
        except KeyboardInterrupt:
            code = 130
            sys.stderr.write("\nInterrupted.\n")
    except KeyboardInterrupt:  # pressed again
        code = 130
    _ignore_signals()
    sys.exit(code)


def _answer_signals() -> None:
    import signal

    sys.unraisablehook = interrupt_again
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, interrupt)


def _ignore_signals() -> None:
    """The result is told. A signal that comes while the interpreter ends would kill it, and hide the exit code."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def interrupt(number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C does."""
    import signal

    if number == signal.SIGHUP:
        _leave_dead_terminal()
    raise KeyboardInterrupt


def _leave_dead_terminal() -> None:
    """What is still said must not fail because nobody is there to read it: the run has to be ended in order."""
    import contextlib
    import os
    import stat

    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed, which is as well
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def interrupt_again(found: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that falls where Python cannot raise it, such as `__del__`, is raised a moment later, not printed."""
    if not isinstance(found.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(found)
        return
    import contextlib
    import signal
    import threading

    main = threading.main_thread()
    with contextlib.suppress(RuntimeError):  # no thread is started any more: the program ends already
        # To that thread itself: else a wait that it has started meanwhile would be waited out.
        timer = threading.Timer(0.01, signal.pthread_kill, (main.ident, signal.SIGINT))
        timer.daemon = True
        timer.start()


if __name__ == "__main__":
    entrypoint()
