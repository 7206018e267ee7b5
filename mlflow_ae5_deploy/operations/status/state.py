"""The state of an installation as `status` and `doctor` observe it: only what was seen, and why the rest was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mlflow_ae5_deploy.ae5.models import Deployment, Project
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.engine.records import StoredToken
from mlflow_ae5_deploy.operations.missed import Missed
from mlflow_ae5_deploy.operations.status.backups import BackupStatus
from mlflow_ae5_deploy.release.provenance import BuildRecord
from mlflow_ae5_deploy.resources.interrupted import InterruptedRestore


@dataclass(frozen=True)
class LastRun:
    """A run of the garbage collection."""

    id: str
    state: str
    began: datetime | None
    outcome: str
    """Of the job's own report, see `jobs/result.py`; empty while it runs."""
    passed: bool | None
    """None while it runs, and where the result is not known."""
    message: str
    own_token: bool | None = None
    """It used the token that this machine has stored; None where that is not known."""


@dataclass(frozen=True)
class GcStatus:
    """The garbage collection: its job and the runs of it."""

    jobs: int
    """How many there are; there must be one."""
    name: str = ""
    schedule: str = ""
    words: str = ""
    paused: bool = False
    next: datetime | None = None
    last: LastRun | None = None
    running: LastRun | None = None
    missed: Missed | None = None
    """A run was due and none started."""
    started_here: datetime | None = None
    """When this machine last started a run, by its journal; set only if the platform has no record of a run."""
    renewed: datetime | None = None
    """When the present token was stored, or the job last tested with it. A failure before that says nothing now."""

    @property
    def outdated(self) -> bool:
        """The last run failed before the token was renewed."""
        last, renewed = self.last, self.renewed
        if last is None or last.passed is not False or last.began is None or renewed is None:
            return False
        return last.began < renewed


@dataclass(frozen=True)
class TokenStatus:
    """The secret with the token, and what this machine has stored in it."""

    listed: bool
    """The secret exists."""
    stored: tuple[StoredToken, ...] = ()
    """One for each account that got a token from this machine."""
    previous: tuple[StoredToken, ...] = ()
    """For accounts without a current token: the one stored before the deployment changed."""
    rewritten: tuple[str, ...] = ()
    """Files with another token than this machine wrote."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Files that this machine wrote and that hold no token now, with the reason."""


@dataclass(frozen=True)
class UnfinishedOperation:
    """Unfinished work of an earlier run; of this machine, unless the field says otherwise."""

    restart_since: datetime | None = None
    accounts_remaining: tuple[str, ...] = ()
    """They have not yet got the new token of a rotation."""
    gc_untested: bool = False
    """The garbage collection job has not been tested with the new token of a rotation."""
    running: str = ""
    """The run that holds the lock now, as a phrase; empty if none does."""
    verb: str = ""
    """That run's, if it is known."""
    install_since: datetime | None = None
    """When the last `install` was interrupted."""
    interrupted: str = ""
    """A sentence about an upgrade or restore that was interrupted on another machine."""
    interrupted_verb: str = ""
    interrupted_remedy: str = ""


@dataclass(frozen=True)
class InstallationState:
    """What was observed of an installation."""

    project: Project | None
    deployment: Deployment | None
    duplicates: tuple[Deployment, ...]
    """Other deployments on the same data."""
    rival: Deployment | None
    """A deployment of another project that uses the endpoint."""
    health: Health | None
    """None where no server runs."""
    newest_revision: str
    build: BuildRecord | None
    build_unknown: str
    """Why `build` is not known; the same for the version."""
    version: str | None
    version_unknown: str
    token: TokenStatus
    gc: GcStatus
    secrets: frozenset[str]
    desired_secrets: tuple[str, ...]
    new_secrets: tuple[str, ...]
    """Of those, by the record of this machine: they were never set, so `install` sets them first."""
    shared: tuple[tuple[str, str], ...]
    desired_shared: tuple[tuple[str, str], ...]
    backups: BackupStatus = field(default_factory=BackupStatus)
    interrupted_upgrade: str = ""
    """The release of an interrupted upgrade."""
    upgrade_ways_out: str = ""
    """The remedy for that."""
    rollback_failed: str = ""
    """Why that upgrade failed, where its rollback was started."""
    interrupted_restore: InterruptedRestore | None = None
    unfinished: UnfinishedOperation = UnfinishedOperation()
    account_exists: bool = True

    @property
    def installed(self) -> bool:
        """There is a project, or an upgrade has not ended."""
        return self.project is not None or bool(self.interrupted_upgrade)

    @property
    def missing_secrets(self) -> list[str]:
        return [name for name in self.desired_secrets if name not in {*self.secrets, *self.new_secrets}]
