"""The rows that belong to a run, a logged model, a trace or an experiment.

They follow from the database's own foreign keys.

Rows that refer to the owner are deleted with it where the key has ON DELETE CASCADE, or where their table is a part of
the owner in MLflow's schema, whose older keys have no such clause. All other references stay, and the database then
refuses to delete the owner: better a row too many than a dangling reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    inspect,
    or_,
    select,
    table,
    text,
    union_all,
)

from mlflow_ae5_server.gc import tables
from mlflow_ae5_server.gc.tables import INPUT_TAGS, INPUTS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.sql.expression import TableClause

KEYS = {"runs": "run_uuid", "logged_models": "model_id", "trace_info": "request_id", "experiments": "experiment_id"}
_PARTS = frozenset(
    {
        "tags",
        "params",
        "metrics",
        "latest_metrics",
        "experiment_tags",
        "logged_model_metrics",
        "logged_model_params",
        "logged_model_tags",
        "spans",
        "online_scoring_configs",
    }
)
# They name an experiment without a foreign key, and SQLite reuses ids of experiments.
_BY_EXPERIMENT = (
    "sql_trace_rollup_rebuild_queue",
    "sql_trace_metric_daily_rollups",
    "sql_span_cost_daily_rollups",
    "sql_assessment_daily_rollups",
)
_ASSOCIATED = {"runs": "run", "logged_models": "model", "trace_info": "trace", "experiments": "experiment"}
_WEIGHED = 400  # runs in one query on SQLite
_LIMITED = {
    "sqlite": "DELETE FROM {t} WHERE rowid IN (SELECT rowid FROM {t} WHERE {c} = :id LIMIT {n})",
    "postgresql": "DELETE FROM {t} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {t} WHERE {c} = :id LIMIT {n}))",
    "mysql": "DELETE FROM {t} WHERE {c} = :id LIMIT {n}",
    "mssql": "DELETE TOP ({n}) FROM {t} WHERE {c} = :id",
}


@dataclass(frozen=True)
class Key:
    """One foreign key."""

    table: str
    parent: str
    pairs: tuple[tuple[str, str], ...]  # its column, the column that it refers to
    on_delete: str

    @property
    def owned(self) -> bool:
        return self.on_delete == "CASCADE" or self.table in _PARTS


def _ids(name: str) -> Any:
    return column(name).in_(bindparam("ids", expanding=True))


class Cascade:
    """The DELETE statements for each kind of owner, children first."""

    def __init__(self, engine: Engine) -> None:
        inspector = inspect(engine)
        self._dialect = engine.dialect.name
        self._tables = set(inspector.get_table_names())
        self._keys: dict[str, list[Key]] = {}
        for (_schema, name), keys in inspector.get_multi_foreign_keys().items():
            for item in keys:
                pairs = tuple(zip(item["constrained_columns"], item["referred_columns"], strict=True))
                on_delete = str((item.get("options") or {}).get("ondelete", "")).upper()
                self._keys.setdefault(item["referred_table"], []).append(
                    Key(str(name), item["referred_table"], pairs, on_delete)
                )
        self._filled: set[str] = set()
        self._deletes = {owner: self._statements(owner) for owner in KEYS}
        names = sorted({str(item.table.name) for deletes in self._deletes.values() for item in deletes})
        # SQL Server knows EXISTS in conditions only.
        filled = (case((exists(select(text("1")).select_from(table(name))), 1), else_=0).label(name) for name in names)
        self._contents = select(*filled)

    def find_filled(self, connection: Connection) -> None:
        """Note which tables have rows; `delete` skips the others.

        Expired owners get no new rows, so none can be missed; and the foreign keys would refuse.
        """
        found = connection.execute(self._contents).mappings().one()
        self._filled = {name for name, has_rows in found.items() if has_rows}

    def delete(self, connection: Connection, owner: str, ids: list[Any]) -> int:
        """Delete all that belongs to these owners, then the owners; count the rows."""
        values = {"ids": ids, "texts": [str(item) for item in ids]}
        chosen = [item for item in self._deletes[owner] if str(item.table.name) in self._filled]
        return sum(max(0, connection.execute(item, values).rowcount) for item in chosen)

    def weights(self, connection: Connection, ids: list[str], expired: ColumnElement[bool]) -> dict[str, int]:
        """Rows that belong to each of these runs, which have `expired`; none where there are none.

        On SQLite several queries, because each keeps writers out; elsewhere one, because each may read whole tables.
        """
        run = tables.RUNS.c.run_uuid
        conditions = [expired]
        if self._dialect == "sqlite":
            conditions = [run.in_(ids[start : start + _WEIGHED]) for start in range(0, len(ids), _WEIGHED)]
        weights: dict[str, int] = {}
        for condition in conditions:
            chosen = select(run).where(condition)
            counts: list[Any] = [
                select(column(key).label("run"), func.count().label("rows")).select_from(table(name))
                .where(column(key).in_(chosen)).group_by(column(key))
                for name, key in self.parts_of_runs()
            ]  # fmt: skip
            parts = union_all(*counts).subquery()
            query = select(parts.c.run, func.sum(parts.c.rows)).group_by(parts.c.run)
            weights |= {owner: int(rows) for owner, rows in connection.execute(query).all()}
        return weights

    def parts_of_runs(self) -> list[tuple[str, str]]:
        """Tables that hold parts of runs by the thousand, with their column for the run."""
        return [
            (key.table, key.pairs[0][0])
            for key in self._keys.get("runs", [])
            if key.owned and key.table != "logged_model_metrics"
        ]

    def delete_part(self, connection: Connection, name: str, key: str, run: str, rows: int) -> int:
        """Delete at most `rows` of one run's rows in one table."""
        statement = _LIMITED[self._dialect].format(t=name, c=key, n=rows)
        return connection.execute(text(statement), {"id": run}).rowcount

    # statements ------------------------------------------------------------------------------------------------------

    def _statements(self, owner: str) -> list[Any]:
        key = KEYS[owner]
        found = [delete(item).where(clause) for item, clause in self._below(owner, _ids(key), key, (owner,))]
        found += self._links(owner)
        if owner == "experiments":
            found += [delete(table(name)).where(_ids(key)) for name in _BY_EXPERIMENT if name in self._tables]
        return [*found, delete(table(owner)).where(_ids(key))]

    def _below(
        self, parent: str, clause: ColumnElement[bool], id_column: str, path: tuple[str, ...]
    ) -> Iterator[tuple[TableClause, ColumnElement[bool]]]:
        """(table, its dependent rows) for `clause` of `parent`, the deepest first.

        id_column: the column of `parent` that has the owners' ids, if any.
        """
        for key in self._keys.get(parent, []):
            if not key.owned or key.table in path or key.table in KEYS:
                continue
            child = table(key.table, *(column(name) for name, _ in key.pairs))
            above = table(parent, *(column(name) for _, name in key.pairs))
            direct = next((name for name, referred in key.pairs if referred == id_column), "")
            if direct:
                rows: ColumnElement[bool] = _ids(direct)
            elif len(key.pairs) == 1:
                (name, referred) = key.pairs[0]
                rows = child.c[name].in_(select(above.c[referred]).where(clause))
            else:
                rows = exists().where(and_(*(child.c[a] == above.c[b] for a, b in key.pairs)), clause)
            yield from self._below(key.table, rows, direct, (*path, key.table))
            yield child, rows

    def _links(self, owner: str) -> list[Any]:
        """Rows that name the owners without foreign keys."""
        found: list[Any] = []
        ids: Any = bindparam("ids", expanding=True)
        sides = {
            "runs": (("source", ("RUN", "RUN_INPUT", "RUN_OUTPUT")), ("destination", ("RUN",))),
            "logged_models": (("source", ("MODEL",)), ("destination", ("MODEL_INPUT", "MODEL_OUTPUT", "MODEL"))),
        }
        for side, types in sides.get(owner, ()):
            chosen = and_(INPUTS.c[f"{side}_type"].in_(types), INPUTS.c[f"{side}_id"].in_(ids))
            uuids = select(INPUTS.c.input_uuid).where(chosen)
            found += [delete(INPUT_TAGS).where(INPUT_TAGS.c.input_uuid.in_(uuids)), delete(INPUTS).where(chosen)]
        if "entity_associations" in self._tables:
            names = (f"{side}_{part}" for side in ("source", "destination") for part in ("type", "id"))
            links = table("entity_associations", *(column(name) for name in names))
            texts = bindparam("texts", expanding=True) if owner == "experiments" else ids
            for side in ("source", "destination"):
                found.append(
                    delete(links).where(links.c[f"{side}_type"] == _ASSOCIATED[owner], links.c[f"{side}_id"].in_(texts))
                )
        return found


