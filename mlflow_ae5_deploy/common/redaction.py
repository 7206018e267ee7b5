"""Secrets that are not printed by accident, and a scrubber for text from outside.

Two guards, because either alone leaks: a `Secret` never shows its value unless `reveal()` is called, and every
revealed value is registered, so that `scrub` can take it (also URL-, JSON- and base64-encoded) out of error
texts, logs and command lines that other software composed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

MASK = "********"
_LINE = 8  # lines of secrets of several lines (keys) are registered one by one from this length on
_SHORTEST = 4  # shorter values would blot out ordinary text; they are still never printed by us

_lock = threading.Lock()
_registered: set[str] = set()
_shown: set[str] = {"mlflow", "MLflow", "mlflow-ae5-deploy", "mlflow_ae5_deploy"}

# Every quantifier that can start anywhere is bounded, or behind a look-behind: a megabyte of base64 in an
# error text must not take minutes.
# Quoted, quoted inside of quoted JSON (\"...\"), and quoted but truncated.
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
_HARMLESS = frozenset(
    ["true", "false", "null", "none", "unset", "yes", "no", "not", "a", "an", "the", "is", "was", "of", "for"]
)
_REFERENCE = re.compile(r"(?:env:[A-Za-z_]\w*|file:[~.]{0,2}/.*|prompt)\Z")  # says where a secret is, and none itself

# Runs without a space or a quote that have an address in them.
_ADDRESSES = re.compile(r"(?<![^\s'\"])[^\s'\"]*?://[^\s'\"]*")
_HOST = re.compile(r"(?:\[[0-9a-f:.]*\]|[^:]*):\d*", re.I)
_LONG_TOKEN = re.compile(r"[A-Za-z0-9_.\-]{20,}")
_CHANNEL_TOKEN = re.compile(r"\A(?=[A-Za-z\-]*\d|[A-Za-z]{20})[A-Za-z0-9\-]{6,}")


class Secret:
    """A value that is not shown: formatting or serialising it gives a mask or fails."""

    __slots__ = ("_value", "shown")

    shown: str  # the part of the value that may be shown; empty where that is none

    def __init__(self, value: str, shown: str = "") -> None:
        self.shown = shown
        self._value = value
        register(value)

    @classmethod
    def public(cls, value: str) -> Secret:
        """A value stored as a secret that is none, such as a URL; not scrubbed."""
        secret = cls.__new__(cls)
        secret.shown = value
        secret._value = value
        return secret

    def reveal(self) -> str:
        """The value itself, for the one call that sends it."""
        return self._value

    def fingerprint(self, salt: bytes) -> str:
        """HMAC-SHA256 of the value under `salt`, in hex, for comparisons."""
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
    """Make `scrub` remove this value and its usual encodings from now on."""
    forms: set[str] = set()
    for part in {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= _LINE)}:
        forms |= _encodings(part)
    with _lock:
        _registered.update(form for form in forms if len(form) >= _SHORTEST)


def exempt(text: str) -> None:
    """Exempt a path or name from `scrub` where it stands whole.

    A secret that equals `text` or lies inside it stays visible there; one that contains `text` is masked.
    """
    if len(text) >= _SHORTEST:
        with _lock:
            _shown.add(text)


def _encodings(value: str) -> set[str]:
    """The forms of a value in URLs, JSON, Python, shell, HTML and base64."""
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
    """`text` without registered secrets and without anything like a credential.

    Scrubbing twice is the same as once, and a JSON document stays one (values in quotes keep their quotes).
    """
    with _lock:
        registered, shown = tuple(_registered), tuple(_shown)
    text, originals = _set_apart(text, registered, shown)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text.translate(originals)


def _set_apart(text: str, registered: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, dict[int, str]]:
    """Mask the occurrences of `registered`, and replace those of `shown` by characters.

    Of two that overlap, nothing of either is left. Returns also the characters, with what each stands for.
    """
    spans = [(*span, False) for value in registered if value in text for span in _occurrences(text, value)]
    spans += [(*span, True) for value in shown if value in text for span in _standing_alone(text, value)]
    if not spans:
        return text, {}
    groups: list[tuple[int, int, int]] = []  # of those that overlap: start, end, and how far names reach from the start
    for start, end, name in sorted(spans):
        first, last, named = groups.pop() if groups and start < groups[-1][1] else (start, end, start)
        groups.append((first, max(last, end), max(named, end) if name and start <= named else named))
    used = set(text)
    free = (chr(number) for number in range(0xF0000, 0x10FFFE) if chr(number) not in used)  # of private use
    stand_ins: dict[str, str] = {}
    out, done = [], 0
    for start, end, named in groups:
        group = text[start:end]
        if named == end and group not in stand_ins:
            stand_ins[group] = next(free, MASK)
        out += [text[done:start], stand_ins[group] if named == end else MASK]
        done = end
    originals = {ord(stand_in): name for name, stand_in in stand_ins.items() if stand_in != MASK}
    return "".join([*out, text[done:]]), originals


def _occurrences(text: str, value: str) -> Iterator[tuple[int, int]]:
    start = text.find(value)
    while start >= 0:
        yield start, start + len(value)
        start = text.find(value, start + 1)


def _standing_alone(text: str, value: str) -> Iterator[tuple[int, int]]:
    """Not as a part of another word; a path may have more in front of it and below it."""
    front = "" if value.startswith("/") else r"(?<![\w.\-])"
    for found in re.finditer(rf"{front}{re.escape(value)}(?![\w\-]|\.\w)", text):
        yield found.span()


def _addresses(found: re.Match[str]) -> str:
    """Mask passwords and tokens in addresses."""
    pieces = found[0].split("://")
    last = max((n for n, piece in enumerate(pieces) if "@" in piece), default=0)
    n = 1
    while n < len(pieces):
        authority, slash, path = pieces[n].partition("/")
        login, at, host = authority.rpartition("@")
        user, colon, password = (login if at else authority).partition(":")
        if at:  # user:password@host, also with `@` in either; token@host
            login = f"{user}:{MASK}" if password else MASK if not colon and _LONG_TOKEN.fullmatch(user) else login
        elif colon and n <= last and not _HOST.fullmatch(authority):  # a password with `/` in it
            end = n if "@" in pieces[n] else last
            pieces[n : end + 1] = [f"{user}:{MASK}@" + pieces[end].rpartition("@")[2]]
            last -= end - n
            continue
        # In web addresses only, because a folder may be called anything.
        if slash and pieces[n - 1][-5:].lower().endswith(("http", "https")):
            path = _web_path(path)
        pieces[n] = f"{login}{at}{host}{slash}{path}"
        n += 1
    return "://".join(pieces)


def _web_path(path: str) -> str:
    """Mask `user:password@` in a path, and the token of a conda channel (`t/TOKEN`)."""
    parts = path.split("/")
    for n, part in enumerate(parts):
        user, _, rest = part.partition(":")
        password, at, host = rest.rpartition("@")
        if n and parts[n - 1] in ("t", "T"):
            parts[n] = _CHANNEL_TOKEN.sub(MASK, part)
        elif password and "@" not in user:
            parts[n] = f"{user}:{MASK}{at}{host}"
    return "/".join(parts)


def _masked(found: re.Match[str]) -> str:
    """Mask the value `v` behind `a`, keeping quotes and closing brackets."""
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


_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MASK),
    (_ADDRESSES, _addresses),
    # Where a library tells the path alone: tokens of conda have a form of their own.
    (re.compile(r"(?P<a>/t/)[a-z]{2}-(?=[0-9a-f\-]{0,64}\d)[0-9a-f\-]{8,200}", re.I), r"\g<a>" + MASK),
    (re.compile(r"(?P<a>\burl: /[^\s:@'\"]*:)[^\s/'\"]+(?=@)", re.I), r"\g<a>" + MASK),
    # JSON web tokens
    (re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*){1,4}"), MASK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"), MASK),
    # headers
    (
        re.compile(r"(?P<a>\b(?:set-)?cookie2?['\"]?\s*[:=]\s*[bB]?)(?P<v>" + _QUOTED + r"|[^\r\n'\"][^\r\n]*)", re.I),
        _masked,
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
        _masked,
    ),
    (
        re.compile(r"(?P<a>(?<!\S)--?(?:[a-z]{1,20}-)?(?:password|passwd|secret|token)\s+)(?!-|#\s)(?P<v>\S+)", re.I),
        _masked,
    ),
    (re.compile(r"(?P<a><(?P<tag>password|secret|token|value)>)[^<]+(?=</(?P=tag)>)", re.I), r"\g<a>" + MASK),
)
