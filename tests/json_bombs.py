"""What is taken for JSON by a reader that does not look twice."""

from __future__ import annotations

BOMBS = {
    "nested": b"[" * 100_000,
    "nested and closed": b'{"outcome": ' + b"[" * 500 + b"]" * 500 + b"}",
    "an integer of 5,000 digits": b'{"outcome": 1' + b"0" * 5_000 + b"}",
    "not a number": b'{"outcome": NaN}',
    "infinite": b'{"outcome": -Infinity}',
    "a number out of range": b'{"outcome": 1e999}',
    "many values": b'{"outcome": [' + b"[]," * 1_000_000 + b"1]}",
}
