"""What is noted on disk before each step of an upgrade: enough to go on, and enough to go back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration, Conflict
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations import restart
from mlflow_ae5_deploy.operations.restart import DeploymentDefinition
from mlflow_ae5_deploy.resources.interrupted_upgrade import STARTING, STOPPING

# In this order. What a phase is called after has begun; it may not have ended.
SAVING, REPLACING, MIGRATING = "saving", "replacing", "migrating"
PHASES = (STOPPING, SAVING, REPLACING, MIGRATING, STARTING)


@dataclass(frozen=True, kw_only=True)
class UpgradeProject(Change):
    verb, resource = "upgrade", "project"
    consequences: tuple[Consequence, ...] = (
        Consequence(Impact.DOWNTIME, "the server is down from the stop until the new one has been started"),
        Consequence(
            Impact.TOKENS,
            "the deployment gets a new id: every token issued so far is invalidated; the new one is stored for the "
            "account and its consumers",
        ),
        Consequence(
            Impact.DATA,
            "a snapshot is made and read back first; if anything fails, everything is rolled back to it",
        ),
        Consequence(Impact.DATA, "what clients write after the new server has started is lost if `verify` then fails"),
    )


class RollBackUpgrade(Change):
    """name: of the previous release. id: of the project that is brought back."""

    verb, resource = "roll back", "to"

    @property
    def target(self) -> str:
        return f"{self.resource} {self.name}"


@dataclass(frozen=True)
class UpgradeState:
    """target: content digest of the new release, in words `wanted`. definition: of the server; None if none ran.

    archive: file with the former project's content; old_project: its id there. jobs: (name, command, cron, whether
    paused) of its scheduled backup and drill. snapshot: made after the stop. touched: the schema may have been changed.
    trouble: why it goes back, once that has begun. restored, returned: how far that has come: the data, the project
    (its new id). saved_copy: the name under which the restore has kept what was there.
    """

    target: str
    desired: str
    previous: str
    old_project: str
    archive: str
    phase: str
    began: str
    definition: DeploymentDefinition | None = None
    jobs: tuple[tuple[str, str, str, bool], ...] = ()
    snapshot: str | None = None
    touched: bool = False
    trouble: str = ""
    restored: bool = False
    returned: str | None = None
    saved_copy: str = ""

    def at_least(self, phase: str) -> bool:
        return PHASES.index(self.phase) >= PHASES.index(phase)


def note(context: Context, record: UpgradeState, **changes: Any) -> UpgradeState:
    """On disk before the step that it is about."""
    changed = replace(record, **changes)
    context.state.note_upgrade(to_json(changed))
    return changed


def pending(context: Context) -> UpgradeState | None:
    known = context.state.pending_upgrade()
    if known is None:
        return None
    try:
        return from_json(known)
    except (KeyError, TypeError, ValueError):
        raise Configuration(
            "An upgrade was cut off, and what was noted of it cannot be read.",
            where=str(context.folder / "state.json"),
            remedy="The former project's archive is in the folder `replaced` beside it: `install --release <archive>`.",
        ) from None


def require_forward(context: Context, record: UpgradeState) -> None:
    """Raises Conflict where it is on the way back: data half migrated must not be migrated further."""
    if record.trouble:
        raise Conflict(
            f"An upgrade to {record.desired} failed, and going back from it has not ended: {record.trouble}",
            where=str(context.folder),
            remedy="Run `upgrade --roll-back`, which goes on going back; then upgrade anew.",
        )


def to_json(record: UpgradeState) -> dict[str, Any]:
    plain = {key: value for key, value in vars(record).items() if key != "definition"}
    plain["jobs"] = [list(job) for job in record.jobs]
    definition = record.definition
    if definition is not None:
        # The same form, without what looks like a credential, as a restart leaves behind.
        since = datetime.fromisoformat(record.began)
        plain["definition"] = restart.to_record(restart.PendingRestart("", since, definition))
    return plain


def from_json(data: Mapping[str, Any]) -> UpgradeState:
    fields = dict(data)
    known = fields.pop("definition", None)
    fields["jobs"] = tuple((name, command, cron, paused) for name, command, cron, paused in fields["jobs"])
    record = UpgradeState(**fields, definition=restart.from_record(known).definition if known else None)
    PHASES.index(record.phase)
    return record
