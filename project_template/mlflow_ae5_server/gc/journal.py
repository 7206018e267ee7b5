"""What is being removed at this moment, written down before the first row of it goes.

Rows go first, artifacts second, so that there is never a row without its artifacts. The price is that a crash in
between leaves artifacts without a row: they are in the journal, and the next run removes them. Entries are sealed,
because whoever may upload artifacts may also upload something that looks like a journal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_ae5_server.common.contract import EXIT_CODES
from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.gc.stores import Store

if TYPE_CHECKING:
    pass

Entry = tuple[str, str, str]  # kind, id, location as the database had it


@dataclass(frozen=True)
class JournalPage:
    """What one batch wrote down. `name` is unique."""

    name: str
    entries: tuple[Entry, ...]


class GcJournal:
    """Pages in a store. `key` must be known to jobs only: the database's URI with its password, say."""

    def __init__(self, destination: Store, key: str) -> None:
        self._destination = destination
        self._key = hashlib.sha256(b"mlflow-ae5-gc:" + key.encode()).digest()

    def write(self, entries: Iterable[Entry], name: str = "") -> JournalPage:
        """Raises TroubleError; then nothing may be removed."""
        page = JournalPage(name or f"{time.time_ns()}-{secrets.token_hex(4)}.json", tuple(entries))
        body = json.dumps(page.entries)
        self._destination.journal_write(page.name, json.dumps({"sealed": self._seal(body), "entries": body}).encode())
        return page

    def close(self, page: JournalPage, left: Iterable[Entry] = ()) -> None:
        """All of it is done, but for what is `left` to the next run."""
        remaining = tuple(left)
        if not remaining:
            self._destination.journal_drop(page.name)
        elif remaining != page.entries:
            self.write(remaining, page.name)

    def pages(self) -> Iterator[JournalPage]:
        """What earlier runs did not finish. A page that is not ours is told of and left alone."""
        for name, content in list(self._destination.journal_read()):
            try:
                outer = json.loads(content)
                body = str(outer["entries"])
                ours = hmac.compare_digest(str(outer["sealed"]), self._seal(body))
                entries = tuple((str(kind), str(owner), str(uri)) for kind, owner, uri in json.loads(body))
            except (ValueError, KeyError, TypeError, RecursionError):
                ours = False
            if ours:
                yield JournalPage(name, entries)
            else:
                print(f"warning: {scrub(name)} is not a page of our journal, and ignored", file=sys.stderr, flush=True)

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()


PARTLY = EXIT_CODES["incomplete"]  # exit code: something could not be removed, the rest is done


def journal_folder(file: Path) -> Path:
    """Where pages are kept beside a SQLite database: nobody who may upload artifacts can write there."""
    return file.with_name(file.name + ".gc")
