"""A digest of a table's rows that is the same on every database that holds the same rows, in whatever order.

A row is a tuple of its values, the columns in alphabetical order, each value of a plain Python type:

    integers, booleans (as 0 and 1)       int
    floating point                        float; its shortest exact decimal form, so every bit counts. -0.0 is 0.0, and
                                          NaN is NULL, because SQLite cannot keep either. (MLflow writes a NaN metric
                                          as 0 with is_nan set.)
    text, dates                           str
    binary                                bytes
    JSON                                  its very text; a mere number counts by its value (SQLite keeps it as such)
    NULL                                  None

The row's canonical form is `ascii()` of that tuple: unambiguous, and the same in every version of Python. The
SHA-256 of the rows are added up modulo 2**256; count, columns and sum make the table's digest. So nothing has to be
sorted, and nothing kept in memory. It is a proof against loss and change by accident; what guards against forgery
are the SHA-256 of the objects themselves.

Imports the standard library only: a child process runs it without loading anything else (see hasher.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_sha256 = hashlib.sha256
_LANES = 4  # of 64 bits in a SHA-256


class TableDigest:
    """Adds up rows. `json` are the positions of JSON columns in a row."""

    def __init__(self, table: str, columns: Sequence[str], json: Sequence[int] = ()) -> None:
        self._head = ascii((table, tuple(columns))).encode()
        self._json = tuple(json)
        self._sum = 0
        self.rows = 0

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows whose values are already of the plain types above, but for the rules of float and JSON."""
        if self._json:
            rows = [self._plain_json(row) for row in rows]
        hashes = memoryview(b"".join([_sha256(form.encode()).digest() for form in map(ascii, rows)])).cast("Q")
        self._sum += sum(sum(hashes[lane::_LANES]) << (64 * lane) for lane in range(_LANES))
        self.rows += len(rows)

    def hexdigest(self) -> str:
        total = (self._sum % 2**256).to_bytes(32, "little")
        return hashlib.sha256(self._head + b"\n%d\n" % self.rows + total).hexdigest()

    def _plain_json(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = list(row)
        for position in self._json:
            changed[position] = plain_json(changed[position])
        return tuple(changed)


def plain_json(value: object) -> object:
    """A JSON text that is a mere number, as that number: a SQLite column of type JSON keeps it so."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        try:
            value = int(value)
        except ValueError:
            value = float(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**51:
        return int(value)
    return value


def digest_of(
    table: str, columns: Sequence[str], json: Sequence[int], blocks: Iterable[Sequence[tuple[Any, ...]]]
) -> tuple[int, str]:
    """Rows and digest of a table given as blocks of rows."""
    total = TableDigest(table, columns, json)
    for block in blocks:
        total.add(block)
    return total.rows, total.hexdigest()
