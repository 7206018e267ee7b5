"""`python -m mlflow_ae5_deploy`, and the installed command."""

from __future__ import annotations

import contextlib
import sys


def interrupt_again(found: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that falls where Python cannot raise it, such as `__del__`, is raised a moment later, not printed."""
    if not isinstance(found.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(found)
        return
    import signal
    import threading

    main = threading.main_thread()
    with contextlib.suppress(RuntimeError):  # no thread is started any more: the program ends already
        # To that thread itself: else a wait that it has begun meanwhile would be waited out.
        timer = threading.Timer(0.01, signal.pthread_kill, (main.ident, signal.SIGINT))
        timer.daemon = True
        timer.start()


def entrypoint() -> None:
    """Ctrl-C is answered in the same way while the program is still being loaded."""
    sys.unraisablehook = interrupt_again
    try:
        from mlflow_ae5_deploy.cli.main import main

        code = main()
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    entrypoint()
