"""Secrets that cannot be printed by accident, and a scrubber for text from outside.

Two guards, because either alone leaks: a `Secret` never shows its value unless `reveal()` is called, and every
revealed value is registered, so that `scrub` can take it (also URL-, JSON- and base64-encoded) out of error
texts, logs and command lines that other software composed.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import hmac
import html
import json
import re
import shlex
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = "********"
_LINE = 8  # lines of secrets of several lines (keys) are registered one by one from this length on
_SHORTEST = 4  # shorter values would blot out ordinary text; they are still never printed by us

_lock = threading.Lock()
_known: set[str] = set()
_shown: set[str] = {"mlflow", "MLflow", "mlflow-ae5-deploy", "mlflow_ae5_deploy"}
_FIRST_STAND_IN = 0xF0000  # a character of private use for each name that is not to be masked

# Every quantifier that can start anywhere is bounded, or stands behind a look-behind: a megabyte of base64 in an
# error text must not take minutes.
# Quoted, quoted inside of quoted JSON (\"...\"), and quoted but cut off.
_QUOTED = (
    r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
    r"|(?P<q>\\+[\"'])(?:(?!(?<!\\)(?P=q)).)*(?<!\\)(?P=q)"
    r"|\\*[\"'][^\r\n]*"
)
_NAME = (
    # Not: a verb of this tool, and what Python's JSON reader says of a text that is no JSON.
    r"(?<![A-Za-z0-9_.\-])(?!rotate-token: |value: line \d{1,9} column \d{1,9} \(char \d{1,12}\))"
    r"(?:[A-Za-z0-9_.\-]{0,64}(?:password|passwd|passwort|passphrase|pwd|secret|token|credential"
    r"|api[-_]?key|access[-_]?key|account[-_]?key|private[-_]?key|secret[-_]?key|xsrf|authorization)|value|sig|otp)"
)
_ADDRESS = r"(?<![a-z0-9+.\-])https?://[^\s/'\"]{1,300}(?:/[^\s/'\"]{0,200}){0,9}?"
_HARMLESS = frozenset(
    ["true", "false", "null", "none", "unset", "yes", "no", "not", "a", "an", "the", "is", "was", "of", "for"]
)
_REFERENCE = re.compile(r"(?:env:[A-Za-z_]\w*|file:[~.]{0,2}/.*|prompt)\Z")  # says where a secret is, and none itself

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MASK),
    # scheme://user:password@host, also with `@` in the user's name or the password, or `/` in the password
    (
        re.compile(r"(?P<a>(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]{0,30}://(?!\[)[^\s/:'\"]*:)[^\s/'\"]+(?=@)", re.I),
        r"\g<a>" + MASK,
    ),
    (
        re.compile(
            r"(?P<a>(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]{0,30}://(?!\[)[^\s/:'\"]*:)(?!\d+/|\*)[^\s'\"]{1,300}(?=@)", re.I
        ),
        r"\g<a>" + MASK,
    ),
    # scheme://token@host
    (re.compile(r"(?P<a>://)[A-Za-z0-9_.\-]{20,200}(?=@)"), r"\g<a>" + MASK),
    # In an address only, because a folder may be called anything: user:password@ in its path, as an object store's
    # library writes the bucket it was asked for, and the token of a conda channel.
    (re.compile(rf"(?P<a>{_ADDRESS}/[^\s/:@'\"]{{0,200}}:)[^\s/'\"]+(?=@)", re.I), r"\g<a>" + MASK),
    (
        re.compile(rf"(?P<a>{_ADDRESS}/t/)(?=[A-Za-z\-]{{0,200}}\d|[A-Za-z]{{20}})[A-Za-z0-9\-]{{6,200}}", re.I),
        r"\g<a>" + MASK,
    ),
    # The same where a library tells the path alone: tokens of conda have a form of their own.
    (re.compile(r"(?P<a>/t/)[a-z]{2}-(?=[0-9a-f\-]{0,64}\d)[0-9a-f\-]{8,200}", re.I), r"\g<a>" + MASK),
    (re.compile(r"(?P<a>\burl: /[^\s/:@'\"]{0,200}:)[^\s/'\"]+(?=@)", re.I), r"\g<a>" + MASK),
    # JSON web tokens
    (re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*){1,4}"), MASK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"), MASK),
    # headers
    (
        re.compile(r"(?P<a>\b(?:set-)?cookie2?['\"]?\s*[:=]\s*[bB]?)(?P<v>" + _QUOTED + r"|[^\r\n'\"][^\r\n]*)", re.I),
        "",
    ),
    (re.compile(r"(?P<a><Cookie [^=\s]+=)[^\s>]+"), r"\g<a>" + MASK),
    (
        re.compile(
            r"(?P<a>\b(?:bearer|basic)(?:\s+|%20|\+|:\s*)['\"]?)(?=[^\s'\"]*\d|[^\s'\"]{20})[A-Za-z0-9._~+/=\-]{6,}",
            re.I,
        ),
        r"\g<a>" + MASK,
    ),
    # password=..., 'token': '...', "value": "...", MLFLOW_TRACKING_TOKEN: ..., and these inside of quoted JSON
    (
        re.compile(
            rf"(?P<a>{_NAME}\\*['\"]?\s*(?:=>|:=|[:=])\s*(?:(?:bearer|basic|token|digest|negotiate)\s+)?[\[(]?[bBuU]?)"
            rf"(?P<v>{_QUOTED}|\{{[^}}\s]*\}}|[^\s&;'\"<]+)",
            re.I,
        ),
        "",
    ),
    (re.compile(r"(?P<a>(?<!\S)--?(?:[a-z]{1,20}-)?(?:password|passwd|secret|token)\s+)(?!-|#\s)(?P<v>\S+)", re.I), ""),
    (re.compile(r"(?P<a><(?P<tag>password|secret|token|value)>)[^<]+(?=</(?P=tag)>)", re.I), r"\g<a>" + MASK),
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

    def __getstate__(self) -> object:
        raise TypeError("a Secret is not serialised")

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "_value"):
            raise AttributeError("a Secret does not change")
        super().__setattr__(name, value)

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def register(value: str) -> None:
    """Make `scrub` take this value, and its usual encodings, out of any text from now on."""
    forms: set[str] = set()
    for part in {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= _LINE)}:
        forms |= _encodings(part)
    with _lock:
        _known.update(form for form in forms if len(form) >= _SHORTEST)


def show(text: str) -> None:
    """Let `scrub` leave this path or name as it is, where it stands whole: a person must be able to copy it.

    A secret that is the same, or a part of it, is not hidden there; what it is a part of is.
    """
    if len(text) >= _SHORTEST:
        with _lock:
            _shown.add(text)


def _encodings(value: str) -> set[str]:
    """How other software writes a value down: in URLs, JSON, Python, shell, HTML and base64."""
    if len(value) < _SHORTEST:
        return set()
    raw = value.encode("utf-8", "surrogatepass")
    quoted = {quote(raw, safe=safe) for safe in ("", "/", "!'()*~", " +", "!#$%&'()*+,/:;=?@[]~")}
    quoted.add(quote_plus(raw))
    quoted |= {re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), form) for form in quoted}
    based = {base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()}
    return {
        value,
        *quoted,
        *based,
        *(form.rstrip("=") for form in based),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        repr(raw)[2:-1],
        shlex.quote(value),
        html.escape(value),
        html.escape(value, quote=False),
    }


def scrub(text: str) -> str:
    """`text` without any registered secret and without anything that looks like a credential.

    Scrubbing twice is the same as once, and a JSON document stays one (values in quotes keep their quotes).
    """
    with _lock:
        known, shown = tuple(_known), tuple(_shown)
    text, put_by = _without(text, known, shown)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement or _masked, text)
    return text.translate(put_by)


Span = tuple[int, int]


def _without(text: str, known: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, dict[int, str]]:
    """Mask every occurrence of `known`; of two that overlap, nothing of either is left. A character stands in for every
    occurrence of `shown`; what for is returned too."""
    secret = _joined(span for value in known for span in _occurrences(text, value))
    open_ = [span for value in shown if value in text for span in _standing_alone(text, value)]
    open_ = _joined(span for span in open_ if all(_within(other, span) for other in _overlapping(span, secret)))
    secret = [span for span in secret if not _overlapping(span, open_)]
    out: list[str] = []
    stand_ins: dict[str, str] = {}
    done = 0
    for (start, end), hide in sorted([*((s, True) for s in secret), *((s, False) for s in open_)]):
        name = text[start:end]
        stand_in = MASK if hide else stand_ins.setdefault(name, chr(_FIRST_STAND_IN + len(stand_ins)))
        out += [text[done:start], stand_in]
        done = end
    return "".join([*out, text[done:]]), {ord(stand_in): name for name, stand_in in stand_ins.items()}


def _occurrences(text: str, value: str) -> Iterator[Span]:
    start = text.find(value)
    while start >= 0:
        yield start, start + len(value)
        start = text.find(value, start + 1)


def _standing_alone(text: str, value: str) -> Iterator[Span]:
    """Not as a part of another word; a path may have more in front of it and below it."""
    front = "" if value.startswith("/") else r"(?<![\w.\-])"
    for found in re.finditer(rf"{front}{re.escape(value)}(?![\w\-]|\.\w)", text):
        yield found.span()


def _overlapping(span: Span, spans: list[Span]) -> list[Span]:
    """Those of `spans`, which are in order and apart from each other."""
    first = bisect.bisect_right(spans, span[0], key=lambda other: other[1])
    return spans[first : bisect.bisect_left(spans, span[1], key=lambda other: other[0])]


def _within(inner: Span, outer: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Those that overlap as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _masked(found: re.Match[str]) -> str:
    """Mask the value `v` behind `a`; quotes around it and closing brackets behind it stay."""
    before, value = found["a"], found["v"]
    quotes = re.match(r"\\*['\"]", value)
    if quotes:
        mark = quotes.group()
        end = mark if len(value) >= 2 * len(mark) and value.endswith(mark) else ""
        return f"{before}{mark}{MASK}{end}" if value[len(mark) :] != end else found.group()
    if value.startswith("{") and value.endswith("}"):
        return f"{before}{MASK}"
    bare = value.rstrip(",.)]}>\\")
    if not bare or bare.lower() in _HARMLESS or _REFERENCE.match(bare):
        return found.group()
    return f"{before}{MASK}{value[len(bare) :]}"
