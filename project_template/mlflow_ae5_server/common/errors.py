"""The failures that an administrator can act on.

    ProjectError               exit code
      Usage                   2   an unknown option
      Configuration           3   a setting that cannot work
      Unreachable            10   database or server did not answer in time
      LoginFailed            11   database or server refused the password or token
      NotFound               15   there is no such snapshot or saved copy
      Locked                 22   another job or a starting server holds the lock: try again later
      RestoreUnfinished      22   a restore was interrupted: finish it first
      SnapshotDamaged        25   a snapshot is not what its manifest says
      TargetNotEmpty         26   the target of a restore holds something
      TargetInUse            27   a server runs on the target
      RepositoryFailed       28   the backup repository is missing, not ours or not writable
      NoRoom                 28   the same, because it is full
      SchemaMismatch         33   the database is of another MLflow version (run DatabaseUpgrade), or lacks tables

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


class Interrupted(BaseException):
    """SIGTERM. Not an Exception, so that no retry catches it.

    Nor a KeyboardInterrupt: one that passes through `exec` (as imports may) makes CPython end the process by SIGINT,
    whatever its exit code.
    """

    exit_code = EXIT_CODES["interrupted"]


class Usage(ProjectError):
    exit_code = EXIT_CODES["usage"]


class Configuration(ProjectError):
    exit_code = EXIT_CODES["configuration"]


class Unreachable(ProjectError):
    exit_code = EXIT_CODES["unreachable"]


class LoginFailed(ProjectError):
    exit_code = EXIT_CODES["login_failed"]


class SchemaMismatch(ProjectError):
    exit_code = EXIT_CODES["schema_mismatch"]


ANOTHER_SNAPSHOT = "use another snapshot"


class SnapshotDamaged(ProjectError):
    exit_code = EXIT_CODES["snapshot_damaged"]


class TargetNotEmpty(ProjectError):
    exit_code = EXIT_CODES["target_not_empty"]


class TargetInUse(ProjectError):
    exit_code = EXIT_CODES["target_in_use"]


class RepositoryFailed(ProjectError):
    exit_code = EXIT_CODES["repository_failed"]


class NoRoom(RepositoryFailed):
    pass


class NotFound(ProjectError):
    exit_code = EXIT_CODES["not_found"]


class NoSnapshot(NotFound):
    pass


class Locked(ProjectError):
    exit_code = EXIT_CODES["locked"]


class RestoreUnfinished(Locked):
    """Unlike another run, this does not pass by itself: every job fails with it."""
