"""Secrets that cannot be printed by accident, and a scrubber for text from outside.

Two guards, because either alone leaks: a `Secret` never shows its value unless `reveal()` is called, and every
revealed value is registered, so that `scrub` can take it (also URL-, JSON- and base64-encoded) out of error
texts, logs and command lines that other software composed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
from urllib.parse import quote, quote_plus

MASK = "********"
_SHORTEST = 4  # shorter values would blot out ordinary text; they are still never printed by us

_lock = threading.Lock()
_known: set[str] = set()

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ in any URI
    (re.compile(r"(?P<a>[a-z][a-z0-9+.\-]*://[^\s:/@'\"]*:)[^\s/@'\"]+(?=@)", re.I), r"\g<a>" + MASK),
    (re.compile(r"(?P<a>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{6,}", re.I), r"\g<a>" + MASK),
    # JSON web tokens
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{4,}(?:\.[A-Za-z0-9_\-]*)?"), MASK),
    # password=..., 'token': '...', "value": "..."
    (
        re.compile(
            r"(?P<a>['\"]?\b(?:password|passwd|pwd|secret|token|access_token|refresh_token|value|credential|_xsrf)"
            r"\b['\"]?\s*[:=]\s*)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;&'\"}\])]+)",
            re.I,
        ),
        r"\g<a>" + MASK,
    ),
    (re.compile(r"(?P<a>\b(?:set-)?cookie['\"]?\s*[:=]\s*['\"]?)[^\r\n'\"]+", re.I), r"\g<a>" + MASK),
)


class Secret:
    """A value that must not be shown. Not a `str`: formatting, joining or serialising it shows a mask or fails."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register(value)

    @classmethod
    def public(cls, value: str) -> Secret:
        """A value that is stored as a secret but is none, such as a URL: `scrub` leaves it alone."""
        secret = cls.__new__(cls)
        secret._value = value
        return secret

    def reveal(self) -> str:
        """The value itself, for the one call that sends it."""
        return self._value

    def fingerprint(self, salt: bytes) -> str:
        """HMAC-SHA256 of the value under `salt`, hex: comparable, not reversible without guessing the value."""
        return hmac.new(salt, self._value.encode(), hashlib.sha256).hexdigest()

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised")


def register(value: str) -> None:
    """Make `scrub` take this value, and its usual encodings, out of any text from now on."""
    if len(value) < _SHORTEST:
        return
    raw = value.encode()
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        base64.b64encode(raw).decode(),
    }
    with _lock:
        _known.update(form for form in forms if len(form) >= _SHORTEST)


def scrub(text: str) -> str:
    """`text` without any registered secret and without anything that looks like a credential."""
    with _lock:
        known = sorted(_known, key=len, reverse=True)
    for value in known:
        if value in text:
            text = text.replace(value, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
