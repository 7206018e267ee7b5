"""What goes, what stays although it was deleted, and why. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select

from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.gc.locations import SERVER, BadLocationError, Location, own_folder, parse, workspace_of
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.stores import StoredSize
from mlflow_ae5_server.gc.tables import EXPERIMENTS, MODELS, RUNS, TRACE_TAGS, TRACES, VERSIONS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

ARTIFACT_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
_PART = 500  # ids in one query
EXPLAINED = 20  # of each kind


@dataclass(slots=True)
class GcItem:
    """Something that goes. `size` is None where there are no artifacts."""

    kind: str
    id: str
    experiment: int
    uri: str | None
    location: Location | None = None
    size: StoredSize | None = None


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """Something that was deleted long enough ago and stays. `trouble`: not on purpose, somebody should look."""

    kind: str
    id: str
    why: str
    trouble: bool


@dataclass
class GcPlan:
    """`limit`: what was deleted at this time or before is due (milliseconds). `reasons`: why something goes, of the
    first of each kind, by (kind, id)."""

    limit: int
    runs: list[GcItem] = field(default_factory=list)
    logged_models: list[GcItem] = field(default_factory=list)
    experiments: list[GcItem] = field(default_factory=list)
    traces: int = 0
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    skipped: list[SkippedItem] = field(default_factory=list)

    def owners(self) -> Iterator[GcItem]:
        yield from self.runs
        yield from self.logged_models

    def stuck(self, kind: str) -> int:
        """How many of this kind are due and cannot go. What stays on purpose is not due."""
        return sum(skip.trouble for skip in self.skipped if skip.kind == kind)

    def drop(self, skips: list[SkippedItem]) -> None:
        """Leave these runs and models out, and the experiments that would go with them."""
        gone = {(skip.kind, skip.id): skip for skip in skips}
        held: dict[int, SkippedItem] = {}
        for item in self.owners():
            if skip := gone.get((item.kind, item.id)):
                held.setdefault(item.experiment, skip)
        self.runs = [item for item in self.runs if ("run", item.id) not in gone]
        self.logged_models = [item for item in self.logged_models if ("logged model", item.id) not in gone]
        self.skipped += skips
        self.hold({number: (f"its {skip.kind} {skip.id} stays", skip.trouble) for number, skip in held.items()})

    def hold(self, reasons: dict[int, tuple[str, bool]]) -> None:
        """Keep these experiments, as (why, whether that is trouble)."""
        for item in self.experiments:
            if (reason := reasons.get(item.experiment)) is not None:
                self.skipped.append(SkippedItem("experiment", item.id, *reason))
        self.experiments = [item for item in self.experiments if item.experiment not in reasons]


def deleted_runs(limit: int) -> ColumnElement[bool]:
    return and_(RUNS.c.lifecycle_stage == "deleted", RUNS.c.deleted_time <= limit)


def deleted_experiments(limit: int) -> ColumnElement[bool]:
    return and_(EXPERIMENTS.c.lifecycle_stage == "deleted", EXPERIMENTS.c.last_update_time < limit)


def make(connection: Connection, limit: int, registry: Registry, same: Callable[[Location], Location]) -> GcPlan:
    """The same meaning of age as `mlflow gc --older-than` (3.17.2), under stricter guards. same: of canonical()."""
    plan = GcPlan(limit)
    query = select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.artifact_location).where(deleted_experiments(limit))
    plan.experiments = [GcItem("experiment", str(i), int(i), uri) for i, uri in connection.execute(query)]
    plan.hold({number: (why, False) for number, why in _too_young(connection, plan, limit)})
    runs = select(RUNS.c.run_uuid, RUNS.c.experiment_id, RUNS.c.artifact_uri).where(deleted_runs(limit))
    plan.runs = [GcItem("run", i, int(e or 0), uri) for i, e, uri in connection.execute(runs)]
    # Neighbours in the indexes of all tables go together, so that fewer pages of the database are written.
    plan.runs.sort(key=lambda item: item.id)
    plan.logged_models = _due_models(connection, plan, limit)
    if kept := [
        SkippedItem(item.kind, item.id, f"a registered model version needs it: {registry.version(item.id)}", False)
        for item in plan.owners()
        if registry.protects(item.id)
    ]:
        plan.drop(kept)
        # Models that were not deleted themselves were due with their experiments only.
        plan.logged_models = _still_due(connection, plan, limit)
    _locate(connection, plan)
    _nested(connection, plan, same)
    plan.logged_models = _still_due(connection, plan, limit)
    for part in _parts([item.experiment for item in plan.experiments]):
        count = select(func.count()).select_from(TRACES).where(TRACES.c.experiment_id.in_(part))
        plan.traces += connection.execute(count).scalar_one()
    _explain(connection, plan)
    return plan


def _explain(connection: Connection, plan: GcPlan) -> None:
    """Since when it is deleted, what it is called, and where it belongs. Only of those that a person is shown."""
    ids = [item.id for item in plan.runs[:EXPLAINED]]
    runs = select(RUNS.c.run_uuid, RUNS.c.name, RUNS.c.experiment_id, RUNS.c.deleted_time)
    for run, name, experiment, deleted in connection.execute(runs.where(RUNS.c.run_uuid.in_(ids))):
        plan.reasons["run", run] = f"{_named(name)}of experiment {experiment}, deleted {_time(deleted)}"
    numbers = [int(item.id) for item in plan.experiments[:EXPLAINED]]
    experiments = select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.name, EXPERIMENTS.c.last_update_time)
    for number, name, deleted in connection.execute(experiments.where(EXPERIMENTS.c.experiment_id.in_(numbers))):
        plan.reasons["experiment", str(number)] = f"{_named(name)}deleted {_time(deleted)}"
    whole = {item.experiment for item in plan.experiments}
    for item in plan.logged_models[:EXPLAINED]:
        why = "which goes as a whole" if item.experiment in whole else "deleted itself"
        plan.reasons[item.kind, item.id] = f"of experiment {item.experiment}, {why}"


def _named(name: str | None) -> str:
    return f'"{shown(name)}" ' if name else ""


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "at a time that is not known"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _too_young(connection: Connection, plan: GcPlan, limit: int) -> Iterator[tuple[int, str]]:
    """Experiments deleted long enough ago that hold something that was not."""
    questions: tuple[tuple[Any, Any, ColumnElement[bool], str], ...] = (
        (RUNS, RUNS.c.experiment_id, RUNS.c.lifecycle_stage != "deleted", "it holds a run that is not deleted"),
        (
            RUNS,
            RUNS.c.experiment_id,
            or_(RUNS.c.deleted_time.is_(None), RUNS.c.deleted_time > limit),
            "it holds a run that was deleted later",
        ),
        (
            MODELS,
            MODELS.c.experiment_id,
            MODELS.c.last_updated_timestamp_ms > limit,
            "it holds a logged model that changed later",
        ),
        (TRACES, TRACES.c.experiment_id, TRACES.c.timestamp_ms > limit, "it holds a trace of later"),
    )
    for part in _parts([item.experiment for item in plan.experiments]):
        for source, key, young, why in questions:
            for (number,) in connection.execute(select(key).select_from(source).where(key.in_(part), young).distinct()):
                yield int(number), why


def _due_models(connection: Connection, plan: GcPlan, limit: int) -> list[GcItem]:
    """Those deleted long enough ago, and those of experiments that go: MLflow does not mark them, and drops them."""
    columns = (MODELS.c.model_id, MODELS.c.experiment_id, MODELS.c.artifact_location)
    deleted = and_(MODELS.c.lifecycle_stage == "deleted", MODELS.c.last_updated_timestamp_ms <= limit)
    found = {row[0]: row for row in connection.execute(select(*columns).where(deleted))}
    for part in _parts([item.experiment for item in plan.experiments]):
        found |= {row[0]: row for row in connection.execute(select(*columns).where(MODELS.c.experiment_id.in_(part)))}
    return [GcItem("logged model", i, int(e), uri) for i, e, uri in found.values()]


def _still_due(connection: Connection, plan: GcPlan, limit: int) -> list[GcItem]:
    due = {item.id for item in _due_models(connection, plan, limit)}
    return [item for item in plan.logged_models if item.id in due]


def _locate(connection: Connection, plan: GcPlan) -> None:
    query = select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.workspace).where(EXPERIMENTS.c.workspace != "default")
    workspaces = {int(number): workspace for number, workspace in connection.execute(query)}
    bad = []
    for item in plan.owners():
        if not item.uri:
            continue  # it never had artifacts
        try:
            item.location = own_folder(item.uri, item.id)
        except BadLocationError as error:
            bad.append(SkippedItem(item.kind, item.id, str(error), True))
            continue
        workspace = workspaces.get(item.experiment)
        if workspace and item.location.root == SERVER and workspace_of(item.location.path) != workspace:
            why = f"the server keeps what belongs to workspace {workspace} elsewhere than its artifact location says"
            bad.append(SkippedItem(item.kind, item.id, why, True))
    if bad:
        plan.drop(bad)


def _nested(connection: Connection, plan: GcPlan, same: Callable[[Location], Location]) -> None:
    """Leave out what has the artifacts of something else in its folder."""
    folders = {same(item.location): item for item in plan.owners() if item.location is not None}
    if not folders:
        return
    bad: dict[str, SkippedItem] = {}
    for owner, uri in claims(connection):
        try:
            location = same(parse(uri))
        except BadLocationError:
            continue
        for above in location.ancestors():
            item = folders.get(above)
            if item is not None and item.id != owner:
                bad[item.id] = SkippedItem(item.kind, item.id, f"artifacts of {owner} are in its folder", True)
    if bad:
        plan.drop(list(bad.values()))


def claims(connection: Connection) -> Iterator[tuple[str, str]]:
    """(who, location) of every row that says where artifacts are, but for those at the place MLflow gave them.

    A run at `<location of its experiment>/<its id>/artifacts` is inside another run's folder only if its experiment is.
    """
    destination = EXPERIMENTS.c.artifact_location
    for number, uri in connection.execute(
        select(EXPERIMENTS.c.experiment_id, destination).where(destination.is_not(None))
    ):
        yield f"experiment {number}", uri
    owned: tuple[tuple[Any, Any, Any, Any, str], ...] = (
        (RUNS, RUNS.c.run_uuid, RUNS.c.artifact_uri, RUNS.c.experiment_id, "/"),
        (MODELS, MODELS.c.model_id, MODELS.c.artifact_location, MODELS.c.experiment_id, "/models/"),
    )
    for source, key, uri, experiment, between in owned:
        usual = destination.concat(literal(between)).concat(key).concat(literal("/artifacts"))
        query = (
            select(key, uri)
            .select_from(source.outerjoin(EXPERIMENTS, experiment == EXPERIMENTS.c.experiment_id))
            .where(uri.is_not(None), or_(destination.is_(None), uri != usual))
        )
        yield from ((str(row[0]), str(row[1])) for row in connection.execute(query))
    usual = destination.concat(literal("/traces/")).concat(TRACES.c.request_id).concat(literal("/artifacts"))
    query = (
        select(TRACES.c.request_id, TRACE_TAGS.c.value)
        .select_from(
            TRACE_TAGS.join(TRACES, TRACES.c.request_id == TRACE_TAGS.c.request_id).outerjoin(
                EXPERIMENTS, TRACES.c.experiment_id == EXPERIMENTS.c.experiment_id
            )
        )
        .where(
            TRACE_TAGS.c.key.in_(ARTIFACT_TAGS),
            TRACE_TAGS.c.value.is_not(None),
            or_(destination.is_(None), TRACE_TAGS.c.value != usual),
        )
    )
    yield from ((str(row[0]), str(row[1])) for row in connection.execute(query))
    for source, storage in connection.execute(select(VERSIONS.c.source, VERSIONS.c.storage_location)):
        yield from (("a model version", uri) for uri in {source, storage} if uri)


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _PART):
        yield ids[start : start + _PART]
