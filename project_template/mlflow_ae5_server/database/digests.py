"""A digest of a table's rows, the same on every database that holds them.

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
sorted, and nothing kept in memory. A digest shows loss and change by accident;
against forgery there are the SHA-256 of the blobs.

Child processes compute digests on the other core, while the parent moves the data. They run this file by its path, so
it imports the standard library only (and psycopg where needed). Their task comes as JSON on stdin: a database's address
holds a password, which must not be in the list of processes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import marshal
import os
import re
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_BATCH = 2000  # rows at a time
_LONG_ROWS = 20  # at a time, where a text can be of any length
_number: Callable[[bytes, str], int] = int.from_bytes  # type: ignore[assignment]


def form(row: tuple[Any, ...], _version: int = 2) -> bytes:
    """The canonical form of a row, byte by byte; slow."""
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


# Python's marshal writes exactly this in its version 2, 20 times as fast, and has for twenty years. That it always will
# is not documented, so it is tested here.
_SAMPLE = (None, 0, -1, 2**31, -(2**63), 0.1, "", "a\u00e9\ud800\U0001f600", b"", b"\xff")
_quick = marshal.dumps if marshal.dumps(_SAMPLE, 2) == form(_SAMPLE) else form


def digest_of(
    table: str, columns: Sequence[str], json: Sequence[int], blocks: Iterable[Iterable[tuple[Any, ...]]]
) -> tuple[int, str]:
    """Number of rows, and digest. blocks: of rows; json: positions of JSON columns."""
    count = total = 0
    for block in blocks:
        rows = block if not json else (_with_plain_json(row, json) for row in block)
        forms = map(_quick, rows, itertools.repeat(2))
        hashes = [found.digest() for found in map(hashlib.sha256, forms)]
        total += sum(map(_number, hashes, itertools.repeat("little")))
        count += len(hashes)
    head = ascii((table, tuple(columns), count)).encode()
    return count, hashlib.sha256(head + (total % 2**256).to_bytes(32, "little")).hexdigest()


def _with_plain_json(row: tuple[Any, ...], json: Sequence[int]) -> tuple[Any, ...]:
    changed = list(row)
    for position in json:
        changed[position] = plain_json(changed[position])
    return tuple(changed)


def plain_json(value: object) -> object:
    """A JSON text that is a mere number, as that number, as SQLite keeps it."""
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


# child processes ----------------------------------------------------------------------------------------------------


def shares(sized: Sequence[tuple[int, Any]], worth: int) -> list[list[Any]]:
    """Split tables with their sizes in two shares; one where there is little."""
    parts: list[list[Any]] = [[] for _core in range(min(2, len(os.sched_getaffinity(0))))]
    weights = [0] * len(parts)
    for size, table in sorted(sized, key=lambda entry: -entry[0]):
        lightest = weights.index(min(weights))
        parts[lightest].append(table)
        weights[lightest] += size + 1
    return parts if min(weights) > worth else [[table for _size, table in sized]]


def task_of(table: Any, query: str) -> dict[str, Any]:
    """A worker's task for one table; `query` selects canonical values."""
    block = _BATCH if table.bounded else _LONG_ROWS
    return {"name": table.name, "columns": table.names, "json": table.json, "query": query, "block": block}


class DigestWorker:
    """A child process for some tables. `result()` waits; leaving the context ends it."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__] if task["dialect"] == "sqlite" else [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdin = self._process.stdin
        if stdin is None:
            raise AssertionError("a pipe was requested")
        with contextlib.suppress(BrokenPipeError):  # then stderr says why
            stdin.write(json.dumps(task).encode())
            stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._process.stdin = None

    def result(self) -> dict[str, tuple[int, str]]:
        """Rows and digest per table. Raises RuntimeError."""
        out, err = self._process.communicate()
        if self._process.returncode != 0:
            lines = err.decode(errors="replace").strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"ended with {self._process.returncode}")
        return {name: (rows, digest) for name, rows, digest in json.loads(out)}

    def __enter__(self) -> DigestWorker:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()


def _sqlite_blocks(connection: Any, query: str, size: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    cursor = connection.execute(query)
    while block := cursor.fetchmany(size):
        yield block


def _postgresql_blocks(connection: Any, query: str, size: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    with connection.cursor(name="digest", binary=True) as cursor:
        cursor.execute(query)
        while block := cursor.fetchmany(size):
            yield block


_BLOCKS = {"sqlite": _sqlite_blocks, "postgresql": _postgresql_blocks}


def _connect(task: dict[str, Any], stack: contextlib.ExitStack) -> Any:
    if task["dialect"] == "sqlite":
        path = Path(task["file"]).absolute().as_uri()
        file = stack.enter_context(contextlib.closing(sqlite3.connect(f"{path}?mode=ro", uri=True)))
        # Bytes that are no UTF-8 are kept apart from every real character.
        if task.get("broken_text"):
            file.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        return file
    import psycopg

    connection = stack.enter_context(psycopg.connect(**task["connect"]))
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    connection.execute(f"SET TRANSACTION SNAPSHOT '{task['snapshot']}'")
    return connection


def _work(task: dict[str, Any]) -> list[tuple[str, int, str]]:
    done = []
    with contextlib.ExitStack() as stack:
        connection = _connect(task, stack)
        for table in task["tables"]:
            blocks = _BLOCKS[task["dialect"]](connection, table["query"], table["block"])
            done.append((table["name"], *digest_of(table["name"], table["columns"], table["json"], blocks)))
    return done


if __name__ == "__main__":
    gc.set_threshold(100_000)  # rows hold no cycles, and to look for some every 700 takes as long as to hash them
    sys.stdout.write(json.dumps(_work(json.load(sys.stdin))))
