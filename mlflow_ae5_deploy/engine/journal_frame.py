"""The journal's frame around a verb that changes something: who began it where, and how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import Journal


@contextlib.contextmanager
def recorded(context: Context) -> Iterator[None]:
    """The frame of a verb that works on the platform."""

    def writes() -> Mapping[str, Any]:
        return {"writes": context.access.costs()[1]}

    place = {"account": context.account, "host": context.access.target.options.hostname}
    with framed(context.journal, context.clock, place, writes):
        yield


@contextlib.contextmanager
def framed(
    journal: Journal,
    clock: Clock,
    place: Mapping[str, Any] | None = None,
    at_end: Callable[[], Mapping[str, Any]] = dict,
) -> Iterator[None]:
    """Write `begin`, then `end` with the outcome (done, or the kind of error), or `interrupted`."""
    began = clock.monotonic()

    def end(outcome: str, what: str) -> None:
        seconds = round(clock.monotonic() - began, 1)
        journal.write("end", outcome=outcome, what=what, **at_end(), seconds=seconds)

    journal.write("begin", **(place or {}))
    try:
        yield
    except DeployError as error:
        end(error.kind, error.what)
        raise
    except KeyboardInterrupt:
        journal.write("interrupted")
        raise
    end("done", "")
