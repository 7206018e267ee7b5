"""Send the requests of a lease: take it before a run's first request as the service account, keep it, give it back.

Before that first request there may be no account. Whatever a run observes, it observes with the lease.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mlflow_ae5_deploy.common.errors import DeployError, Locked, PlatformError
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.visible import visible
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import operator
from mlflow_ae5_deploy.engine.lease import made_by_hand, scope_of
from mlflow_ae5_deploy.engine.lease_claim import Claim, Claimant, Delete, List, Listed, Make, Pause, Step
from mlflow_ae5_deploy.engine.lock import InstallationLock

T = TypeVar("T")

_VALUE = Secret.public("-")
_LAST_ANSWER = 10.0  # seconds of silence when the lease is given back


@contextlib.contextmanager
def leased(
    context: Context, lock: InstallationLock, verb: str, *, wait_seconds: float, break_lock: bool
) -> Iterator[None]:
    """Hold the installation's lease for the body, from its first request on. lock: held, and keeps what was made."""
    keeper = _Keeper(context, lock, verb, timedelta(seconds=wait_seconds), break_lock)
    context.access.before_call = keeper
    attempts = 1  # after an error or Ctrl-C nobody wants to wait for a platform that may be silent
    try:
        yield
        attempts = 3
    finally:
        context.access.before_call = None
        keeper.give_back(attempts)


class _Keeper:
    """Called before each request as the service account or a consumer."""

    def __init__(self, context: Context, lock: InstallationLock, verb: str, wait: timedelta, break_lock: bool) -> None:
        run = Claimant(
            scope_of(context.settings.project.name), verb, operator(), uuid.uuid4().hex[:8], lock.nonces, break_lock
        )
        self._context, self._lock, self._wait = context, lock, wait
        self._claim = Claim(run, self._now, self._pending)
        self._busy = False
        self._refused: Locked | None = None
        self._attempts = 3

    def __call__(self, write: bool) -> None:
        """Raises Locked before a write without the lease, and as the requests do."""
        if self._busy or (self._refused is not None and not write):
            return
        if self._refused is not None:
            raise self._refused
        try:
            if self._claim.held:
                self._send(self._claim.keep(write=write))
            else:
                self._take()
        except Locked as error:
            self._refused = error
            raise

    def give_back(self, attempts: int) -> None:
        self._attempts = attempts
        self._send(self._claim.give_back())

    def _take(self) -> None:
        self._lock.nonces = self._claim.nonces  # on disk before it is on the platform
        listed = self._send(self._claim.take(self._wait))
        self._lock.nonces = self._claim.nonces
        self._context.cached.listed_secrets(listed.names)
        by_hand = made_by_hand(listed.names)
        self._context.warn([f"The secret {name} is no lock that this tool has made; delete it." for name in by_hand])

    def _send(self, steps: Generator[Step, Any, T]) -> T:
        answer: Any = None
        error: DeployError | None = None
        self._busy = True
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    answer = self._do(step)
                except PlatformError as failed:
                    error = failed
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._busy = False

    def _do(self, step: Step) -> Listed | None:
        context, platform = self._context, self._context.platform
        before = platform.session.writes_made
        try:
            match step:
                case Make():
                    platform.send_secret(step.name, _VALUE)
                case Delete():
                    platform.delete_secret(step.name, attempts=self._attempts, timeout=_LAST_ANSWER)
                    if step.breaks is not None:
                        text = visible(f"of the interrupted {step.breaks.verb} of {step.breaks.who}")
                        context.journal.effect("break", "lock", text)
                case List():
                    return Listed(platform.secret_names(), platform.session.dated.stated)
                case Pause():
                    context.progress.waiting(step.waiting_for)
                    context.clock.sleep(step.seconds)
        finally:
            context.access.lock_writes += platform.session.writes_made - before
        return None

    def _now(self) -> datetime:
        """At least the platform's time: a second is the precision of its `Date`, and this machine may have slept."""
        dated, clock = self._context.platform.session.dated, self._context.clock
        awake = timedelta(seconds=clock.monotonic() - dated.monotonic)
        return dated.stated + max(awake, clock.now() - dated.sent) + timedelta(seconds=1)

    def _pending(self) -> str:
        state = self._context.state
        if state.upgrade is not None:
            return "upgrade"
        return "restore" if state.restore is not None and state.restore.status == "started" else ""