def unused_inputs() -> tuple[Any, Any]:
    """DELETE statements for inputs of deleted runs, and for their tags."""
    runs = tables.RUNS
    orphaned = or_(
        and_(INPUTS.c.destination_type == "RUN", ~exists().where(runs.c.run_uuid == INPUTS.c.destination_id)),
        and_(
            INPUTS.c.source_type.in_(("RUN_INPUT", "RUN_OUTPUT")),
            ~exists().where(runs.c.run_uuid == INPUTS.c.source_id),
        ),
    )
    uuids = select(INPUTS.c.input_uuid).where(orphaned)
    return delete(INPUT_TAGS).where(INPUT_TAGS.c.input_uuid.in_(uuids)), delete(INPUTS).where(orphaned)


def unused_datasets() -> tuple[Any, Any]:
    """(SELECT count, DELETE) of the datasets that no input and no metric refers to."""

    datasets, metrics = tables.DATASETS, tables.MODEL_METRICS
    unused = and_(
        ~exists().where(INPUTS.c.source_type == "DATASET", INPUTS.c.source_id == datasets.c.dataset_uuid),
        ~exists().where(metrics.c.dataset_uuid == datasets.c.dataset_uuid),
    )
    return select(func.count()).select_from(datasets).where(unused), delete(datasets).where(unused)
