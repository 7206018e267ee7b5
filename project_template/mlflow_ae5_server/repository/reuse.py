"""What a new snapshot may refer to without storing it: the objects in the place that there is no reason to doubt.

To read every object at each backup would take as long as the first one. So an object is believed by its name, where it
is not empty, nobody has found it damaged, and its file is older than the newest snapshot, which was published after
everything in it was on disk. Every other one is read first. Content that is at hand (the database, the list, files
that were read) proves its object in any case: see contents.Writer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from mlflow_ae5_server.common.errors import StorageError
from mlflow_ae5_server.common.text import counted
from mlflow_ae5_server.repository import damage
from mlflow_ae5_server.repository.check import BlobUses
from mlflow_ae5_server.repository.index import BlobIndex
from mlflow_ae5_server.repository.repository import Repository

_TOLD = 50  # damaged objects, by name


class ReusableBlobs:
    """Of one backup, which holds the lease. Safe for several threads where `known` is."""

    def __init__(self, repository: Repository, known: BlobIndex, say: Callable[[str], None]) -> None:
        self._repository = repository
        self._known = known
        self._say = say
        self._lock = threading.Lock()
        self._bad: set[str] = set()

    def take(self) -> None:
        """Tell `known` what is there and right. What is damaged is noted, and is stored anew when it is needed."""
        repository, backend = self._repository, self._repository.backend
        noted = damage.noted(backend)
        suspects = noted.objects | {
            str(found.get("object"))
            for listed in repository.listed()
            for found in repository.verification(listed.name).get("damaged", [])
        }
        since, doubted, absent = repository.settled(), list[str](), set(noted.objects)

        def believed(sha256: str, modified: float) -> bool:
            absent.discard(sha256)
            if sha256 in suspects or noted.everything or modified >= since:
                doubted.append(sha256)
                return False
            return True

        self._known.add(item.sha256 for item in repository.kept() if believed(item.sha256, item.modified))
        self._bad |= absent
        right = []
        for sha256, is_right in damage.proven(backend, doubted):
            if is_right:
                right.append(sha256)
            else:
                self.damaged(sha256, "it is not its content")
        self._known.add(right)
        damage.forget(backend, noted.objects.intersection(right))
        if noted.everything:
            damage.forget_everything(backend)

    def damaged(self, sha256: str, what: str) -> None:
        """Somebody has read it, and it is not what its name says."""
        self._known.discard(sha256)
        with self._lock:
            if sha256 in self._bad:
                return
            self._bad.add(sha256)
            number = len(self._bad)
        damage.note(self._repository.backend, [(sha256, what)])
        if number <= _TOLD:
            self._say(
                f"warning: the object {sha256} in {self._repository.shown} is damaged: what the server still has of it "
                "is stored anew"
            )

    def lost(self, uses: BlobUses) -> int:
        """How many of the objects in `uses` are damaged. Raises StorageError where some are not there at all."""
        uses.present(self._repository.objects())
        if missing := uses.missing():
            raise StorageError(
                f"{counted(len(missing), 'objects')} of the snapshot vanished from {self._repository.shown} while it "
                "was taken; no snapshot was made",
                "does somebody else remove files there?",
            )
        return sum(not self._known.present(sha256) for sha256 in uses.there(1.0))

    def settle(self) -> None:
        """A snapshot is published: what was stored anew for it is not damaged any more."""
        damage.forget(self._repository.backend, [sha256 for sha256 in self._bad if self._known.claimed(sha256)])
