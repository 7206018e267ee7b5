"""The state folder: journal, lock, fingerprints, old archives; owner only."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import STATE_ELSEWHERE, private_folder, storage_error
from mlflow_ae5_deploy.config.environment import STATE_VARIABLE

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.settings import Settings

JOURNAL = "journal.jsonl"
_APPENDED = (JOURNAL, "lock")  # of an installation; the others are replaced


def state_root(settings: Settings | None, environ: Mapping[str, str]) -> Path:
    """The folder of all installations' state, whether or not it exists.

    `state_dir` of the settings (which has the environment in it when it came from `load`), else
    MLFLOW_AE5_DEPLOY_STATE, else the platform's usual place.
    """
    if settings is not None and settings.state_dir is not None:
        return settings.state_dir
    if environ.get(STATE_VARIABLE):
        return Path(os.path.abspath(environ[STATE_VARIABLE]))  # noqa: PTH100 - links are kept
    from platformdirs import user_state_dir

    return Path(user_state_dir("mlflow-ae5-deploy", appauthor=False))


def installation_dir(state: Path, hostname: str, account: str, project: str) -> Path:
    """The folder of one installation below `state`; not made here (see private_dir).

    Its name can be read, is safe on every file system, and differs for different installations even where letters
    had to be replaced or the file system ignores case.
    """
    parts = (hostname.lower(), account, project)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
    readable = "_".join(_readable(part) for part in parts)
    return state / f"{readable}_{digest}"


def _readable(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip(".-")[:40] or "x"


def installations_on(state: Path, hostname: str) -> list[Path]:
    """The folders below `state` of installations on exactly this host.

    Different hosts can have the same readable name, so the name alone is not enough: the journal in the folder must
    name the host, and no other. A folder without such a journal is not listed, nor is a link.
    """
    return sorted(_accounts_by_folder(state, hostname))


def accounts_on(state: Path, hostname: str) -> list[str]:
    """The service accounts of the installations on this host that this machine has records of."""
    return sorted(set().union(*_accounts_by_folder(state, hostname).values()))


def _accounts_by_folder(state: Path, hostname: str) -> dict[Path, set[str]]:
    name = re.compile(rf"{re.escape(_readable(hostname.lower()))}_.+_.+_[0-9a-f]{{10}}\Z")
    if not state.is_dir():
        return {}
    found = {}
    for folder in state.iterdir():
        if name.match(folder.name) and not folder.is_symlink():
            hosts, accounts = _named(folder / JOURNAL)
            if {host.lower() for host in hosts} == {hostname.lower()}:
                found[folder] = accounts
    return found


def _named(journal: Path) -> tuple[set[str], set[str]]:
    """The hosts that a journal names, and the accounts that runs began with; empty when it cannot be read."""
    hosts, accounts = set(), set()
    try:
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []  # a device may not end
    except (OSError, ValueError):
        return set(), set()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # truncated by a full disk or a crash
        if isinstance(entry, dict) and isinstance(entry.get("host"), str):
            hosts.add(entry["host"])
        if isinstance(entry, dict) and entry.get("event") == "begin" and isinstance(entry.get("account"), str):
            accounts.add(entry["account"])
    return hosts, accounts


def check_writable(folder: Path) -> Path:
    """Test that `folder` can be written or created; returns the tested folder.

    Raises Configuration where no file can be made there or changed, and where others could make one in `folder`.
    """
    try:
        there = next(path for path in (folder, *folder.parents) if _exists(path))
        mode = there.stat().st_mode
        if there == folder and mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _open_to_others(folder, mode)
        _write_something(there)
        for file in (folder / name for name in _APPENDED):
            if file.exists() and not os.access(file, os.W_OK, effective_ids=True):
                raise storage_error(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), file)
    except OSError as error:
        raise storage_error(error, folder) from None
    return there


def _exists(folder: Path) -> bool:
    """Whether it exists. Raises OSError where that cannot be seen, unlike Path.exists."""
    try:
        folder.stat()
    except FileNotFoundError:
        return False
    return True


def _open_to_others(folder: Path, mode: int) -> Configuration:
    return Configuration(
        f"The state folder is open to other accounts (mode {stat.S_IMODE(mode):04o}).",
        where=str(folder),
        remedy=f"chmod 700 '{folder}', or {STATE_ELSEWHERE}.",
    )


def private_dir(folder: Path, *, probe: Callable[[Path], None] | None = None) -> Path:
    """Create `folder` (0700) if needed, and test with `probe` that it is writable.

    Raises Configuration that names the folder and what to do, also where others may write into it.
    """
    private_folder(folder)
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _open_to_others(folder, mode)
    try:
        (probe or _write_something)(folder)
    except OSError as error:
        raise storage_error(error, folder) from None
    return folder


def _write_something(folder: Path) -> None:
    # A block, flushed: on a full disk the file itself can often still be made, and only its content does not fit.
    with tempfile.TemporaryFile(dir=folder, prefix=".writable-") as stream:
        stream.write(b"\0" * 4096)
        stream.flush()
        os.fsync(stream.fileno())
