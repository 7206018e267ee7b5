"""What an HTTP answer means, decided before ae5-tools or `requests` can misread it.

A redirect of an API call is not success; a login page is not a result; a 403 is a refusal and not network trouble;
the platform's own words (AE5 puts them into the reason phrase) are kept, scrubbed.
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
BUSY = frozenset({502, 503, 504})
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
    """The platform does not know the session (any more). Seen outside only when a new login did not help."""


def is_signing(path: str) -> bool:
    """Whether a POST to this path signs in or out, or impersonates: it changes nothing that a plan must not change."""
    return bool(_SIGNING.search(path))


def is_write(method: str, path: str) -> bool:
    return method.upper() not in SAFE_METHODS and not is_signing(path)


def is_taken(message: str) -> bool:
    """Whether the platform's words say that a name or endpoint is in use. The exact words are not documented."""
    return bool(_TAKEN.search(message))


def judge(method: str, url: str, response: requests.Response) -> PlatformError | None:
    """The error that an answer of the platform's own host stands for, or None when it is a plain success."""
    parts = urlsplit(url)
    where = f"{method.upper()} {parts.netloc}{parts.path}"
    write = is_write(method, parts.path)
    status = response.status_code
    if status in BUSY:
        return _busy(where, write, response)
    if not parts.path.startswith(_API):
        return None  # pages of the login; whoever signs in reads them
    if 300 <= status < 400:
        return _redirect(where, response)
    if status == 401 or _is_login_page(response):
        return SessionExpired("The platform does not accept the session.", where=where, status=status)
    if status >= 400:
        return _refusal(where, status, message_of(parts.path, response))
    return None


def refused_in_words(where: str, answer: Any) -> PlatformError | None:
    """The error inside a 200 answer: `{"error": {"message": ...}}`. ae5-tools trips over these before reading them."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not error:
        return None
    message = scrub(str(error.get("message", error) if isinstance(error, dict) else error))[:_LONGEST_QUOTE]
    kind = Conflict if is_taken(message) else Refused
    return kind(f"The platform refused: {message}", where=where, status=200)


def message_of(path: str, response: requests.Response) -> str:
    """The platform's own words: reason phrase, then a message from the body. Scrubbed and bounded.

    Where the request carried a secret nothing is quoted: the answer may echo it, and a short one is not recognised.
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
            remedy="Run the command again: it looks at what was done before it repeats anything.",
        )
    return Unreachable(words, where=where, status=status, remedy="The platform is overloaded or starting; try later.")


def _redirect(where: str, response: requests.Response) -> PlatformError:
    target = urlsplit(response.headers.get("location", "").strip())
    status = response.status_code
    if _LOGIN_PATH.search(target.path):
        return SessionExpired("The platform sends the call to its login page.", where=where, status=status)
    return UnexpectedAnswer(
        f"The platform redirects an API call to {target.netloc}{target.path}; this is not taken for success.",
        where=where,
        status=status,
        remedy="Set platform.hostname to the name that the platform itself uses.",
    )


def _is_login_page(response: requests.Response) -> bool:
    if not response.headers.get("content-type", "").startswith("text/html"):
        return False
    return bool(LOGIN_FORM.search(response.text))


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
