"""The journal's frame around a verb that changes something: who began it where, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow_ae5_deploy.errors import DeployError
from mlflow_ae5_deploy.runbook.context import Context


@contextlib.contextmanager
def recorded(context: Context) -> Iterator[None]:
    """Write `begin`, then `end` with the outcome (done, or the kind of error), or `interrupted`."""
    began = context.clock.monotonic()
    context.journal.write("begin", account=context.account, host=context.access.target.options.hostname)
    try:
        yield
    except DeployError as error:
        _end(context, error.kind, error.what, began)
        raise
    except KeyboardInterrupt:
        context.journal.write("interrupted")
        raise
    _end(context, "done", "", began)


def _end(context: Context, outcome: str, what: str, began: float) -> None:
    seconds = round(context.clock.monotonic() - began, 1)
    context.journal.write("end", outcome=outcome, what=what, writes=context.access.costs()[1], seconds=seconds)
