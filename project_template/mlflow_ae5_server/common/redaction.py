"""Keep passwords and tokens out of everything that this process prints.

`install()` puts a filter in front of stdout and stderr before MLflow is imported, so that its logging handlers,
tracebacks and prints all pass through it. Processes that inherit only the file descriptors (MLflow's job runner)
are piped through `python -m mlflow_ae5_server.common.redact_pipe` instead.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO
from urllib.parse import quote, quote_plus, unquote

MASK = "********"
_WORDS = frozenset({"true", "false", "none", "null", "auto", "unset", "default"})  # in secrets and in logs
_SHORTEST = 4  # shorter values would mask ordinary words; in URIs the patterns below still catch them

_secrets: set[str] = set()
_shown: set[str] = {"mlflow", "MLflow", "mlflow_ae5_server"}

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ in any URI; the password may itself hold a colon or an unencoded "@"
    (re.compile(r"((?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]{0,30}://[^\s:/@'\"]*:)[^\s/'\"]+(?=@)", re.I), r"\1" + MASK),
    # the same in the path of an address, as an object store's library writes the bucket it was asked for
    (re.compile(r"(https?://[^\s'\"]{1,300}/[^\s:/@'\"]{0,200}:)[^\s/'\"]+(?=@)", re.I), r"\1" + MASK),
    (re.compile(r"(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{6,}", re.I), r"\1" + MASK),
    # ?password=... in a URI, password=... in a libpq or ODBC connection string
    (re.compile(r"(\b(?:password|passwd|pwd|sslpassword)\s*=\s*)[^\s&;'\"]+", re.I), r"\1" + MASK),
)


def register(value: str) -> None:
    """Mask `value`, and its URL-encoded and decoded forms, from now on."""
    for part in {value, *value.splitlines()}:
        stripped = part.strip()
        for form in {stripped, quote(stripped, safe=""), quote_plus(stripped), unquote(stripped), repr(stripped)[1:-1]}:
            if len(form) >= _SHORTEST and form.lower() not in _WORDS and not form.startswith("-----"):
                _secrets.add(form)


def exempt(*texts: str) -> None:
    """Do not mask these paths and names: people must be able to copy them."""
    _shown.update(text for text in texts if len(text) >= _SHORTEST)


def register_uri(uri: str) -> None:
    """Register the password in a database URI, and show its names."""
    found = re.match(r"[^:/]+://(?P<user>[^:/@]*):(?P<password>.*)@(?P<host>[^/?]*)(?:/(?P<database>[^?]*))?", uri)
    if found:
        register(found["password"])
        exempt(found["user"], found["host"], found["database"] or "")
    for value in re.findall(r"[?&;](?:password|passwd|pwd|sslpassword|token)=([^&;]+)", uri, re.I):
        register(value)


def login_in(uri: str) -> tuple[str, ...]:
    """User and password before the bucket of an object store's address.

    Azure's `CONTAINER@ACCOUNT` is no login, nor is an Amazon resource name.
    """
    scheme, _, rest = uri.partition("://")
    bucket = rest.partition("/")[0]
    if "@" not in rest or bucket.startswith("arn:"):
        return ()
    if ":" in bucket:  # a password may hold a slash, and an `@`
        fronts = [rest[: found.start()] for found in re.finditer("@", rest)]
        return tuple(part for front in fronts for part in front.split(":", 1))
    return (bucket.rpartition("@")[0],) if "@" in bucket and scheme.lower() in {"s3", "gs"} else ()


def register_login(uri: str) -> None:
    """Register the login in an object store's address."""
    for part in login_in(uri):
        register(part)


def scrub(text: str) -> str:
    """`text` without registered values and what looks like a credential."""
    if found := [value for value in _secrets if value in text]:
        whole = [(name, rf"({_front(name)}{re.escape(name)}(?![\w\-]))") for name in _shown if name in text]
        longest_first = sorted(
            [*whole, *((value, re.escape(value)) for value in found)], key=lambda item: -len(item[0])
        )
        either = "|".join(pattern for _, pattern in longest_first)  # a group is a name
        text = re.sub(either, lambda match: match[0] if match.lastindex else MASK, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _front(name: str) -> str:
    """A path may have more in front of it; a name must not be part of another word."""
    return "" if name.startswith("/") else r"(?<![\w.\-])"


class ScrubbingStream(io.TextIOBase):
    """A text stream that scrubs whole lines, also of several writes."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._pending = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.inner.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.inner.errors

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.inner.fileno()

    def isatty(self) -> bool:
        return self.inner.isatty()

    def write(self, text: str) -> int:
        self._pending += text
        if "\n" in self._pending:
            lines, _, self._pending = self._pending.rpartition("\n")
            self.inner.write(scrub(lines + "\n"))
            self.inner.flush()
        return len(text)

    def flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, ""
            self.inner.write(scrub(pending))
        self.inner.flush()


def install() -> None:
    """Filter stdout and stderr of this process, and of the workers forked from it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, ScrubbingStream):
            setattr(sys, name, ScrubbingStream(stream))
