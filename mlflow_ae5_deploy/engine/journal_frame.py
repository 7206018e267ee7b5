"""The journal's frame around a verb that changes something: who began it where, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.context import Context


@contextlib.contextmanager
def recorded(context: Context) -> Iterator[None]:
    """Write `begin`, then `end` with the outcome (done, or the kind of error), or `interrupted`."""
    journal, began = context.journal, context.clock.monotonic()

    def end(outcome: str, what: str) -> None:
        seconds = round(context.clock.monotonic() - began, 1)
        journal.write("end", outcome=outcome, what=what, writes=context.access.costs()[1], seconds=seconds)

    journal.write("begin", account=context.account, host=context.access.target.options.hostname)
    try:
        yield
    except DeployError as error:
        end(error.kind, error.what)
        raise
    except KeyboardInterrupt:
        journal.write("interrupted")
        raise
    end("done", "")
