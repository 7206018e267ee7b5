"""The size of an artifact store, for the progress of a backup that takes a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from mlflow_ae5_server.backup.artifacts import ArtifactSource
from mlflow_ae5_server.common.progress import EVERY, Phase


@contextlib.contextmanager
def sized(phase: Phase, source: ArtifactSource, after: float = EVERY / 2) -> Iterator[None]:
    """Set the total of `phase` if the block takes longer than `after` seconds, and only while it runs.

    The store is listed a second time for it, in a thread: a backup that has little to do must not pay for that.
    """
    stop = threading.Event()

    def measure() -> None:
        if stop.wait(after):
            return
        size = 0
        with contextlib.suppress(Exception):  # copying meets the same error, and reports it
            for artifact in source.scan():
                if stop.is_set():
                    return
                size += artifact.size
            phase.total = size

    thread = threading.Thread(target=measure, name="size", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
