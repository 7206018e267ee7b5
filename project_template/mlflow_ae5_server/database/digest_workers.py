"""Canonical digests in child processes, on the other core, while the parent moves the data.

Run as a file by its path, so that the child loads nothing but the standard library (and psycopg where needed). The
task comes as JSON on stdin: a database's address holds a password, which has no place in the list of processes.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_BLOCK, _SMALL_BLOCK = 2000, 20  # rows at a time, where they are small and where a text can be as long as it likes


def shares(sized: Sequence[tuple[int, Any]], worth: int) -> list[list[Any]]:
    """Tables with their sizes, in two heaps of about the same work; one where there is little, or one core."""
    heaps: list[list[Any]] = [[] for _core in range(min(2, len(os.sched_getaffinity(0))))]
    weights = [0] * len(heaps)
    for size, table in sorted(sized, key=lambda entry: -entry[0]):
        lightest = weights.index(min(weights))
        heaps[lightest].append(table)
        weights[lightest] += size + 1
    return heaps if min(weights) > worth else [[table for _size, table in sized]]


def task_of(table: Any, query: str) -> dict[str, Any]:
    """The part of a task for one table (shape.Shape); `query` selects its columns in their order, in canonical form."""
    block = _BLOCK if table.bounded else _SMALL_BLOCK
    return {"name": table.name, "columns": table.names, "json": table.json, "query": query, "block": block}


class DigestWorkers:
    """A child at work on some tables. `result()` waits; leaving the context ends it."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__] if task["dialect"] == "sqlite" else [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._task = json.dumps(task).encode()
        self._feed()

    def _feed(self) -> None:
        if self._process.stdin is None:
            raise AssertionError("asked for a pipe")
        with contextlib.suppress(BrokenPipeError):  # then stderr says why
            self._process.stdin.write(self._task)
            self._process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdin = None

    def result(self) -> dict[str, tuple[int, str]]:
        """Rows and digest per table. Raises RuntimeError with the child's last words."""
        out, err = self._process.communicate()
        if self._process.returncode != 0:
            words = err.decode(errors="replace").strip().splitlines()
            raise RuntimeError(words[-1] if words else f"ended with {self._process.returncode}")
        return {name: (rows, digest) for name, rows, digest in json.loads(out)}

    def __enter__(self) -> DigestWorkers:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait()


def _postgresql_rows(connection: Any, query: str, size: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    with connection.cursor(name="digest", binary=True) as cursor:
        cursor.execute(query)
        while block := cursor.fetchmany(size):
            yield block


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


def work(task: dict[str, Any]) -> list[tuple[str, int, str]]:
    import digests

    done = []
    with contextlib.ExitStack() as stack:
        connection = _connect(task, stack)
        for table in task["tables"]:
            if task["dialect"] == "sqlite":
                rows = connection.execute(table["query"])
            else:
                rows = itertools.chain.from_iterable(_postgresql_rows(connection, table["query"], table["block"]))
            done.append((table["name"], *digests.digest_of(table["name"], table["columns"], table["json"], rows)))
    return done


if __name__ == "__main__":
    gc.set_threshold(100_000)  # rows hold no cycles, and to look for some every 700 takes as long as to hash them
    sys.path.insert(0, str(Path(__file__).parent))
    sys.stdout.write(json.dumps(work(json.load(sys.stdin))))
