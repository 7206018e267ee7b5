"""The errors a user can meet, and the exit code of each.

    DeployError                     what happened, where, what to do
    |-- Usage                    2  the command line asks for something impossible
    |-- Configuration            3  the configuration (or a file it names) is wrong
    |   `-- ReleaseRefused       3  the release is not a project archive we would upload
    |-- PlatformError               the platform said no, or said nothing
    |   |-- Unreachable         10  no connection, no DNS name, no trusted certificate
    |   |-- LoginFailed         11  wrong password, disabled or missing account
    |   |-- Denied              12  signed in, but not allowed (403)
    |   |-- DeadlineExceeded    13  a wait or a request took longer than it may
    |   |-- Conflict            14  the name, endpoint or job is taken by something else
    |   |-- NotFound            15  the platform does not have what was asked for
    |   |-- Refused             16  any other answer of 400 and above
    |   |-- UnexpectedAnswer    17  an answer that does not have the promised form
    |   |-- AnswerLost          18  a write was sent and its outcome is not known
    |   `-- WriteForbidden      19  a write was attempted where only reading is allowed (a plan)
    |-- StageFailed             20  a stage could not make its promise true
    |-- VerificationFailed      21  the server was there, and did not do what it should
    |-- Locked                  22  another run holds the lock of this installation
    |-- PartlyDone              23  some of it was done and some is left; the message says which
    |-- JobFailed               24  a job on the platform did not do its work, or left no report of it
    |   |-- SnapshotDamaged     25  a snapshot is not what its manifest says
    |   |-- TargetNotEmpty      26  where a snapshot would be restored to, something is kept already
    |   |-- TargetInUse         27  a server runs on what would be restored
    |   |-- RepositoryFailed   28  the backup destination is full, gone, foreign or not writable; or artifacts are gone
    |   `-- SchemaMismatch      33  the database is of another MLflow version than the release, or lacks tables
    |-- RolledBack              29  an upgrade failed; everything is as it was before, and verified
    `-- RollbackFailed          31  an upgrade failed, and rolling back failed as well; the message says how it stands

Not errors, but exit codes too: 0 done (also when Ctrl-C ends `logs --follow`; `status --watch` ends with the code of
its last look), 1 a bug in this tool, 30 changes pending (`plan --exit-code`),
32 nothing is installed (`status`), 130 interrupted (Ctrl-C or SIGTERM or SIGHUP).

`python -m mlflow_ae5_deploy.common.errors` prints the table of them that the documents have.
"""

from __future__ import annotations

import errno
import re
from typing import ClassVar

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_CHANGES_PENDING = 30
EXIT_NOT_INSTALLED = 32
EXIT_INTERRUPTED = 130

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # the disk, or a quota of it


class Interrupted(BaseException):
    """Ctrl-C while no server runs. No KeyboardInterrupt itself: typer makes a bare exit code of those.

    what:   how the server was left.
    resume: verb and options of the command that goes on; empty: the same command again.
    """

    def __init__(self, what: str, resume: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.resume = resume


class DeployError(Exception):
    """Base of every error meant for a user.

    what:   one sentence, no secret in it (callers scrub text that came from outside).
    where:  the host, file, setting or stage concerned; empty when there is none.
    remedy: what the reader can do now; without one, what usually helps against this class of errors.
    detail: longer text such as the tail of a log; already scrubbed.
    """

    exit_code: ClassVar[int] = EXIT_BUG
    usual_remedy: ClassVar[str] = ""

    def __init__(self, what: str, *, where: str = "", remedy: str = "", detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy or self.usual_remedy
        self.detail = detail

    @property
    def kind(self) -> str:
        """The class name, as it stands in JSON output."""
        return type(self).__name__


class Usage(DeployError):
    exit_code = 2
    usual_remedy = "See the --help of the verb."


class Configuration(DeployError):
    exit_code = 3
    usual_remedy = "Correct it, then run this again."


class ReleaseRefused(Configuration):
    exit_code = 3
    usual_remedy = (
        "Have the release mended where it was made, or take another: `--release bundled` comes with this tool."
    )


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
    usual_remedy = "Look on the platform what is in the way, then run this again."


class NotFound(PlatformError):
    exit_code = 15
    usual_remedy = (
        "Somebody may have removed it, such as another administrator who works on this installation: ask, look on the "
        "platform, then run this again."
    )


class Refused(PlatformError):
    exit_code = 16
    usual_remedy = (
        "Run this again. If the answer stays, the platform's administrator can tell from its logs what it means."
    )


class UnexpectedAnswer(PlatformError):
    exit_code = 17
    usual_remedy = (
        "Run this again. If the answer stays, the platform is of another version than this tool knows: report it."
    )


class AnswerLost(PlatformError):
    exit_code = 18


class WriteForbidden(PlatformError):
    exit_code = 19
    usual_remedy = "Run `install` to have it done."


class StageFailed(DeployError):
    """stage: the number of the runbook's step that failed."""

    exit_code = 20
    usual_remedy = (
        "Run this again: it continues at this stage. If it stays, look at the platform what the stage is about."
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
    usual_remedy = "Mend the cause, then run this again: it does only what is left."


class JobFailed(DeployError):
    exit_code = 24
    usual_remedy = "The end of the job's log says why. Mend the cause, then run this again."


class SnapshotDamaged(JobFailed):
    exit_code = 25
    usual_remedy = "Take another snapshot (`backup list` shows them), and find out what happened to this one."


class TargetNotEmpty(JobFailed):
    exit_code = 26
    usual_remedy = "Nothing was changed. `--replace` keeps what is there aside; `restore --undo` brings it back."


class TargetInUse(JobFailed):
    exit_code = 27
    usual_remedy = "Nothing was changed. Stop the server that is named, then run this again."


class RepositoryFailed(JobFailed):
    exit_code = 28
    usual_remedy = "Make room or mend the access, or set another backup.destination, then run this again."


class SchemaMismatch(JobFailed):
    exit_code = 33
    usual_remedy = "Nothing was changed. `upgrade` brings the database to the release's MLflow."


class RolledBack(DeployError):
    exit_code = 29
    usual_remedy = (
        "The server is as it was. Mend the cause, then run this again; `upgrade --rehearse` tries it on a copy."
    )


class RollbackFailed(DeployError):
    exit_code = 31
    usual_remedy = "Mend the cause, then run `upgrade --roll-back`: it goes on going back."


def exit_code_table() -> str:
    """All exit codes as a table in Markdown: codes and names from the classes, meanings from the tree at the top."""
    tree, _, others = (__doc__ or "").partition("Not errors")
    meanings = dict(re.findall(r"^[ |`-]+-- (\w+) +\d+  (.+)$", tree, re.M))
    rows = [
        (thing.exit_code, f"`{name}`", meanings[name])
        for name, thing in globals().items()
        if isinstance(thing, type) and issubclass(thing, DeployError) and thing not in (DeployError, PlatformError)
    ]
    rows += [(int(code), "", " ".join(text.split())) for code, text in re.findall(r"(\d+) ([^,.]+?)(?=[,.]\s)", others)]
    lines = [f"| {code} | {kind} | {meaning} |" for code, kind, meaning in sorted(rows)]
    return "\n".join(["| code | kind | meaning |", "| --- | --- | --- |", *lines])


if __name__ == "__main__":
    print(exit_code_table())
