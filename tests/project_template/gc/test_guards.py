"""What goes and what stays, as a decision table: every case in one database, collected once, on both databases."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.gc.conftest import LONG_AGO, ROOT, Data
from tests.project_template.mariadb import with_mysql

YOUNG = int(time.time() * 1000) - 86_400_000  # a day ago, with a time to live of 30

# An entry makes its case and returns {label: (table, id)} of what is looked at afterwards.
Owners = dict[str, tuple[str, Any]]
GOES, STAYS, SKIPPED = "goes", "stays", "skipped"


def run(**how: Any) -> Callable[[Data], Owners]:
    """A run, with the artifact folder for ARTIFACTS in its uri."""

    def make(data: Data) -> Owners:
        uri = {"uri": how["uri"].replace("ARTIFACTS", str(data.artifacts))} if "uri" in how else {}
        return {"run": ("runs", data.run(**how | uri))}

    return make


def model(**how: Any) -> Callable[[Data], Owners]:
    def make(data: Data) -> Owners:
        source = data.run(deleted=None)
        return {"model": ("logged_models", data.model(run=source, **how)), "its run": ("runs", source)}

    return make


def registered(**how: str) -> Callable[[Data], Owners]:
    def make(data: Data) -> Owners:
        run = data.run()
        data.version(**{key: value.replace("RUN", run) for key, value in how.items()})
        return {"run": ("runs", run)}

    return make


def registered_model(data: Data) -> Owners:
    run = data.run()
    model = data.model(run=run)
    data.version(source=f"models:/{model}")
    return {"model": ("logged_models", model), "its run": ("runs", run)}


def expired(run: int | None = LONG_AGO, **more: Any) -> Callable[[Data], Owners]:
    """An experiment deleted long ago, with a run, a model that nobody deleted, and a trace."""

    def make(data: Data) -> Owners:
        number = data.experiment(deleted=more.get("at", LONG_AGO))
        return {
            "experiment": ("experiments", number),
            "run": ("runs", data.run(number, deleted=run)),
            "model": ("logged_models", data.model(number, deleted=None, changed=more.get("model", LONG_AGO))),
            "trace": ("trace_info", data.trace(number, at=more.get("trace", LONG_AGO))),
        }

    return make


def expired_with_registered_run(data: Data) -> Owners:
    owners = expired()(data)
    data.version(run=owners["run"][1])
    return owners


def active_experiment(data: Data) -> Owners:
    number = data.experiment()
    return {"experiment": ("experiments", number), "trace": ("trace_info", data.trace(number))}


def at_another_run(data: Data) -> Owners:
    other = data.run(deleted=None)
    return {"run": ("runs", data.run(uri=f"{ROOT}0/{other}/artifacts")), "other": ("runs", other)}


def with_another_nested(data: Data) -> Owners:
    run = data.run()
    inner = data.experiment(location=f"{ROOT}0/{run}/artifacts/inner")
    return {"run": ("runs", run), "nested": ("experiments", inner)}


def with_another_nested_by_path(data: Data) -> Owners:
    run = data.run()
    inner = data.run(deleted=None, uri=f"{data.artifacts}/0/{run}/artifacts/RUN/artifacts")
    return {"run": ("runs", run), "nested": ("runs", inner)}


def with_a_version_nested(data: Data) -> Owners:
    run = data.run()
    data.version(source=f"{ROOT}0/{run}/artifacts/x", stage="Deleted_Internal")
    return {"run": ("runs", run)}


def link_out(data: Data) -> Owners:
    run = data.run()
    outside = data.artifacts.parent / "precious"
    outside.mkdir(exist_ok=True)
    (outside / "file").write_text("precious")
    (data.artifacts / f"0/{run}/artifacts/link").symlink_to(outside)
    return {"run": ("runs", run)}


def link_inside(data: Data) -> Owners:
    run = data.run()
    (data.artifacts / f"0/{run}/artifacts/link").symlink_to("a.txt")
    return {"run": ("runs", run)}


def folder_is_a_link(data: Data) -> Owners:
    run = data.run(file=False)
    outside = data.artifacts.parent / "precious" / run / "artifacts"
    outside.mkdir(parents=True)
    (outside / "file").write_text("precious")
    (data.artifacts / "0").mkdir(exist_ok=True)
    (data.artifacts / "0" / run).symlink_to(outside.parent)
    return {"run": ("runs", run)}


def plain_folder(data: Data) -> Owners:
    """Artifacts outside of the server's root, in a folder that this machine has."""
    run = data.run(uri=f"{data.artifacts.parent}/elsewhere/RUN/artifacts")
    folder = data.artifacts.parent / "elsewhere" / run / "artifacts"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("12345")
    return {"run": ("runs", run)}


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Data], Owners]
    outcome: dict[str, str]


