"""Send the requests of a lease: take it before a run's first request as the service account, keep it, give it back.

Before that first request there may be no account. Whatever a run observes, it observes with the lease.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mlflow_ae5_deploy.ae5.resource_api import MOST_ATTEMPTS
from mlflow_ae5_deploy.common.errors import DeployError, Locked, PlatformError
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.visible import visible
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.journal import operator
from mlflow_ae5_deploy.engine.lease import made_by_hand, scope_of
from mlflow_ae5_deploy.engine.lease_claim import Claim, Claimant, Delete, List, Listed, Make, Pause, Step, Steps
from mlflow_ae5_deploy.engine.lock import InstallationLock

T = TypeVar("T")

_VALUE = Secret.public("-")
_LAST_ANSWER = 10.0  # seconds of silence when the lease is given back
_JUMP = timedelta(minutes=1)  # by which the clocks of this machine may differ


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
        attempts = MOST_ATTEMPTS
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
        self._claim = Claim(run, self._now, lambda: context.state.pending_operation)
        self._busy = False
        self._refused: DeployError | None = None
        self._attempts = MOST_ATTEMPTS  # of a write
        self._timeout: float | None = None  # of a request, instead of the settings'

    def __call__(self, write: bool) -> None:
        """Raises before a write without the lease: Locked, or what the requests for it have raised."""
        if self._busy or (self._refused is not None and not write):
            return
        if self._refused is not None:
            raise self._refused
        taken = self._claim.held
        try:
            if taken:
                self._send(self._keep(write))
            else:
                self._take()
        except (Locked, PlatformError) as error:
            if isinstance(error, Locked) or not taken:
                self._refused = error
            raise

    def give_back(self, attempts: int) -> None:
        self._attempts, self._timeout = attempts, _LAST_ANSWER
        self._send(self._claim.give_back())

    def _take(self) -> None:
        self._lock.nonces = self._claim.nonces  # on disk before it is on the platform
        listed = self._send(self._claim.take(self._wait))
        self._lock.nonces = self._claim.nonces
        self._context.cached.listed_secrets(listed.names)
        by_hand = made_by_hand(listed.names)
        self._context.warn([f"The secret {name} is no lock that this tool has made; delete it." for name in by_hand])

    def _keep(self, write: bool) -> Steps:
        awake, elapsed = self._since_last_answer()
        if elapsed - awake > _JUMP:
            yield List()  # the machine slept, or its clock was set: the platform knows the time
        yield from self._claim.keep(write=write)

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
                    platform.send_secret(step.name, _VALUE, attempts=self._attempts, timeout=self._timeout)
                case Delete():
                    platform.delete_secret(step.name, attempts=self._attempts, timeout=self._timeout)
                    if step.breaks is not None:
                        text = visible(f"of the interrupted {step.breaks.verb} of {step.breaks.who}")
                        context.journal.effect("break", "lock", text)
                case List():
                    return Listed(platform.secret_names(timeout=self._timeout), platform.session.dated.stated)
                case Pause():
                    context.progress.waiting(step.waiting_for)
                    context.clock.sleep(step.seconds)
        finally:
            context.access.lock_writes += platform.session.writes_made - before
        return None

    def _now(self) -> datetime:
        """At least the platform's time: a second is the precision of its `Date`, and this machine may have slept."""
        return self._context.platform.session.dated.stated + max(self._since_last_answer()) + timedelta(seconds=1)

    def _since_last_answer(self) -> tuple[timedelta, timedelta]:
        """By a clock that may stop while the machine sleeps, and by one that can be set."""
        dated, clock = self._context.platform.session.dated, self._context.clock
        return timedelta(seconds=clock.monotonic() - dated.monotonic), clock.now() - dated.sent
