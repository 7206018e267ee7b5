"""The plan: which expired items are deleted, which are skipped, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select

from mlflow_ae5_server.common.text import shown
from mlflow_ae5_server.gc.locations import SERVER, BadLocationError, Location, artifact_folder, parse, workspace_of
from mlflow_ae5_server.gc.registry import Registry
from mlflow_ae5_server.gc.stores import StoredSize
from mlflow_ae5_server.gc.tables import EXPERIMENTS, MODELS, RUNS, TRACE_TAGS, TRACES, VERSIONS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

ARTIFACT_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
_BATCH = 500  # ids in one query
EXPLAINED = 20  # items of each kind that are printed with a reason


@dataclass(slots=True)
class GcItem:
    """An expired item to delete."""

    kind: str
    id: str
    experiment: int
    uri: str | None
    location: Location | None = None
    size: StoredSize | None = None  # None where there are no artifacts


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An expired item that is skipped."""

    kind: str
    id: str
    why: str
    failed: bool  # not on purpose: an administrator should see to it


@dataclass
class GcPlan:
    """What a collection removes, and what it skips."""

    limit: int  # milliseconds. As in MLflow: runs and models deleted until then have expired, experiments before it
    runs: list[GcItem] = field(default_factory=list)
    logged_models: list[GcItem] = field(default_factory=list)
    experiments: list[GcItem] = field(default_factory=list)
    traces: int = 0
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)  # by (kind, id), for those that are printed
    skipped: list[SkippedItem] = field(default_factory=list)

    def owners(self) -> Iterator[GcItem]:
        yield from self.runs
        yield from self.logged_models

    def failed(self, kind: str) -> int:
        """How many expired items of this kind cannot be deleted."""
        return sum(skip.failed for skip in self.skipped if skip.kind == kind)

    def skip(self, skips: list[SkippedItem]) -> None:
        """Leave these runs and models out, and the experiments that they are in."""
        by_item = {(skip.kind, skip.id): skip for skip in skips}
        experiments: dict[int, SkippedItem] = {}
        for item in self.owners():
            if skip := by_item.get((item.kind, item.id)):
                experiments.setdefault(item.experiment, skip)
        self.runs = [item for item in self.runs if ("run", item.id) not in by_item]
        self.logged_models = [item for item in self.logged_models if ("logged model", item.id) not in by_item]
        self.skipped += skips
        self.skip_experiments({n: (f"its {skip.kind} {skip.id} stays", skip.failed) for n, skip in experiments.items()})

    def skip_experiments(self, reasons: dict[int, tuple[str, bool]]) -> None:
        """Leave these experiments out: number -> (why, failed)."""
        for item in self.experiments:
            if (reason := reasons.get(item.experiment)) is not None:
                self.skipped.append(SkippedItem("experiment", item.id, *reason))
        self.experiments = [item for item in self.experiments if item.experiment not in reasons]


def deleted_runs(limit: int) -> ColumnElement[bool]:
    return and_(RUNS.c.lifecycle_stage == "deleted", RUNS.c.deleted_time <= limit)


def deleted_experiments(limit: int) -> ColumnElement[bool]:
    return and_(EXPERIMENTS.c.lifecycle_stage == "deleted", EXPERIMENTS.c.last_update_time < limit)


def make_plan(
    connection: Connection, limit: int, registry: Registry, canonical: Callable[[Location], Location]
) -> GcPlan:
    """Plan a collection.

    Age has the same meaning as in `mlflow gc --older-than` (3.17.2); the guards are stricter.
    """
    plan = GcPlan(limit)
    query = select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.artifact_location).where(deleted_experiments(limit))
    plan.experiments = [GcItem("experiment", str(i), int(i), uri) for i, uri in connection.execute(query)]
    plan.skip_experiments({number: (why, False) for number, why in _with_unexpired_content(connection, plan, limit)})
    runs = select(RUNS.c.run_uuid, RUNS.c.experiment_id, RUNS.c.artifact_uri).where(deleted_runs(limit))
    plan.runs = [GcItem("run", i, int(e or 0), uri) for i, e, uri in connection.execute(runs)]
    # Neighbours in the indexes of all tables go together, so that fewer pages of the database are written.
    plan.runs.sort(key=lambda item: item.id)
    plan.logged_models = _expired_models(connection, plan, limit)
    if protected := [
        SkippedItem(item.kind, item.id, f"a registered model version needs it: {registry.version(item.id)}", False)
        for item in plan.owners()
        if registry.protects(item.id)
    ]:
        plan.skip(protected)
        _drop_models_of_skipped_experiments(connection, plan, limit)
    _locate(connection, plan)
    _skip_with_nested_artifacts(connection, plan, canonical)
    _drop_models_of_skipped_experiments(connection, plan, limit)
    for part in _batches([item.experiment for item in plan.experiments]):
        count = select(func.count()).select_from(TRACES).where(TRACES.c.experiment_id.in_(part))
        plan.traces += connection.execute(count).scalar_one()
    _explain(connection, plan)
    return plan