ALL = ("experiment", "run", "model", "trace")
HELD = {"experiment": SKIPPED, "run": STAYS, "model": STAYS, "trace": STAYS}  # by something that has not expired
CASES = [
    Case("deleted long ago", run(), {"run": GOES}),
    Case("deleted long ago, no artifacts", run(file=False), {"run": GOES}),
    Case("deleted recently", run(deleted=YOUNG), {"run": STAYS}),
    Case("active", run(deleted=None), {"run": STAYS}),
    Case("restored, its time of deletion still there", run(stage="active"), {"run": STAYS}),
    Case("deleted at an unknown time", run(deleted=None, stage="deleted"), {"run": STAYS}),
    Case("registered by run_id", registered(run="RUN"), {"run": SKIPPED}),
    Case("registered by runs:/", registered(source="runs:/RUN/model"), {"run": SKIPPED}),
    Case("registered by location", registered(source="mlflow-artifacts:/0/RUN/artifacts/m"), {"run": SKIPPED}),
    Case("registered by storage", registered(source="x", storage="s3://b/0/RUN/artifacts/m"), {"run": SKIPPED}),
    Case("registered, the version deleted", registered(run="RUN", stage="Deleted_Internal"), {"run": GOES}),
    Case("registered by its model", registered_model, {"model": SKIPPED, "its run": SKIPPED}),
    Case("a model deleted long ago", model(), {"model": GOES, "its run": STAYS}),
    Case("a model deleted recently", model(deleted=YOUNG), {"model": STAYS}),
    Case("an active model", model(deleted=None), {"model": STAYS}),
    Case("an experiment deleted long ago", expired(), dict.fromkeys(ALL, GOES)),
    Case("an active experiment", active_experiment, {"experiment": STAYS, "trace": STAYS}),
    Case("an experiment deleted recently", expired(at=YOUNG), HELD | {"experiment": STAYS, "run": GOES}),
    Case("an experiment with a run deleted recently", expired(YOUNG), HELD),
    Case("an experiment with an active run", expired(None), HELD),
    Case("an experiment with a model changed recently", expired(model=YOUNG), HELD | {"run": GOES}),
    Case("an experiment with a recent trace", expired(trace=YOUNG), HELD | {"run": GOES}),
    Case("an experiment with a registered run", expired_with_registered_run, HELD | {"run": SKIPPED}),
    Case("at the root of all", run(uri="mlflow-artifacts:/"), {"run": SKIPPED}),
    Case("at the root, as a path", run(uri="ARTIFACTS"), {"run": SKIPPED}),
    Case("at its experiment", run(uri="mlflow-artifacts:/0"), {"run": SKIPPED}),
    Case("dots", run(uri="mlflow-artifacts:/0/../../RUN/artifacts"), {"run": SKIPPED}),
    Case("dots, encoded", run(uri="mlflow-artifacts:/%2e%2e/RUN/artifacts"), {"run": SKIPPED}),
    Case("dots, encoded twice, a path", run(uri="ARTIFACTS/%252e%252e/RUN/artifacts"), {"run": SKIPPED}),
    Case("no location, so no artifacts", run(uri=""), {"run": GOES}),
    Case("behind another server", run(uri="mlflow-artifacts://other/0/RUN/artifacts"), {"run": SKIPPED}),
    Case("at another run", at_another_run, {"run": SKIPPED, "other": STAYS}),
    Case("another experiment inside", with_another_nested, {"run": SKIPPED, "nested": STAYS}),
    Case("another run inside, as a path", with_another_nested_by_path, {"run": SKIPPED, "nested": STAYS}),
    Case("a version's source inside", with_a_version_nested, {"run": SKIPPED}),
    Case("a link out of its folder", link_out, {"run": SKIPPED}),
    Case("a link inside its folder", link_inside, {"run": GOES}),
    Case("its folder is a link", folder_is_a_link, {"run": SKIPPED}),
    Case("a plain folder of this machine", plain_folder, {"run": GOES}),
]


@dataclass
class World:
    data: Data
    owners: dict[str, Owners]
    before: set[str]
    dry: dict[str, Any]
    fields: dict[str, Any]


