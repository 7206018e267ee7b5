"""Shared behaviour of the resource APIs: waits, and writes with a lost answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from mlflow_ae5_deploy.ae5.models import Revision
from mlflow_ae5_deploy.ae5.responses import checked
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.common.clock import Clock, Deadline, poll_until
from mlflow_ae5_deploy.common.errors import AnswerLost, Conflict, DeadlineExceeded, NotFound

T = TypeVar("T")

MOST_ATTEMPTS = 3
VISIBLE = 60.0  # seconds until a list must show a new or changed record

OnWait = Callable[[str], None]


@dataclass(frozen=True)
class WaitTimeouts:
    """Deadlines in seconds."""

    project: float = 300  # an upload is processed and listed
    deployment: float = 900  # a deployment starts
    stop: float = 300  # a stopped deployment is no longer listed
    endpoint_free: float = 180  # the platform frees an endpoint of ours (1-2 minutes on Kubernetes)
    secret: float = 300  # a secret is listed
    visible: float = VISIBLE
    lost_answer: float = 20  # the effect of a write whose answer was lost shows
    reuse: float = 30  # age at which the projects listed by `whoami` are listed again


class ResourceApi:
    """Base of the resource APIs. on_wait: called with the wait's text."""

    def __init__(
        self, session: UserSession, clock: Clock, waits: WaitTimeouts | None = None, on_wait: OnWait | None = None
    ) -> None:
        self._session = session
        self._clock = clock
        self._waits = waits or WaitTimeouts()
        self._on_wait = on_wait

    def _poll(self, probe: Callable[[], T | None], waiting_for: str, seconds: float, remedy: str = "") -> T:
        deadline = Deadline(self._clock, seconds)
        return poll_until(probe, waiting_for=waiting_for, deadline=deadline, on_wait=self._on_wait, remedy=remedy)

    def _send(self, method: str, path: str, **request: Any) -> Any:
        """Send a request once. Raises also for an error inside a 200 answer."""
        return checked(path, self._session.call(method, path, **request))

    def _write(
        self, method: str, path: str, *, missing_ok: bool = False, attempts: int = MOST_ATTEMPTS, **request: Any
    ) -> Any:
        """Send a repeatable write, such as a deletion; repeat it when an answer is lost.

        missing_ok: return None for a record that does not exist.
        """
        lost: AnswerLost | None = None
        for _ in range(attempts):
            if lost is not None:
                self._clock.sleep(1.0)
            try:
                return checked(path, self._session.call(method, path, **request))
            except AnswerLost as error:
                lost = error
            except NotFound:
                if missing_ok:
                    return None
                raise
        raise lost or AssertionError

    def _write_once(self, send: Callable[[], T], find: Callable[[], T | None], what: str) -> T:
        """Send a write that must not be done twice.

        When its answer is lost, `find` searches for its effect (for a while: records may show late) before it is sent
        again. A conflict after a lost answer means that the lost write succeeded.
        """
        lost: AnswerLost | None = None
        for _ in range(MOST_ATTEMPTS):
            clash: Conflict | None = None
            try:
                return send()
            except AnswerLost as error:
                lost = error
            except Conflict as error:
                clash = error
            if clash is not None and lost is None:
                raise clash
            try:
                return self._poll(find, f"a sign of {what}, whose answer was lost", self._waits.lost_answer)
            except DeadlineExceeded:
                if clash is not None:
                    raise clash from None
        raise lost or AssertionError


def workload(
    revision: Revision,
    revision_name: str,
    *,
    command: str,
    name: str,
    resource_profile: str,
    variables: Mapping[str, str] | None,
    **more: Any,
) -> dict[str, Any]:
    """The body of a request for a deployment or job."""
    body = {"source": revision.url, "revision": revision_name, "command": command, "name": name, "target": "deploy"}
    body |= {"resource_profile": resource_profile, **more}
    return body | {"variables": dict(variables)} if variables else body


def part(identity: str) -> str:
    """An id or name as one part of a path."""
    return quote(identity, safe="")