def _explain(connection: Connection, plan: GcPlan) -> None:
    """Add reasons (name, experiment, time of deletion) for the items that are printed."""
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
        return "at an unknown time"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _with_unexpired_content(connection: Connection, plan: GcPlan, limit: int) -> Iterator[tuple[int, str]]:
    """Expired experiments that hold something that has not expired."""
    guards: tuple[tuple[Any, Any, ColumnElement[bool], str], ...] = (
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
        (TRACES, TRACES.c.experiment_id, TRACES.c.timestamp_ms > limit, "it holds a later trace"),
    )
    for part in _batches([item.experiment for item in plan.experiments]):
        for source, key, young, why in guards:
            for (number,) in connection.execute(select(key).select_from(source).where(key.in_(part), young).distinct()):
                yield int(number), why


def _expired_models(connection: Connection, plan: GcPlan, limit: int) -> list[GcItem]:
    """Expired models, and all models of expired experiments.

    MLflow does not mark the models of a deleted experiment as deleted; it removes them with it.
    """
    columns = (MODELS.c.model_id, MODELS.c.experiment_id, MODELS.c.artifact_location)
    deleted = and_(MODELS.c.lifecycle_stage == "deleted", MODELS.c.last_updated_timestamp_ms <= limit)
    rows = {row[0]: row for row in connection.execute(select(*columns).where(deleted))}
    for part in _batches([item.experiment for item in plan.experiments]):
        rows |= {row[0]: row for row in connection.execute(select(*columns).where(MODELS.c.experiment_id.in_(part)))}
    return [GcItem("logged model", i, int(e), uri) for i, e, uri in rows.values()]


def _drop_models_of_skipped_experiments(connection: Connection, plan: GcPlan, limit: int) -> None:
    """Models that were not deleted themselves are deleted with their experiments only."""
    expired = {item.id for item in _expired_models(connection, plan, limit)}
    plan.logged_models = [item for item in plan.logged_models if item.id in expired]


def _locate(connection: Connection, plan: GcPlan) -> None:
    """Set the locations of all items; skip items whose location is not a folder of their own."""
    query = select(EXPERIMENTS.c.experiment_id, EXPERIMENTS.c.workspace).where(EXPERIMENTS.c.workspace != "default")
    workspaces = {int(number): workspace for number, workspace in connection.execute(query)}
    bad = []
    for item in plan.owners():
        if not item.uri:
            continue  # it never had artifacts
        try:
            item.location = artifact_folder(item.uri, item.id)
        except BadLocationError as error:
            bad.append(SkippedItem(item.kind, item.id, str(error), True))
            continue
        workspace = workspaces.get(item.experiment)
        if workspace and item.location.root == SERVER and workspace_of(item.location.path) != workspace:
            why = f"its artifact location is not in workspace {workspace}, where the server keeps its artifacts"
            bad.append(SkippedItem(item.kind, item.id, why, True))
    plan.skip(bad)


def _skip_with_nested_artifacts(
    connection: Connection, plan: GcPlan, canonical: Callable[[Location], Location]
) -> None:
    """Skip items whose folder holds the artifacts of something else."""
    folders = {canonical(item.location): item for item in plan.owners() if item.location is not None}
    if not folders:
        return
    bad: dict[str, SkippedItem] = {}
    for owner, uri in unusual_locations(connection):
        try:
            location = canonical(parse(uri))
        except BadLocationError:
            continue
        for above in location.ancestors():
            item = folders.get(above)
            if item is not None and item.id != owner:
                bad[item.id] = SkippedItem(item.kind, item.id, f"artifacts of {owner} are in its folder", True)
    plan.skip(list(bad.values()))


def unusual_locations(connection: Connection) -> Iterator[tuple[str, str]]:
    """(owner, location) of every row whose location MLflow did not choose.

    A run at `<location of its experiment>/<its id>/artifacts` is inside another run's folder only if its experiment is.
    """
    top = EXPERIMENTS.c.artifact_location
    for number, uri in connection.execute(select(EXPERIMENTS.c.experiment_id, top).where(top.is_not(None))):
        yield f"experiment {number}", uri
    owned: tuple[tuple[Any, Any, Any, Any, str], ...] = (
        (RUNS, RUNS.c.run_uuid, RUNS.c.artifact_uri, RUNS.c.experiment_id, "/"),
        (MODELS, MODELS.c.model_id, MODELS.c.artifact_location, MODELS.c.experiment_id, "/models/"),
    )
    for source, key, uri, experiment, between in owned:
        usual = top.concat(literal(between)).concat(key).concat(literal("/artifacts"))
        query = (
            select(key, uri)
            .select_from(source.outerjoin(EXPERIMENTS, experiment == EXPERIMENTS.c.experiment_id))
            .where(uri.is_not(None), or_(top.is_(None), uri != usual))
        )
        yield from ((str(row[0]), str(row[1])) for row in connection.execute(query))
    usual = top.concat(literal("/traces/")).concat(TRACES.c.request_id).concat(literal("/artifacts"))
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
            or_(top.is_(None), TRACE_TAGS.c.value != usual),
        )
    )
    yield from ((str(row[0]), str(row[1])) for row in connection.execute(query))
    for source, storage in connection.execute(select(VERSIONS.c.source, VERSIONS.c.storage_location)):
        yield from (("a model version", uri) for uri in {source, storage} if uri)


def _batches(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
