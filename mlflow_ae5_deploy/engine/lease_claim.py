"""One run at a time for each installation, on all machines.

AE5 has nothing to lock on, but the names of an account's secrets can be listed, made and deleted. A lease is such a
name: it says who works, on what and until when; its value means nothing. The rules:

1. A run makes its name, then lists until its own name shows. It holds the lease if no other live name is listed.
2. Else all but the earliest delete their names. The earliest waits a moment for them to do so, then gives up, too.
3. The holder renews its lease before it expires: it makes a new name, and deletes the previous one when the new one
   shows. When it is late to do so, it stops writing unless it finds that nobody has broken its lease.
4. A name is live until it expires, by the `Date` of the platform's answers. The next holder first deletes what has
   expired.

Why there are never two holders: let A and B hold, and A's list be the earlier one. It shows A's name, and what a list
has shown is in every later list until it is deleted (A has ended) or expired (A has stopped writing). So B's list shows
A's name, and B does not hold. How late a name shows does not matter.

This assumes that a write takes effect before the lease expires under which it was sent. When it is sent, 10 minutes are
left, or 2 if the platform could not be reached for a renewal; an upload over a slow line may take longer.

An interrupted upgrade or restore keeps its name, as `unfinished`: it expires, but only `--break-lock` deletes it from
another machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.common.errors import DeadlineExceeded, DeployError, Locked, PlatformError
from mlflow_ae5_deploy.engine.lease import Lease, interrupted_remedy, interrupted_words, leases, work_of_others
from mlflow_ae5_deploy.engine.records import PendingOperation

TERM = timedelta(minutes=15)
_RENEW = timedelta(minutes=10)  # what is left when it is renewed
_MARGIN = timedelta(minutes=2)  # left at least for a write, against clocks that differ and requests that take long
_RETRY = timedelta(seconds=30)  # until a failed renewal is tried again
_PRECISION = timedelta(seconds=2)  # of the platform's clock, as it is estimated between two answers
_SHOWS = timedelta(seconds=60)  # a new name is listed
_YIELDS = timedelta(seconds=15)  # those that are not the earliest have deleted their names
_LOOKS_AGAIN = 5.0  # seconds, while it waits for another run
_REMEMBERED = 8  # runs whose names are not listed, at most

_READS_ONLY = frozenset({"backup list", "backup show", "backup verify", "doctor", "drill", "restore --list-saved"})
"""Verbs that an interrupted upgrade or restore of another machine does not keep from working."""


# the steps, for a caller that sends requests ------------------------------------------------------------------------


@dataclass(frozen=True)
class Listed:
    """at: when, by the platform's clock."""

    names: Collection[str]
    at: datetime


@dataclass(frozen=True)
class Make:
    name: str


@dataclass(frozen=True)
class Delete:
    """breaks: the interrupted operation of another machine that this ends."""

    name: str
    breaks: Lease | None = None


@dataclass(frozen=True)
class List:
    pass


@dataclass(frozen=True)
class Pause:
    seconds: float
    waiting_for: str


Step = Make | Delete | List | Pause
Steps = Generator[Step, Any, None]
"""Each step is answered with its result, which is a Listed for List, or by throwing its PlatformError."""


# the rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claimant:
    """The run that wants the lease. left: see Claim.nonces, of the run before it.

    The nonce is of the run, not of the machine: two runners of a pipeline with copies of the same state folder would
    take each other's leases for their own.
    """

    scope: str
    verb: str
    who: str
    nonce: str
    left: Sequence[str] = ()
    break_lock: bool = False


