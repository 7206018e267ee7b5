"""Whether the backup repository is the one that was there before."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from runbook_support import context

from mlflow_ae5_deploy.config.secret_refs import SecretResolver
from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import BackupReport
from mlflow_ae5_deploy.resources import backup_repository
from mlflow_ae5_deploy.resources.backup_repository import ObservedRepository


def note(where, line, **options):
    backup_repository.note(where, read(BackupReport, json.loads(json.dumps(line))), **options)


ONE, TWO = "1" * 32, "2" * 32


def created(repository, number):
    return {"action": "create", "outcome": "done", "repository": repository, "snapshot_count": number}


def listed(repository, number):
    return {"action": "list", "outcome": "done", "repository": repository, "snapshots": [{}] * number}


def pruned(outcome, *kept):
    return {"action": "prune", "outcome": outcome, "repository": ONE, "kept": kept}


# reports of jobs, in order, and what is then missing (None: nothing is reported)
SEEN = [
    ("nothing", [], None),
    ("a release that does not report it", [{"action": "create"}], None),
    ("the same repository", [created(ONE, 1), listed(ONE, 1)], None),
    ("another repository", [created(ONE, 12), created(TWO, 1)], "12 earlier snapshots are missing"),
    ("a single one", [created(ONE, 1), created(TWO, 1)], "1 earlier snapshot is missing"),
    ("a list does not clear it", [created(ONE, 12), created(TWO, 1), listed(TWO, 1)], "12 earlier"),
    ("the last count counts", [created(ONE, 12), listed(ONE, 9), created(TWO, 1)], "9 earlier"),
    (
        "after a prune",
        [created(ONE, 12), pruned("done", "a", "b"), created(TWO, 1)],
        "2 earlier",
    ),
    (
        "after a dry run of a prune",
        [created(ONE, 12), pruned("dry-run", "a"), created(TWO, 1)],
        "12 earlier",
    ),
    ("nothing was there", [created(ONE, 0), created(TWO, 1), created(TWO, 2)], None),
    (
        "not counted",
        [{"action": "verify", "repository": ONE}, created(TWO, 1)],
        ": earlier snapshots are missing",
    ),
    ("the previous one is back", [created(ONE, 12), created(TWO, 1), listed(ONE, 12)], None),
]


@pytest.mark.parametrize(("case", "report", "message"), SEEN, ids=[row[0] for row in SEEN])
def test_a_new_repository_is_reported_until_the_previous_one_is_back(tmp_path, case, report, message):
    where = context(tmp_path)
    for line in report:
        note(where, line)
    warning = backup_repository.recreated(where)
    assert message in warning if message else warning == ""


def test_a_new_repository_can_be_accepted_and_another_setting_is_one(tmp_path):
    where = context(tmp_path)
    note(where, created(ONE, 12))
    note(where, listed(TWO, 1), accept=True)
    assert backup_repository.recreated(where) == ""

    other = context(tmp_path, backup={"destination": "data/other"})
    other.state = where.state
    assert backup_repository.recreated(other) == "", "nothing was seen there yet"
    note(other, created(ONE, 1))
    assert backup_repository.recreated(other) == ""
    note(other, created(TWO, 1))
    assert "new backup repository in data/other" in backup_repository.recreated(other)


@pytest.mark.parametrize(
    ("seen", "later", "reported"),
    [(ONE, {TWO: 1}, True), (TWO, {ONE: 1}, False), (ONE, {TWO: -1}, False), (TWO, {ONE: 1, TWO: 2}, True)],
)
def test_an_observation_of_the_schedule_counts_when_it_is_newer(tmp_path, seen, later, reported):
    where = context(tmp_path)
    note(where, created(ONE, 5))
    note(where, created(seen, 5))
    now = where.clock.now()
    sightings = [ObservedRepository(identity, now + timedelta(hours=hours)) for identity, hours in later.items()]
    assert bool(backup_repository.recreated(where, sightings)) is reported


def test_a_destination_that_only_a_person_has_is_never_shown(tmp_path):
    where = context(tmp_path, backup={"destination": "prompt"})
    where.values = SecretResolver({}, lambda _question: "az://container/x?sig=planted-secret")
    for repository in (ONE, TWO):
        note(where, created(repository, 3))
    where.values = SecretResolver({}, None)

    warning = backup_repository.recreated(where)

    assert "new backup repository in the destination in prompt" in warning
    assert "planted" not in (where.folders.state / "state.json").read_text() + warning
