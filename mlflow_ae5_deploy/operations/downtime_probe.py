"""Measure the downtime of a restart as the server's users see it: by requests with a token, at its public URL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.mlflow_api import ServerApi

EVERY = 0.5  # seconds
_PATIENCE = 5.0  # for one answer
_LAST = 10.0  # for the first good answer, once everything else is done


class DowntimeProbe:
    """Send requests in the background: with a token of the previous deployment, then with the stored one.

    The downtime is from the first request that failed, after one that did not, to the first that succeeded with the
    stored token. It is None unless both were observed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._servers: list[ServerApi] = []  # the last one is asked; the second has the stored token
        self._was_up = False
        self._down: float | None = None
        self._seconds: float | None = None
        self._done, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="downtime probe", daemon=True)

    @contextmanager
    def stopped_at_the_end(self) -> Iterator[DowntimeProbe]:
        try:
            yield self
        finally:
            self._stop.set()
            if self._thread.is_alive():
                self._thread.join()
            for server in self._servers:
                server.close()

    def start(self, server: ServerApi) -> None:
        """Begin, after one request that shows whether the server was up. server: with a token of the deployment."""
        self._servers.append(server)
        self._ask()
        self._thread.start()

    def use_stored(self, server: ServerApi) -> None:
        """server: with the token that is stored for every account by now."""
        if self._servers:
            self._servers.append(server)

    def seconds(self) -> float | None:
        if len(self._servers) > 1 and self._down is not None:
            self._done.wait(_LAST)
        return self._seconds

    def _run(self) -> None:
        while not self._stop.wait(EVERY) and not self._done.is_set():
            self._ask()

    def _ask(self) -> None:
        *earlier, server = self._servers
        sent = self._clock.monotonic()
        if not server.health(timeout=_PATIENCE).healthy:
            if self._down is None and self._was_up:
                self._down = sent
        elif self._down is None:
            self._was_up = True
        elif earlier:
            self._seconds = self._clock.monotonic() - self._down
            self._done.set()