class Claim:
    """The lease of one run: `take`, then `keep` before every request, then `give_back`, however the run ends.

    now: at least the platform's time.
    """

    def __init__(
        self,
        run: Claimant,
        now: Callable[[], datetime],
        pending: Callable[[], PendingOperation | None] = lambda: None,
    ) -> None:
        self._run = run
        self._ours = {run.nonce, *run.left}
        self._now = now
        self._pending = pending
        self._own: list[Lease] = []  # names that may exist, the current one last
        self._retry: datetime | None = None
        self._marked = False  # a name says that an upgrade or restore is unfinished
        self.held = False

    @property
    def nonces(self) -> tuple[str, ...]:
        """Of this machine's runs whose names may still be there, or may show late; this run's last.

        Any of them may have named the upgrade or restore that is unfinished here, so until it ends none is dropped.
        """
        seen = {lease.nonce for lease in self._own}
        unseen = [nonce for nonce in self._run.left if nonce not in seen]
        kept = unseen if self._pending() else unseen[-_REMEMBERED:]
        return (*kept, *sorted(seen - {self._run.nonce}), self._run.nonce)

    @property
    def current(self) -> Lease:
        return self._own[-1]

    def take(self, wait: timedelta = timedelta()) -> Generator[Step, Any, Listed]:
        """Returns the list that decided. Raises Locked for another run that works, or has been interrupted."""
        end = self._now() + wait
        while True:
            now, run = self._now().replace(microsecond=0), self._run  # as a name has it
            own = Lease(run.scope, now, now + TERM, run.nonce, False, run.verb, run.who)
            listed = yield from self._settle(own)
            holder, interrupted = self._work_of_others(listed)
            if holder is None:
                self._refuse_interrupted(interrupted)
                if not self._is_late(own):
                    break
            yield from self._delete(own)
            while holder is not None:
                if self._now() >= end:
                    raise _locked(holder)
                yield Pause(_LOOKS_AGAIN, f"another run to finish ({holder.text})")
                holder, _ = self._work_of_others((yield List()))
        yield from self._clean_up(listed)
        self.held = True
        return listed

    def keep(self, *, write: bool) -> Steps:
        """Raises Locked if the lease was lost, and PlatformError if that cannot be found out."""
        own, now = self.current, self._now().replace(microsecond=0)
        unfinished = self._pending() if write and not self._marked else None
        due = own.expires - now <= _RENEW and (self._retry is None or now >= self._retry)
        if not due and not unfinished and not self._is_late(own):
            return
        renewed = replace(own, expires=now + TERM)
        if unfinished:
            renewed = replace(renewed, unfinished=True, verb=unfinished.verb)
        try:
            listed = yield from self._show(renewed)
        except PlatformError:
            if unfinished or self._is_late(own):
                raise
            self._retry = now + _RETRY
            return
        if self._is_late(own):
            yield from self._require_unbroken(own, renewed, listed)
        self._retry, self._marked = None, self._marked or renewed.unfinished
        self._own.remove(renewed)
        self._own.append(renewed)
        yield from self._delete(own, quietly=True)

    def give_back(self) -> Steps:
        """Delete all names of this run; one of an unfinished upgrade or restore stays. Raises no PlatformError.

        That one expires now, so that other machines need not wait.
        """
        self.held = False
        mark = next((lease for lease in reversed(self._own) if lease.unfinished and self._pending()), None)
        with contextlib.suppress(PlatformError):  # what is left expires
            if mark is not None and mark.is_live(self._now()):
                mark, live = replace(mark, expires=self._now().replace(microsecond=0) - _PRECISION), mark
                yield from self._show(mark)
                yield from self._delete(live)
            for lease in [lease for lease in self._own if lease != mark]:
                yield from self._delete(lease)

    def _show(self, lease: Lease) -> Generator[Step, Any, Listed]:
        """Make a further name, and wait until it shows: until then the previous one must stay."""
        self._own.insert(0, lease)
        yield Make(lease.name)
        return (yield from self._list_until_shown(lease, self._now()))

    def _list_until_shown(self, lease: Lease, began: datetime) -> Generator[Step, Any, Listed]:
        while True:
            listed: Listed = yield List()
            if lease.name in listed.names:
                return listed
            if self._now() - began >= _SHOWS:
                raise DeadlineExceeded(
                    f"Timed out after {_SHOWS.seconds} s waiting for the lock to be listed.",
                    where=f"secret {lease.name}",
                    remedy="Run the same command again. If it persists, the platform does not list a new secret.",
                )
            yield Pause(0.5, "the lock to be listed")

    def _require_unbroken(self, own: Lease, renewed: Lease, listed: Listed) -> Steps:
        """A run that is late to renew goes on only if nobody has broken the lease in the meantime."""
        other, _ = self._work_of_others(listed)
        if own.name not in listed.names or other is not None:
            self.held = False
            yield from self._delete(renewed, quietly=True)
            raise _lost(own, other)

    def _settle(self, own: Lease) -> Generator[Step, Any, Listed]:
        """Make the name, and list until it is decided who holds the lease."""
        self._own.insert(0, own)
        yield Make(own.name)
        began = self._now()
        while True:
            listed = yield from self._list_until_shown(own, began)
            other, _ = self._work_of_others(listed)
            if other is None or other.order < own.order or self._now() - began >= _YIELDS:
                return listed
            yield Pause(0.5, "another run to give way")

    def _clean_up(self, listed: Listed) -> Steps:
        """Before the first write of a new holder: else a late one could take its lease for unbroken."""
        found = leases(listed.names, self._run.scope)
        before = [lease for lease in found if lease.nonce in self._run.left]
        self._own[:0] = before  # also those of interrupted operations of this machine, which `give_back` judges
        for lease in before:
            if not lease.unfinished:
                yield from self._delete(lease)
        for lease in [lease for lease in found if lease.nonce not in self._ours]:
            if not lease.unfinished:
                yield Delete(lease.name)
            elif self._run.break_lock:
                yield Delete(lease.name, breaks=lease)
        self._marked = any(lease.unfinished for lease in before)

    def _delete(self, lease: Lease, *, quietly: bool = False) -> Steps:
        try:
            yield Delete(lease.name)
        except PlatformError:
            if not quietly:
                raise
            return
        self._own.remove(lease)

    def _work_of_others(self, listed: Listed) -> tuple[Lease | None, Lease | None]:
        return work_of_others(listed.names, self._run.scope, listed.at, self._ours)

    def _is_late(self, own: Lease) -> bool:
        return own.expires - self._now() <= _MARGIN

    def _refuse_interrupted(self, lease: Lease | None) -> None:
        if lease is None or self._run.break_lock or self._run.verb in _READS_ONLY:
            return
        raise Locked(
            interrupted_words(lease),
            where=f"secret {lease.name}",
            remedy=f"Nothing was changed. {interrupted_remedy(lease, self._pending())}",
        )


def _lost(own: Lease, other: Lease | None) -> DeployError:
    to = "" if other is None else f" to another run: {other.text}"
    return Locked(
        f"This run paused for too long and lost its lock{to}.",
        where=f"secret {own.name}",
        remedy="Run the same command again: it checks what was done.",
    )


def _locked(holder: Lease) -> DeployError:
    return Locked(
        f"Locked by another run: {holder.text}.",
        where=f"secret {holder.name}",
        remedy="Wait for it to end, or add --lock-wait SECONDS. If that machine is lost, the lock ends by itself at "
        f"{holder.expires:%Y-%m-%d %H:%M} UTC.",
    )
