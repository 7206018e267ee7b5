"""What all groups of verbs share: the session, waiting, and writes whose answer may get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.ae5.timeouts import WaitTimeouts
from mlflow_ae5_deploy.common.clock import Clock, Deadline, poll_until
from mlflow_ae5_deploy.common.errors import AnswerLost, Conflict, DeadlineExceeded

T = TypeVar("T")

_MOST_ATTEMPTS = 3

OnWait = Callable[[str, float], None]


class ResourceApi:
    """session, clock, waits and on_wait(what is awaited, seconds so far) are given by whoever wires things up."""

    def __init__(
        self, session: UserSession, clock: Clock, waits: WaitTimeouts | None = None, on_wait: OnWait | None = None
    ) -> None:
        self._session = session
        self._clock = clock
        self._waits = waits or WaitTimeouts()
        self._on_wait = on_wait

    def _poll(self, probe: Callable[[], T | None], waiting_for: str, seconds: float, remedy: str = "") -> T:
        return poll_until(
            probe,
            waiting_for=waiting_for,
            deadline=Deadline(self._clock, seconds),
            on_wait=self._on_wait,
            remedy=remedy,
        )

    def _write_once(self, send: Callable[[], T], find: Callable[[], T | None], what: str) -> T:
        """Send a write that must not be done twice.

        When its answer is lost, its effect is looked for (for a while: records may show late) before it is sent
        again. A conflict after a lost answer means that the lost one did its work.
        """
        lost: AnswerLost | None = None
        for _ in range(_MOST_ATTEMPTS):
            clash: Conflict | None = None
            try:
                return send()
            except AnswerLost as error:
                lost = error
            except Conflict as error:
                clash = error
            if clash is not None and lost is None:
                raise clash
            found = self._search(find, what)
            if found is not None:
                return found
            if clash is not None:
                raise clash
        raise lost or AssertionError

    def _search(self, find: Callable[[], T | None], what: str) -> T | None:
        try:
            return self._poll(find, f"a sign of {what}, whose answer was lost", self._waits.lost_answer)
        except DeadlineExceeded:
            return None

    def _call_repeatedly(self, method: str, path: str, **request: Any) -> Any:
        """Send a write that may be done twice, such as setting or deleting by id. Repeated when an answer is lost."""
        lost: AnswerLost | None = None
        for _ in range(_MOST_ATTEMPTS):
            if lost is not None:
                self._clock.sleep(1.0)
            try:
                return self._session.call(method, path, **request)
            except AnswerLost as error:
                lost = error
        raise lost or AssertionError


def part(identity: str) -> str:
    """An id or name as one part of a path."""
    return quote(identity, safe="")
