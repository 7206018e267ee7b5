"""Meaning of HTTP answers, before ae5-tools or `requests` can misread them.

A redirect of an API call is not success, a login page is not a result, and a 403 is not a network error. AE5's
message, which is in the reason phrase, is kept, scrubbed.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests

from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import (
    AnswerLost,
    Conflict,
    Denied,
    LoginFailed,
    NotFound,
    PlatformError,
    Refused,
    UnexpectedAnswer,
    Unreachable,
)
from mlflow_ae5_deploy.common.redaction import scrub

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BUSY_STATUSES = frozenset({502, 503, 504})
LOGIN_FORM = re.compile(r"""<form[^>]*\bid=["']?kc-form-login\b""", re.I)

_API = ("/api/v2/", "/platform/", "/auth/admin/")
_SIGNING = re.compile(
    r"^/auth/realms/[^/]+/(protocol/openid-connect|login-actions)/|^/auth/admin/realms/[^/]+/users/[^/]+/impersonation$"
)
_LOGIN_PATH = re.compile(r"/login\b|/auth/realms/|openid-connect", re.I)
_TAKEN = re.compile(r"not unique|already|in use|is taken|is claimed|duplicate|exists", re.I)
_SECRET_BEARING = re.compile(r"/credentials/user(/|$)|/auth/admin/realms/[^/]+/users$")
_LONGEST_QUOTE = 400


class SessionExpired(LoginFailed):
    """The platform does not accept the session; raised if a new login did not help."""


def is_write(method: str, path: str) -> bool:
    """Whether a request may change something; logins and impersonation do not."""
    return method.upper() not in SAFE_METHODS and not _SIGNING.search(path)


def is_taken(message: str) -> bool:
    """Whether AE5's undocumented message says that a name or endpoint is in use."""
    return bool(_TAKEN.search(message))


def judge(method: str, url: str, response: requests.Response) -> PlatformError | None:
    """The error behind an answer of the platform's own host, or None for a success."""
    parts = urlsplit(url)
    where = f"{method.upper()} {parts.netloc}{parts.path}"
    write = is_write(method, parts.path)
    status = response.status_code
    if status in BUSY_STATUSES:
        return _busy(where, write, response)
    if not parts.path.startswith(_API):
        return None  # pages of the login, which the provider reads
    if 300 <= status < 400:
        return _redirect(where, response)
    is_html = response.headers.get("content-type", "").startswith("text/html")
    if status == 401 or (is_html and LOGIN_FORM.search(response.text)):
        return SessionExpired("The platform does not accept the session.", where=where, status=status)
    if status >= 400:
        return _refusal(where, status, message_of(parts.path, response))
    return None


def checked(where: str, answer: Any) -> Any:
    """The answer, unless it is an error with status 200: `{"error": {...}}`."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return answer
    message = scrub(str(error.get("message", error) if isinstance(error, dict) else error))[:_LONGEST_QUOTE]
    kind = Conflict if is_taken(message) else Refused
    raise kind(f"The platform refused: {message}", where=where, status=200)


def message_of(path: str, response: requests.Response) -> str:
    """The platform's message: reason phrase and body. Scrubbed and bounded.

    Nothing is quoted where the request carried a secret: the answer may echo it, and a short one is not recognised.
    """
    standard = _standard_phrase(response.status_code)
    if _SECRET_BEARING.search(path):
        return standard
    reason = (response.reason or "").strip()
    words = [reason or standard]
    message = _message_in(response)
    if message and message not in reason:
        words.append(message)
    return " ".join(scrub(": ".join(words)).split())[:_LONGEST_QUOTE]


def _standard_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _message_in(response: requests.Response) -> str:
    kind = response.headers.get("content-type", "")
    if "json" in kind:
        try:
            body = json_input.parse(response.content)
        except ValueError:
            return ""
        for key in ("message", "errorMessage", "error_description", "error", "detail"):
            value = body.get(key) if isinstance(body, dict) else None
            if isinstance(value, dict):
                value = value.get("message")
            if isinstance(value, str) and value:
                return value
        return ""
    if kind.startswith("text/plain"):
        return response.text.strip()
    return ""


def _busy(where: str, write: bool, response: requests.Response) -> PlatformError:
    status = response.status_code
    words = f"The platform answers {status} {_standard_phrase(status)}."
    if write:
        return AnswerLost(
            f"{words} Whether the change was made is not known.",
            where=where,
            status=status,
            remedy="Run the command again: it checks what was done before it repeats anything.",
        )
    return Unreachable(words, where=where, status=status, remedy="The platform is overloaded or starting; try later.")


def _redirect(where: str, response: requests.Response) -> PlatformError:
    target = urlsplit(response.headers.get("location", "").strip())
    status = response.status_code
    if _LOGIN_PATH.search(target.path):
        return SessionExpired("The platform sends the call to its login page.", where=where, status=status)
    return UnexpectedAnswer(
        f"The platform redirects an API call to {target.netloc}{target.path}.",
        where=where,
        status=status,
        remedy="Set platform.hostname to the name that the platform itself uses.",
    )


def _refusal(where: str, status: int, words: str) -> PlatformError:
    what = f"The platform refused: {status} {words}".rstrip()
    if status == 403:
        return Denied(
            what,
            where=where,
            status=status,
            remedy="Use an account that may do this, or have an administrator grant the right.",
        )
    if status == 404:
        return NotFound(what, where=where, status=status)
    if status == 409 or (status == 400 and is_taken(words)):
        return Conflict(what, where=where, status=status)
    return Refused(what, where=where, status=status)
