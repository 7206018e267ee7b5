"""The failures that an administrator can act on.

    ProjectError             exit code
      UsageError                2   an unknown option
      ConfigurationError        3   a setting that cannot work
      UnreachableError         10   database or server did not answer in time
      CredentialsError         11   database or server refused the password or token
      AbsentError              15   there is no such snapshot or saved copy
      BusyError                22   another job or a starting server holds the lock: try again later
      UnfinishedError          22   a restore was interrupted: finish it first
      DamagedError             25   a snapshot is not what its manifest says
      NotEmptyError            26   the target of a restore holds something
      InUseError               27   a server runs on the target
      StorageError             28   the backup repository is missing, not ours or not writable
      NoRoomError              28   the same, because it is full
      SchemaError              33   the database is of another MLflow version (run DatabaseUpgrade), or lacks tables

The numbers are in contract.json; the client uses the same ones.
Failures inside MLflow's own commands keep MLflow's exit code (1, or what its command line would return).
"""

from __future__ import annotations

import errno
from typing import Any

from mlflow_ae5_server.common.contract import EXIT_CODES

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # the disk, or a quota of it


def hint_for(error: OSError) -> str:
    """What to do about a write that failed."""
    return "free disk space there" if error.errno in FULL else "give this account write permission there"


class ProjectError(Exception):
    """What happened and where, and a hint what to do.

    `fields` are for a job's report. None of them holds a secret.
    """

    exit_code = EXIT_CODES["failed"]

    def __init__(self, message: str, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.hint}" if self.hint else self.message


class StoppedError(BaseException):
    """SIGTERM. Not an Exception, so that no retry catches it.

    Nor a KeyboardInterrupt: one that passes through `exec` (as imports may) makes CPython end the process by SIGINT,
    whatever its exit code.
    """

    exit_code = EXIT_CODES["interrupted"]


class UsageError(ProjectError):
    exit_code = EXIT_CODES["usage"]


class ConfigurationError(ProjectError):
    exit_code = EXIT_CODES["configuration"]


class UnreachableError(ProjectError):
    exit_code = EXIT_CODES["unreachable"]


class CredentialsError(ProjectError):
    exit_code = EXIT_CODES["credentials"]


class SchemaError(ProjectError):
    exit_code = EXIT_CODES["schema_mismatch"]


ANOTHER_SNAPSHOT = "use another snapshot"


class DamagedError(ProjectError):
    exit_code = EXIT_CODES["damaged"]


class NotEmptyError(ProjectError):
    exit_code = EXIT_CODES["not_empty"]


class InUseError(ProjectError):
    exit_code = EXIT_CODES["in_use"]


class StorageError(ProjectError):
    exit_code = EXIT_CODES["repository_failed"]


class NoRoomError(StorageError):
    pass


class AbsentError(ProjectError):
    exit_code = EXIT_CODES["absent"]


class NoSnapshotError(AbsentError):
    pass


class BusyError(ProjectError):
    exit_code = EXIT_CODES["busy"]


class UnfinishedError(BusyError):
    """Unlike another run, this does not pass by itself: every job fails with it."""
