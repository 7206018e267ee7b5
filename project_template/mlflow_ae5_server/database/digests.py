"""A digest of a table's rows that is the same on every database that holds the same rows, in whatever order.

A row is a tuple of its values, the columns in alphabetical order, each value of a plain Python type:

    integers, booleans (as 0 and 1)       int
    floating point                        float, all its bits; but -0.0 is 0.0, and NaN is NULL, because SQLite can
                                          keep neither. (MLflow writes a NaN metric as 0 with is_nan set.)
    text, dates                           str
    binary                                bytes
    JSON                                  its very text; a mere number counts by its value (SQLite keeps it as such)
    NULL                                  None

The row's canonical form is `form()` of that tuple: type and length before each value, so no two rows share one. The
SHA-256 of the rows are added up modulo 2**256; count, columns and sum make the table's digest. So nothing has to be
sorted, and nothing kept in memory. It is a proof against loss and change by accident; what guards against forgery
are the SHA-256 of the objects themselves.

Imports the standard library only: a child process runs it without loading anything else (see digest_workers.py).
"""

from __future__ import annotations

import hashlib
import itertools
import marshal
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BATCH = 2000  # rows
_sha256 = hashlib.sha256
_number: Callable[[bytes, str], int] = int.from_bytes  # type: ignore[assignment]


def form(row: tuple[Any, ...], _version: int = 2) -> bytes:
    """The canonical form of a row, byte by byte. Slow; `_quick` is the same where this Python's marshal agrees."""
    return b"(" + struct.pack("<i", len(row)) + b"".join(map(_form_of_value, row))


def _form_of_value(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"i" + struct.pack("<i", value)
        digits = [(abs(value) >> shift) & 0x7FFF for shift in range(0, abs(value).bit_length(), 15)]
        return b"l" + struct.pack(f"<i{len(digits)}H", len(digits) if value > 0 else -len(digits), *digits)
    if isinstance(value, float):
        return b"g" + struct.pack("<d", value)
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return (b"u" if isinstance(value, str) else b"s") + struct.pack("<i", len(data)) + data


# Python's marshal writes exactly this in its version 2, 20 times as fast, and has for twenty years. It does not promise
# to go on; so it is asked.
_SAMPLE = (None, 0, -1, 2**31, -(2**63), 0.1, "", "a\u00e9\ud800\U0001f600", b"", b"\xff")
_quick = marshal.dumps if marshal.dumps(_SAMPLE, 2) == form(_SAMPLE) else form


def digest_of(
    table: str, columns: Sequence[str], json: Sequence[int], rows: Iterable[tuple[Any, ...]]
) -> tuple[int, str]:
    """Number of rows, and digest. The values are of the plain types above already, but for the rule of JSON: `json`
    are the places of such columns in a row."""
    rows = iter(rows) if not json else (_plain(row, json) for row in rows)
    count = total = 0
    while hashes := [_sha256(_quick(row, 2)).digest() for row in itertools.islice(rows, _BATCH)]:
        total += sum(map(_number, hashes, itertools.repeat("little")))
        count += len(hashes)
    head = ascii((table, tuple(columns), count)).encode()
    return count, hashlib.sha256(head + (total % 2**256).to_bytes(32, "little")).hexdigest()


def _plain(row: tuple[Any, ...], json: Sequence[int]) -> tuple[Any, ...]:
    changed = list(row)
    for position in json:
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
