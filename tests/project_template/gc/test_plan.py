"""The plan says of each thing that goes what it is, where it belongs and since when it is deleted."""

from __future__ import annotations

import re

import pytest

from tests.project_template.gc.conftest import LONG_AGO, Data


def test_what_goes_is_printed_with_its_name_size_and_reason(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    whole = data.experiment(deleted=LONG_AGO)
    with_it = data.model(experiment=whole, deleted=None)
    run = data.run()
    data.sql("UPDATE runs SET name = :name WHERE run_uuid = :run", name="odd\nname", run=run)
    unnamed = data.run()
    data.sql("UPDATE runs SET name = NULL WHERE run_uuid = :run", run=unnamed)

    fields = data.collect(dry_run=True)
    reported = capsys.readouterr().out

    since = r"deleted \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert fields["outcome"] == "dry-run"
    for words in (
        rf'  {run}  5 bytes  "odd\\nname" of experiment 0, {since}\n',
        rf"  {unnamed}  5 bytes  of experiment 0, {since}\n",
        rf'  {whole}  "experiment {whole}" {since}\n',
        rf"  {with_it}.*  of experiment {whole}, which goes as a whole\n",
        r"would delete 2 runs, 10 bytes of artifacts\n",
        r"would delete 1 experiment\n",
    ):
        assert re.search(words, reported), f"{words} is not in\n{reported}"
