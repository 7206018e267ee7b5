"""Errors for users, and the exit code of each.

    DeployError                     what happened, where, what to do
    |-- Usage                    2  the command line asks for something impossible
    |-- Configuration            3  the configuration (or a file it names) is wrong
    |   `-- ReleaseRefused       3  the release is not a project archive we would upload
    |-- PlatformError               the platform refused, or did not answer
    |   |-- Unreachable         10  no connection, DNS name or trusted certificate; or none from a job to its database
    |   |-- LoginFailed         11  wrong password, disabled or missing account; or a job lacks a right to its data
    |   |-- Denied              12  signed in, but not allowed (403)
    |   |-- DeadlineExceeded    13  a wait or a request took longer than it may
    |   |-- Conflict            14  the name, endpoint or job is in use by something else
    |   |   `-- NotConfirmed    14  a change needs consent, and nobody gave it
    |   |-- NotFound            15  the requested resource does not exist on the platform
    |   |-- Refused             16  any other answer of 400 and above
    |   |-- UnexpectedAnswer    17  an answer of an unexpected form
    |   |-- AnswerLost          18  a write was sent and its outcome is not known
    |   `-- WriteForbidden      19  a write was attempted where only reading is allowed (a plan)
    |-- StageFailed             20  a stage of the runbook failed
    |-- VerificationFailed      21  the server runs, but failed the end-to-end test
    |-- Locked                  22  another run works on this installation, or another machine left it unfinished
    |-- PartlyDone              23  partly done; the message names what is left
    |-- JobFailed               24  a job on the platform failed, or left no report
    |   |-- SnapshotDamaged     25  a snapshot does not match its manifest
    |   |-- TargetNotEmpty      26  the target of a restore is not empty
    |   |-- TargetInUse         27  a server runs on the target of a restore
    |   |-- RepositoryFailed   28  the backup destination is full, missing, foreign or read-only; or artifacts are gone
    |   `-- SchemaMismatch      33  the database is of another MLflow version than the release, or lacks tables
    |-- RolledBack              29  an upgrade failed; the previous state was restored and verified
    `-- RollbackFailed          31  an upgrade failed, and so did its rollback; the message describes the state

Not errors, but exit codes too: 0 done (also when Ctrl-C ends `logs --follow`; `status --watch` exits with the code of
its last observation), 1 a bug in this tool, 30 changes pending (`plan --exit-code`),
32 nothing is installed (`status`), 130 interrupted (Ctrl-C or SIGTERM or SIGHUP).

`python tools/reference.py` writes this into the table of the reference.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_CHANGES_PENDING = 30
EXIT_NOT_INSTALLED = 32
EXIT_INTERRUPTED = 130

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # the disk, or a quota of it


AGAIN = ("", "to run it again")
"""The usual way out of an interruption, see Interrupted."""


class Interrupted(BaseException):
    """Ctrl-C in a verb that works on a platform; not a KeyboardInterrupt, which typer swallows.

    what: the state that it leaves.
    ways_out: commands with their purposes, the usual one first; an empty command is the same one again.
    """

    def __init__(self, what: str, ways_out: Sequence[tuple[str, str]]) -> None:
        super().__init__(what)
        self.what = what
        self.ways_out = ways_out


class DeployError(Exception):
    """Base of every error meant for a user.

    what:   one sentence, no secret in it (callers scrub text that came from outside).
    where:  the host, file, setting or stage concerned; empty when there is none.
    remedy: what the reader can do now; by default the usual remedy of the class.
    detail: longer text such as the tail of a log; already scrubbed.
    of_job: a job on the platform has reported it.
    document: fields that the JSON document has besides the error.
    """

    exit_code: ClassVar[int] = EXIT_BUG
    usual_remedy: ClassVar[str] = ""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy or self.usual_remedy
        self.detail = detail
        self.of_job = False
        self.document: dict[str, Any] = {}

    @property
    def kind(self) -> str:
        """The class name, as in JSON output."""
        return type(self).__name__


class Usage(DeployError):
    exit_code = 2
    usual_remedy = "Run the verb with --help."


class Configuration(DeployError):
    exit_code = 3
    usual_remedy = "Correct it, then run this again."


class ReleaseRefused(Configuration):
    exit_code = 3
    usual_remedy = "Have the release fixed by its publisher, or use another: `--release bundled` comes with this tool."


class PlatformError(DeployError):
    """status: the HTTP status behind it, or None when no answer arrived."""

    exit_code = 16

    def __init__(
        self, what: str, *, where: str = "", remedy: str = "", detail: str = "", status: int | None = None
    ) -> None:
        super().__init__(what, where=where, remedy=remedy, detail=detail)
        self.status = status


class Unreachable(PlatformError):
    exit_code = 10


class LoginFailed(PlatformError):
    exit_code = 11


class Denied(PlatformError):
    exit_code = 12


class DeadlineExceeded(PlatformError):
    exit_code = 13


class Conflict(PlatformError):
    exit_code = 14
    usual_remedy = "Check on the platform what uses the name, then run this again."


class NotConfirmed(Conflict):
    pass


class NotFound(PlatformError):
    exit_code = 15
    usual_remedy = (
        "It may have been deleted, for example by another administrator of this installation. Check on the platform, "
        "then run this again."
    )


class Refused(PlatformError):
    exit_code = 16
    usual_remedy = "Run this again. If the error persists, ask the platform's administrator to check its logs."


class UnexpectedAnswer(PlatformError):
    exit_code = 17
    usual_remedy = (
        "Run this again. If the error persists, this tool does not support the platform's version: report it."
    )


class AnswerLost(PlatformError):
    exit_code = 18


class WriteForbidden(PlatformError):
    exit_code = 19
    usual_remedy = "Run `install` to apply it."


class StageFailed(DeployError):
    """stage: the number of the stage that failed."""

    exit_code = 20
    usual_remedy = (
        "Run this again: it continues at this stage. If the error persists, check the stage's resource on the platform."
    )

    def __init__(self, what: str, *, stage: int, where: str = "", remedy: str = "", detail: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy, detail=detail)
        self.stage = stage


class VerificationFailed(DeployError):
    exit_code = 21


class Locked(DeployError):
    exit_code = 22


class PartlyDone(DeployError):
    exit_code = 23
    usual_remedy = "Fix the cause, then run this again: it does only what is left."


class JobFailed(DeployError):
    exit_code = 24
    usual_remedy = "See the end of the job's log. Fix the cause, then run this again."


class SnapshotDamaged(JobFailed):
    exit_code = 25
    usual_remedy = "Use another snapshot (`backup list`), and find out what damaged this one."


class TargetNotEmpty(JobFailed):
    exit_code = 26
    usual_remedy = (
        "Nothing was changed. `--replace` moves the present data to a saved copy; `restore --undo --stop-server` "
        "brings it back."
    )


class TargetInUse(JobFailed):
    exit_code = 27
    usual_remedy = "Nothing was changed. Stop the named server, then run this again."


class RepositoryFailed(JobFailed):
    exit_code = 28
    usual_remedy = "Free space or fix the access, or set another backup.destination. Then run this again."


class SchemaMismatch(JobFailed):
    exit_code = 33
    usual_remedy = "Nothing was changed. `upgrade` brings the database to the release's MLflow."


class RolledBack(DeployError):
    exit_code = 29
    usual_remedy = (
        "Fix the cause, then run this again. `upgrade --rehearse` tests the migration on a copy, not the start of the "
        "server."
    )


class RollbackFailed(DeployError):
    exit_code = 31
    usual_remedy = "Fix the cause, then run `upgrade --roll-back`: it resumes the rollback."


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and all it wraps: cause, context, arguments, urllib3's `reason`."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        waiting.extend(item for item in inner if isinstance(item, BaseException))