@pytest.fixture(scope="module", params=with_mysql("sqlite", "postgresql"))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything in one database, a dry run, then one collection."""
    folder: Path = tmp_path_factory.mktemp("world")
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_file"), folder / "t.sqlite")
        data = Data(f"sqlite:///{folder}/t.sqlite", folder)
    else:
        data = Data(request.getfixturevalue("empty_database")(request.param), folder)
    owners = {case.name: case.make(data) for case in CASES}
    before = data.files()
    runs = data.column("SELECT run_uuid FROM runs")
    dry = data.collect(dry_run=True)
    assert (data.files(), set(data.column("SELECT run_uuid FROM runs"))) == (before, set(runs))
    return World(data, owners, before, dry, data.collect())


KEYS = {"runs": "run_uuid", "logged_models": "model_id", "experiments": "experiment_id", "trace_info": "request_id"}
ROWS = [(case.name, label, outcome) for case in CASES for label, outcome in case.outcome.items()]


@pytest.mark.parametrize(("case", "label", "outcome"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_what_goes_and_what_stays(world: World, case: str, label: str, outcome: str) -> None:
    table, owner = world.owners[case][label]
    row = world.data.column(f"SELECT 1 FROM {table} WHERE {KEYS[table]} = :id", id=owner)  # noqa: S608
    had = {file for file in world.before if f"{owner}/" in file}
    has = {file for file in world.data.files() if f"{owner}/" in file}
    reported = {item["id"] for item in world.fields["skipped"]}

    assert bool(row) is (outcome != GOES)
    if table != "experiments":
        assert has == (set() if outcome == GOES else had)
    assert (str(owner) in reported) is (outcome == SKIPPED)
    if table == "runs" and outcome != GOES:
        assert len(world.data.column("SELECT step FROM metrics WHERE run_uuid = :id", id=owner)) == 3


def test_what_is_outside_is_untouched(world: World) -> None:
    kept = [item.read_text() for item in (world.data.artifacts.parent / "precious").rglob("file")]
    assert kept == ["precious"] * 2


def test_the_report_counts_what_was_done(world: World) -> None:
    goes = [world.owners[name][label][0] for name, label, outcome in ROWS if outcome == GOES]
    for key, table in (("runs", "runs"), ("experiments", "experiments"), ("logged_models", "logged_models")):
        number = goes.count(table)
        stuck = 13 if table == "runs" else 0  # due, and cannot go; see troubles
        assert world.fields[key] == {"due": number + stuck, "removed": number, "remaining": stuck}
        assert world.dry[key] == {"due": number + stuck, **({"remaining": stuck} if stuck else {})}
    assert world.fields["traces"] == {"due": 1, "removed": 1, "remaining": 0}
    assert (world.fields["outcome"], world.fields["exit_code"]) == ("incomplete", 23)
    assert (world.dry["outcome"], world.dry["exit_code"]) == ("dry-run", 0)
    assert world.fields["skipped_total"] == sum(outcome == SKIPPED for _, _, outcome in ROWS)
    assert world.fields["troubles"] == 13
    assert world.fields["bytes"] > world.dry["bytes"] > 0  # a trace's artifacts are found on the way
    assert world.data.pages() == []


def test_nothing_refers_into_nothing(world: World) -> None:
    data = world.data
    for table in ("params", "tags", "metrics", "latest_metrics"):
        assert data.column(f"SELECT run_uuid FROM {table} WHERE run_uuid NOT IN (SELECT run_uuid FROM runs)") == []  # noqa: S608
    for table in ("trace_tags", "spans", "span_metrics"):
        key = "request_id" if table == "trace_tags" else "trace_id"
        assert data.column(f"SELECT {key} FROM {table} WHERE {key} NOT IN (SELECT request_id FROM trace_info)") == []  # noqa: S608
    if data.uri.startswith("sqlite"):
        assert data.column("PRAGMA foreign_key_check") == []


def test_registered_ones_go_with_the_setting(on_file: Data) -> None:
    owners = [registered(run="RUN")(on_file), registered_model(on_file)]
    fields = on_file.collect(MLFLOW_TRACKING_GC_INCLUDE_REGISTERED="true")
    assert (fields["exit_code"], fields["runs"]["removed"], fields["logged_models"]["removed"]) == (0, 2, 1)
    assert on_file.files() == set(), owners


def test_what_stays_on_purpose_is_no_failure(on_file: Data) -> None:
    registered(run="RUN")(on_file)
    fields = on_file.collect()
    assert (fields["exit_code"], fields["outcome"], fields["skipped_total"], fields["troubles"]) == (0, "done", 1, 0)
