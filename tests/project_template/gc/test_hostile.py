"""A trace whose tag leads elsewhere, and a database that goes away in the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.project_template.gc.conftest import LONG_AGO, ROOT, Data


@pytest.mark.parametrize(
    "location",
    [
        f"{ROOT}EXPERIMENT/../precious/TRACE/artifacts",
        f"{ROOT}EXPERIMENT/%2e%2e/precious/TRACE/artifacts",
        f"{ROOT}precious",
        "FOLDER/../precious/TRACE/artifacts",
    ],
)
def test_a_trace_whose_tag_leads_elsewhere_goes_and_what_it_names_stays(on_file: Data, location: str) -> None:
    number = on_file.experiment(deleted=LONG_AGO)
    trace = on_file.trace(number)
    precious = [on_file.file(f"{folder}/{trace}/artifacts/a") for folder in ("precious", "../precious")]
    own = on_file.artifacts / str(number) / "traces" / trace / "artifacts" / "attachment"
    location = (
        location.replace("EXPERIMENT", str(number)).replace("TRACE", trace).replace("FOLDER", str(on_file.artifacts))
    )
    on_file.sql("UPDATE trace_tags SET value = :value WHERE request_id = :trace", value=location, trace=trace)

    fields = on_file.collect()

    assert (fields["exit_code"], fields["traces"]["removed"]) == (23, 1)
    assert [(item["kind"], item["id"]) for item in fields["skipped"]] == [("artifacts", trace)]
    assert all(file.is_file() for file in (*precious, own))


def test_a_database_that_goes_away_half_way_is_named_and_the_next_run_finishes(
    empty_database: Callable[[], str], tmp_path: Path, postgres: Any
) -> None:
    data = Data(empty_database(), tmp_path)
    runs = [data.run() for _ in range(4)]
    kept = data.run(deleted=None)
    name = data.uri.rpartition("/")[2].partition("?")[0]

    def cut(step: str) -> None:
        if step == "before commit":
            postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # noqa: S608

    ended = data.collect(step=cut)

    assert (ended["exit_code"], ended["outcome"]) == (10, "failed")
    assert "cannot be used" in ended["error"]
    left = data.column("SELECT run_uuid FROM runs")
    assert sorted(left) == sorted([*runs, kept])
    assert all(data.has_files(run) for run in left)
    assert data.collect()["exit_code"] == 0
    assert data.column("SELECT run_uuid FROM runs") == [kept]
    assert data.files() == {f"0/{kept}/artifacts/a.txt"}
