"""What a digest is made of: the same in every version of this code, or old snapshots could not be proven."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from mlflow_ae5_server.common.errors import SnapshotDamaged
from mlflow_ae5_server.database import copy_text, digests

VALUES: list[Any] = [
    *(None, 0, 1, -1, 2**63 - 1, 0.5, 0.1 + 0.2, 0.3, 5e-324, math.inf, -math.inf, "", "0", "1", "None", "a", "a\tb"),
    *("a\\tb", "'", '"', "\x00", "é", "e\u0301", "\U0001f600", "\ud800", b"", b"a", b"\x00"),
]


def digest(*rows: tuple[Any, ...], table: str = "t", columns: tuple[str, ...] = ("a", "b"), json: Any = ()) -> str:
    return digests.digest_of(table, columns, json, [rows])[1]


def test_every_difference_shows() -> None:
    found = [digest((value, "x")) for value in VALUES]
    found += [digest(("x", value)) for value in VALUES]
    found += [digest(), digest((1, 2)), digest((1, 2), (1, 2)), digest((1, 2), table="u")]
    found += [digest((1, 2), columns=("a", "c")), digest((1, 2), (3, 4)), digest((1, 4), (3, 2))]
    assert len(set(found)) == len(found)


def test_order_does_not_matter() -> None:
    rows = [(number, str(number)) for number in range(5000)]
    turned = (rows[3000:], [], rows[:1000], rows[1000:3000])
    assert digests.digest_of("t", ("a", "b"), (), turned) == (5000, digest(*rows))


def test_the_digest_never_changes() -> None:
    rows = [(value, "x") for value in VALUES]
    assert [digests.form(row) for row in rows] == [digests._quick(row, 2) for row in rows]
    assert digest(*rows) == "b7449abafaf9919f076cc4682f4402ad54a2376c9c00cc7c19548412f09bf91b"


@pytest.mark.parametrize(
    ("text", "kept"),
    [("1", 1), ("1.0", 1), ("1.5", 1.5), ("-2e3", -2000), ("1e400", math.inf), ('"1"', '"1"'), ("[1.0]", "[1.0]")],
)
def test_a_json_number_counts_by_its_value(text: str, kept: Any) -> None:
    assert digests.plain_json(text) == kept
    assert digest((text, "x"), json=(0,)) == digest((kept, "x"), json=(0,))


def test_rows_as_text_and_back() -> None:
    texts = [value for value in VALUES if (isinstance(value, str) and value not in {"\x00", "\ud800"}) or value is None]
    rows = list(itertools.zip_longest([*texts, "\\N", "\\", "\r\n"], [0.5, -math.inf], [b"\x00\\", b""], [1, 0]))
    written = copy_text.write(rows)
    for size in (1, 7, 1000):
        chunks = [written[start : start + size] for start in range(0, len(written), size)]
        read = list(itertools.chain(*copy_text.parse(chunks, ["text", "float", "blob", "bool"])))
        assert read == rows


@pytest.mark.parametrize("data", [b"1\t2\n", b"1", b"x\n", b"\n"])
def test_text_that_is_no_such_rows(data: bytes) -> None:
    with pytest.raises(SnapshotDamaged):
        list(copy_text.parse([data], ["int"]))
