"""A consumer that is a file on this machine: it holds the token and nothing else.

Prometheus reads it as `credentials_file`, MLflow's clients as MLFLOW_AE5_TOKEN_FILE. `rotate-token` replaces it in one
step, so no reader sees half a token.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import storage_error, write_private
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context

ABSENT = "does not exist"
_LONGEST = 100_000


def of(context: Context, recipient: str) -> Path | None:
    """The file that a recipient is, if it is one."""
    return next((file for file in context.settings.token_files if str(file) == recipient), None)


def read(file: Path) -> Secret | None:
    """None where it holds none, see `why_no_token`."""
    try:
        return Secret(text) if (text := _content(file)) else None
    except OSError:
        return None


def why_no_token(file: Path) -> str:
    """Empty where it holds one."""
    try:
        return "" if _content(file) else "is empty"
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _content(file: Path) -> str:
    with file.open("rb") as handle:
        return handle.read(_LONGEST).decode("ascii", "replace")


def check(file: Path) -> tuple[int, int] | None:
    """Raise Configuration if it cannot be written. Return its user and group, if it exists."""
    if not file.parent.is_dir():
        if os.path.lexists(file.parent):
            raise _unusable(file, "its folder is not a directory", "Move that away and create the folder")
        raise _unusable(file, "its folder does not exist", "Create the folder")
    try:
        present = file.lstat()
    except FileNotFoundError:
        present = None
    except OSError as error:
        raise storage_error(error, file, "Cannot write the token file", "choose another file in `consumers`") from None
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise _unusable(file, "its folder is not writable", "Get write permission there")
    if present is None:
        return None
    if not stat.S_ISREG(present.st_mode):
        raise _unusable(file, "it is not a regular file", "Move it away")
    if present.st_uid != os.geteuid() and os.geteuid() != 0:
        raise _unusable(file, "it belongs to another user, who could not read the new one", "Run this as that user")
    return present.st_uid, present.st_gid


def write(file: Path, token: Secret) -> None:
    """Replace it (0600). A file of another user stays that user's."""
    write_private(file, token.reveal().encode("ascii"), owner=check(file))


def _unusable(file: Path, why: str, remedy: str) -> Configuration:
    return Configuration(
        f"Cannot write the token file: {why}.",
        where=str(file),
        remedy=f"{remedy}, or choose another file in `consumers`, then run this again.",
    )
