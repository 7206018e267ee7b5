"""Download one file into `<name>.part`, resumable across runs.

A partial file is stored with the server's ETag; the rest is requested with Range and If-Range, so that a file that
was replaced on the server is fetched again, never glued together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from mlflow_ae5_deploy.common.errors import ReleaseRefused
from mlflow_ae5_deploy.common.files import storage_errors, write_private
from mlflow_ae5_deploy.release.archive import refuse_large
from mlflow_ae5_deploy.release.http import HttpClient, TransientError, public_form

Progress = Callable[[int, int | None], None]

_DIGITS = 19
_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d+|\*)")


@dataclass(frozen=True)
class _State:
    """State of the .part file."""

    url: str  # hashed
    etag: str  # a strong one
    total: int | None  # bytes


def download(web: HttpClient, url: str, part: Path, on_progress: Progress | None = None) -> None:
    """Complete `part`.

    Raises NotThere, Unreachable, DeadlineExceeded, Denied, Refused, Configuration (full disk) or ReleaseRefused (too
    large).

    After an error the part stays, if it can be resumed.
    """
    try:
        web.retrying(lambda: _attempt(web, url, part, on_progress))
    except ReleaseRefused:
        discard(part)
        raise
    _state_file(part).unlink(missing_ok=True)


def discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _attempt(web: HttpClient, url: str, part: Path, on_progress: Progress | None) -> None:
    state = _resumable(url, part)
    headers = {"Accept": "*/*"}
    have = part.stat().st_size if state else 0
    if state is not None:
        if state.total is not None and have == state.total:
            return
        headers |= {"Range": f"bytes={have}-", "If-Range": state.etag}
    with web.opened(url, headers) as response:
        start = _start_of(response)
        other_file = start > 0 and state is not None and response.headers.get("ETag", state.etag) != state.etag
        if response.status_code == 416 or start not in (0, have) or other_file:
            discard(part)
            raise TransientError(web.unreachable(url, "it answers with another part of the file than requested"))
        total = _total(response, start)
        with storage_errors("store the download", part), _opened(part, start) as file:
            _save_state(url, response, part, total)  # the old bytes are gone by now, so they never get the new ETag
            done = start
            if on_progress:
                on_progress(done, total)
            for chunk in web.chunks(response, url):
                done += len(chunk)
                refuse_large(done, public_form(url))
                file.write(chunk)
                if on_progress:
                    on_progress(done, total)


def _opened(part: Path, start: int) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | (0 if start else os.O_TRUNC)
    file = os.fdopen(os.open(part, flags, 0o600), "wb")
    if start:
        file.seek(start)
    return file


def _start_of(response: requests.Response) -> int:
    """The offset of the answer's bytes in the file; -1 if it is not stated properly."""
    if response.status_code != 206:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found.group(1)) if found else -1


def _total(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isascii() and length.isdigit() and len(length) < _DIGITS else None


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _hashed(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _save_state(url: str, response: requests.Response, part: Path, total: int | None) -> None:
    """Only with a strong ETag can the rest be asked for later."""
    etag = response.headers.get("ETag", "")
    if not etag.startswith('"'):
        _state_file(part).unlink(missing_ok=True)
        return
    state = {"url": _hashed(url), "etag": etag, "total": total}
    write_private(_state_file(part), json.dumps(state).encode())


def _resumable(url: str, part: Path) -> _State | None:
    if not part.is_file() or part.stat().st_size == 0:
        return None
    try:
        recorded = json.loads(_state_file(part).read_bytes())
        state = _State(str(recorded["url"]), str(recorded["etag"]), recorded["total"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if state.url == _hashed(url) else None
