"""The log of `--verbose`: what the modules' loggers record, on stderr. The console masks secrets."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from mlflow_ae5_deploy.render.console import Reporter

_PACKAGE = "mlflow_ae5_deploy"


class _LogHandler(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        module = record.name.removeprefix(f"{_PACKAGE}.")
        self._reporter.log(f"{when}.{int(record.msecs):03d} {module}: {record.getMessage()}")


@contextlib.contextmanager
def logged(reporter: Reporter, verbose: int) -> Iterator[None]:
    """Show the log of the body: nothing with 0, steps and requests with 1, what requests send and receive with 2.

    It reaches no other handler, because a library's would not mask secrets.
    """
    logger, handler = logging.getLogger(_PACKAGE), _LogHandler(reporter)
    propagated, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        logger.setLevel(level)
