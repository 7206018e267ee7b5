"""PostgreSQL's COPY text: a line per row, tabs between columns, \\N for NULL.

Values: booleans t/f or 1/0, floats in their shortest exact form, binary as \\x and hexadecimal digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mlflow_ae5_server.common.errors import ANOTHER_SNAPSHOT, SnapshotDamaged
from mlflow_ae5_server.database.columns import Kind, TableColumns
from mlflow_ae5_server.database.contents import TablePart
from mlflow_ae5_server.repository.blob_types import BlobSource

_BATCH = 2000  # rows
_LONGEST = 2**30  # bytes of a row: no database keeps a longer value
_ESCAPED = re.compile(r"\\(.)", re.S)
_MEANS = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}
_TO_ESCAPE = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_BOOLEANS = {"t": 1, "f": 0, "1": 1, "0": 0}


def read_table(table: TablePart, target: TableColumns, objects: BlobSource) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Blocks of rows of a snapshot's table. Raises SnapshotDamaged."""
    kinds = {column.name: column.kind for column in target.columns}
    if not table.objects:
        return iter(())
    if strange := set(table.columns) ^ set(kinds):
        raise SnapshotDamaged(
            f"the snapshot's table {table.name} differs from its schema in {', '.join(sorted(strange))}",
            ANOTHER_SNAPSHOT,
        )
    return parse(map(objects.get, table.objects), [kinds[column] for column in table.columns])


def parse(chunks: Iterable[bytes], kinds: Sequence[Kind]) -> Iterator[list[tuple[Any, ...]]]:
    """Blocks of rows: booleans as 0 and 1, dates and JSON as text.

    Raises SnapshotDamaged.
    """
    readers = [_READERS[kind] for kind in kinds]
    for lines in _lines(chunks):
        rows = [line.split("\t") for line in lines]
        if any(len(row) != len(readers) for row in rows):
            raise SnapshotDamaged("the stream of a table has a row of another width", ANOTHER_SNAPSHOT)
        try:
            columns = [_column(values, reader) for values, reader in zip(zip(*rows, strict=True), readers, strict=True)]
        except (ValueError, KeyError) as error:
            raise SnapshotDamaged(
                f"the stream of a table has a value of another type: {error}", ANOTHER_SNAPSHOT
            ) from None
        yield list(zip(*columns, strict=True))


def _lines(chunks: Iterable[bytes]) -> Iterator[list[str]]:
    """Whole lines, in batches."""
    rest = b""
    for chunk in chunks:
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            try:
                lines = whole.decode().split("\n")
            except UnicodeDecodeError:
                raise SnapshotDamaged("the stream of a table is not text", ANOTHER_SNAPSHOT) from None
            yield from (lines[start : start + _BATCH] for start in range(0, len(lines), _BATCH))
        if len(rest) > _LONGEST:
            break
    if rest:
        raise SnapshotDamaged("the stream of a table ends within a row", ANOTHER_SNAPSHOT)


def _column(values: Sequence[str], reader: Callable[[str], Any] | None) -> Sequence[Any]:
    if reader is None:
        if not any("\\" in value for value in values):
            return values
        return [None if value == "\\N" else _unescaped(value) for value in values]
    return [None if value == "\\N" else reader(value) for value in values]


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: _MEANS.get(found[1], found[1]), value) if "\\" in value else value


def _blob(value: str) -> bytes:
    return bytes.fromhex(_unescaped(value).removeprefix("\\x"))


_READERS: dict[Kind, Callable[[str], Any] | None] = {
    "int": int,
    "bool": _BOOLEANS.__getitem__,
    "float": float,
    "blob": _blob,
    "text": None,
    "json": None,
    "date": None,
}


def write(rows: Iterable[Sequence[Any]]) -> bytes:
    """The reverse of `parse`, for a dialect that has no COPY."""
    return "".join(["\t".join(map(_written, row)) + "\n" for row in rows]).encode()


def _written(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\\\x" + bytes(value).hex()
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value).translate(_TO_ESCAPE)
