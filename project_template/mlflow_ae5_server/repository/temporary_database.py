"""Tables that may grow beyond memory, in a temporary SQLite file."""

from __future__ import annotations

import sqlite3


def open_temporary(tables: str) -> sqlite3.Connection:
    """Open a database with `tables`, SQL that creates them; closing deletes it."""
    connection = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    connection.executescript(
        f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000; {tables}; BEGIN"
    )
    return connection
