"""The journal of a collection, written before the first row is deleted.

Rows go first, artifacts second, so that no row is ever without its artifacts. The price is that a crash in between
leaves artifacts without a row: they are in the journal, and the next run removes them. Pages are sealed, because users
who may upload artifacts may also upload something that looks like a page.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_server.common.redaction import scrub
from mlflow_ae5_server.common.report import say
from mlflow_ae5_server.gc.stores import Store

Entry = tuple[str, str, str]  # kind, id, location as the database had it


@dataclass(frozen=True)
class JournalPage:
    """The entries of one batch."""

    name: str  # unique
    entries: tuple[Entry, ...]


class GcJournal:
    """Pages in a store. `key` is a secret of the jobs."""

    def __init__(self, destination: Store, key: str) -> None:
        self._destination = destination
        self._key = hashlib.sha256(b"mlflow-ae5-gc:" + key.encode()).digest()

    def write(self, entries: Iterable[Entry], name: str = "") -> JournalPage:
        """Write a page. Raises StoreError; then nothing may be removed."""
        page = JournalPage(name or f"{time.time_ns()}-{secrets.token_hex(4)}.json", tuple(entries))
        body = json.dumps(page.entries)
        self._destination.journal_write(page.name, json.dumps({"sealed": self._seal(body), "entries": body}).encode())
        return page

    def close(self, page: JournalPage, left: Iterable[Entry] = ()) -> None:
        """Drop a page, except for entries that are `left` to the next run."""
        remaining = tuple(left)
        if not remaining:
            self._destination.journal_drop(page.name)
        elif remaining != page.entries:
            self.write(remaining, page.name)

    def pages(self) -> Iterator[JournalPage]:
        """The pages that earlier runs did not finish; files of others are reported."""
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
                say(f"warning: {scrub(name)} is not a page of the collection's journal; ignored")

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()


def journal_folder(file: Path) -> Path:
    """The folder for pages beside a SQLite database, which no client can write."""
    return file.with_name(file.name + ".gc")
