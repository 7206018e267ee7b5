"""What is known of an upgrade that was begun from this machine and has not ended, and what must wait for its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.common.errors import Locked, StageFailed
from mlflow_ae5_deploy.engine.context import Context, RestoreRequest

if TYPE_CHECKING:
    from mlflow_ae5_deploy.jobs.tasks import JobRequest

STOPPING, STARTING = "stopping", "starting"  # the first and the last phase of its record
_MUST_WAIT = {
    "create": "a snapshot made now could hold data that is half migrated",
    "prune": "the snapshot that it would go back to must stay",
}


@dataclass(frozen=True)
class InterruptedUpgrade:
    """desired: the release it was on the way to. touched: the database is, or may be, half migrated. rolling_back: that
    was begun, so it cannot be finished any more."""

    desired: str
    touched: bool
    rolling_back: bool

    @property
    def message(self) -> str:
        if self.rolling_back:
            return f"An upgrade to {self.desired} failed, and going back from it has not ended"
        return f"An upgrade to {self.desired} was cut off and has not ended"

    @property
    def remedy(self) -> str:
        return f"Nothing was changed. {self._ways_out}"

    @property
    def warning(self) -> str:
        """Where a server may run meanwhile."""
        return f"{self.message}; it has left the database as it was. {self._ways_out}"

    @property
    def _ways_out(self) -> str:
        back = "`upgrade --roll-back`, which takes it back"
        if self.rolling_back:
            return f"Run {back}."
        return f"Run the same `upgrade --release ...` again, which finishes it, or {back}."


def interrupted_upgrade(context: Context) -> InterruptedUpgrade | None:
    known = context.state.pending_upgrade()
    if known is None:
        return None
    touched = bool(known.get("touched")) and not known.get("restored")
    return InterruptedUpgrade(str(known.get("desired") or "another release"), touched, bool(known.get("trouble")))


def refuse_to_serve(half: InterruptedUpgrade | None, desired: RestoreRequest | None, stage: int) -> None:
    """Raises StageFailed where a server would be started on what is perhaps half migrated. A snapshot that is restored
    takes the place of that; what an undo brings back may be the very thing."""
    if half is None or not half.touched or (desired is not None and not desired.undo):
        return
    raise StageFailed(
        f"{half.message}: the database is, or may be, half migrated, so no server is started on it.",
        stage=stage,
        remedy=half.remedy,
    )


def refuse_meanwhile(context: Context, task: JobRequest) -> None:
    """Raises Locked for a backup, and for a pruning of snapshots, also one that would only be shown."""
    half = interrupted_upgrade(context)
    reason = _MUST_WAIT.get(task.words[0]) if task.command == "Backup" and task.words else None
    if half is not None and reason is not None:
        raise Locked(f"{half.message}: {reason}.", where=f"project {context.settings.project.name}", remedy=half.remedy)


def served(context: Context) -> None:
    """A server is up. Where an upgrade that has not touched the database waits to be finished, what it has saved after
    its stop is not the last any more: it begins again with the stop."""
    known = context.state.pending_upgrade()
    if known and not known.get("touched") and not known.get("trouble") and known.get("phase") != STARTING:
        context.state.note_upgrade({**known, "phase": STOPPING, "snapshot": None})


def ended_by_restore(context: Context) -> None:
    """Database and artifacts are those of a snapshot that somebody chose: nothing of it is half migrated."""
    half = interrupted_upgrade(context)
    if half is not None:
        context.state.note_upgrade(None)
        context.journal.effect("end", f"the upgrade to {half.desired} that was cut off")
