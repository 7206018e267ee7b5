"""Files that are replaced in one step, also for a reader in between and across a power cut. Raises OSError."""

from __future__ import annotations

import os
from pathlib import Path


def write(file: Path, data: bytes, partial: str) -> None:
    """Replace the content of `file` (0600). `partial`: the name in the same folder that it has meanwhile."""
    temporary = file.with_name(partial)
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        move(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def move(file: Path, target: Path) -> None:
    """Move a finished file to `target`, in the same folder or another one of the volume."""
    file.replace(target)
    flush(target.parent)


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
