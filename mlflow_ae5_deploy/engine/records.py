"""The parts of an installation's state, as frozen records; see `state.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AwareDatetime, PlainSerializer

from mlflow_ae5_deploy.common.redaction import Secret, scrub

UpgradePhase = Literal["stopping", "saving", "replacing", "migrating", "starting"]
PHASES: tuple[UpgradePhase, ...] = ("stopping", "saving", "replacing", "migrating", "starting")


@dataclass(frozen=True)
class StoredSecret:
    """A secret that this machine has written; see `SavedState.fingerprint`."""

    fingerprint: str
    stored: AwareDatetime
    shown: str = ""  # what may be shown of the value


def shown_value(name: str, value: Secret) -> str:
    """What may be shown of the value of this secret, on one line; empty if it is confidential."""
    text = f"{name}={value.shown}"
    return value.shown if value.shown.isprintable() and scrub(text) == text else ""


@dataclass(frozen=True)
class StoredToken:
    """The token in one account's secret, or in a file."""

    account: str  # or the path of the file
    deployment_id: str
    stored: AwareDatetime
    expires: AwareDatetime | None  # None where the token does not say
    issued: AwareDatetime  # its age counts from then
    fingerprint: str = ""  # of its digest, which jobs report; a file can be read again


@dataclass(frozen=True)
class InterruptedRotation:
    """A rotation that has not ended."""

    deployment_id: str
    remaining: tuple[str, ...]  # accounts that have no new token yet; empty when only the test of the gc job is left
    invalid_since: AwareDatetime | None  # when the previous token stopped working, if that was observed
    gc_tested: bool = False  # also where the job cannot be tested with this release


@dataclass(frozen=True)
class PendingJobChange:
    """A scheduled job that is being recreated."""

    paused: bool  # the new one is to be paused, as the previous one was
    jobs: tuple[str, ...]  # ids of those being deleted: this tool pauses them first, so their pause says nothing


def _without_credentials(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    return {
        name: value if value is not None and scrub(f"{name}={value}") == f"{name}={value}" else None
        for name, value in variables.items()
    }


@dataclass(frozen=True)
class DeploymentSpec:
    name: str
    endpoint: str
    command: str
    resource_profile: str
    revision: str


@dataclass(frozen=True)
class DeploymentDefinition:
    """What it takes to start a deployment again."""

    spec: DeploymentSpec
    # None on disk for a value that looks like a credential
    variables: Annotated[Mapping[str, str | None], PlainSerializer(_without_credentials)]
    shared: tuple[tuple[str, str, str], ...]  # (type, id, permission) of each collaborator

    @property
    def lost_variables(self) -> list[str]:
        """Names of the variables whose values were not saved."""
        return sorted(name for name, value in self.variables.items() if value is None)

    @property
    def saved_variables(self) -> dict[str, str]:
        return {name: value for name, value in self.variables.items() if value is not None}


@dataclass(frozen=True)
class PendingRestart:
    """A restart that has started."""

    deployment_id: str  # of the deployment that is stopped
    since: AwareDatetime  # when its token became invalid
    definition: DeploymentDefinition


@dataclass(frozen=True)
class RestoreRecord:
    """The last restore that was started from this machine."""

    requested: str | None  # snapshot, or the options of an undo; None where another machine started it
    project_id: str
    when: AwareDatetime
    status: Literal["started", "done"] = "started"
    snapshot: str | None = None
    saved_copy: str = ""  # where the data that was there is saved
    verified: bool = False  # the whole run came to its end
    message: str = ""  # what a job has reported of the data
    options: str = ""  # of `restore`, to run it again

    @property
    def was_undo(self) -> bool:
        return (self.requested or "").startswith("--undo")


@dataclass(frozen=True)
class ScheduledJobRecord:
    """A scheduled job that the configuration does not have. Nothing in it is confidential."""

    name: str
    command: str
    schedule: str
    variables: Mapping[str, str]
    purpose: str  # see JobSpec
    deleted_with: str = ""  # id of the project that it is deleted with, until it was created again


@dataclass(frozen=True)
class UpgradeRecord:
    """An upgrade that has not ended: enough to resume it, and enough to roll it back."""

    digest: str  # of the new release's content
    release: str  # the new one, in words
    previous_release: str
    project_id: str  # of the previous project
    archive: str  # file with the content of the previous project
    phase: UpgradePhase  # has started; it may not have ended
    started: AwareDatetime
    definition: DeploymentDefinition | None = None  # of the server; None if none ran
    stopped: AwareDatetime | None = None  # when it was, for this upgrade
    snapshot: str | None = None  # made after the stop
    schema_touched: bool = False  # the schema may have been changed
    failure: str = ""  # why it is rolled back, once that has started
    restored: bool = False  # the data has been rolled back
    restored_project: str | None = None  # new id of the previous project, once it has been rolled back
    saved_copy: str = ""  # where the restore has moved the data that was there
    jobs_missing: str = ""  # why the scheduled jobs could not be created again
    options: str = ""  # of `upgrade`, to run it again; empty where they hold a credential

    def reached(self, phase: UpgradePhase) -> bool:
        return PHASES.index(self.phase) >= PHASES.index(phase)


@dataclass(frozen=True)
class PendingOperation:
    """An upgrade or a restore that is unfinished on this machine."""

    verb: Literal["upgrade", "restore"]
    options: str  # of the verb, to end it


@dataclass(frozen=True)
class Sample:
    """A check that read a part of a snapshot."""

    at: AwareDatetime
    checked: int | None
    of: int | None


@dataclass(frozen=True)
class SnapshotRecord:
    """The newest snapshot that is known here."""

    id: str
    finished: AwareDatetime
    verified: AwareDatetime | None = None  # when all of it was read back
    damaged: bool = False
    complete: bool = True
    sampled: Sample | None = None  # the last check, where that read a part
    gone: str = ""  # a sentence where many artifacts of the snapshot before are not in it
    protected: AwareDatetime | None = (
        None  # when the newest snapshot with the whole store was started: this or an earlier one
    )
    runs: int | None = None


@dataclass(frozen=True)
class RepositoryRecord:
    """The backup repository of this installation, and the one seen last."""

    setting: str  # fingerprint of its address
    id: str
    snapshots: int | None
    seen: str
    when: AwareDatetime


@dataclass(frozen=True)
class Outcome:
    """How the last backup, check, drill, prune or search for the repository ended."""

    of: str  # see jobs/latest_outcomes.py
    when: AwareDatetime
    passed: bool
    message: str = ""  # the job's own words, where it failed
    hint: str = ""
    snapshot: str = ""  # the one it was about; empty where that was not reported
    newest: bool = True  # that one is the newest, as far as is known here
    ran: bool = True  # it came to a result; a check that did not says nothing of the snapshot
    reported: bool = True  # False for a run that finished without a report
