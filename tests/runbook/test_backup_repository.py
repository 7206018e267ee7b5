"""Whether the backups that are found are those that were there before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from runbook_support import context

from mlflow_ae5_deploy.config.secret_values import SecretResolver
from mlflow_ae5_deploy.resources import backup_repository
from mlflow_ae5_deploy.resources.backup_repository import ObservedRepository

ONE, TWO = "1" * 32, "2" * 32


def created(place, number):
    return {"action": "create", "outcome": "done", "repository": place, "snapshot_count": number}


def listed(place, number):
    return {"action": "list", "outcome": "done", "repository": place, "snapshots": [{}] * number}


# what jobs told, one after another, and how many snapshots of the former place are missed then (None: nothing is said)
SEEN = [
    ("nothing", [], None),
    ("a release that does not tell", [{"action": "create"}], None),
    ("the same place", [created(ONE, 1), listed(ONE, 1)], None),
    ("another place", [created(ONE, 12), created(TWO, 1)], "12 earlier snapshots known here are not there"),
    ("a single one", [created(ONE, 1), created(TWO, 1)], "1 earlier snapshot known here is not there"),
    ("a list does not make it good", [created(ONE, 12), created(TWO, 1), listed(TWO, 1)], "12 earlier"),
    ("the last count counts", [created(ONE, 12), listed(ONE, 9), created(TWO, 1)], "9 earlier"),
    (
        "after a prune",
        [
            created(ONE, 12),
            {"action": "prune", "outcome": "done", "repository": ONE, "kept": ["a", "b"]},
            created(TWO, 1),
        ],
        "2 earlier",
    ),
    (
        "after looking what a prune would do",
        [
            created(ONE, 12),
            {"action": "prune", "outcome": "dry-run", "repository": ONE, "kept": ["a"]},
            created(TWO, 1),
        ],
        "12 earlier",
    ),
    ("nothing was there", [created(ONE, 0), created(TWO, 1), created(TWO, 2)], None),
    (
        "not counted",
        [{"action": "verify", "repository": ONE}, created(TWO, 1)],
        ": earlier snapshots known here are not",
    ),
    ("the former is back", [created(ONE, 12), created(TWO, 1), listed(ONE, 12)], None),
]


@pytest.mark.parametrize(("case", "report", "message"), SEEN, ids=[row[0] for row in SEEN])
def test_a_place_that_began_anew_is_told_until_the_former_is_back(tmp_path, case, report, message):
    where = context(tmp_path)
    for told in report:
        backup_repository.note(where, told)
    found = backup_repository.recreated(where)
    assert (message in found and "is the volume mounted" in found.lower()) if message else found == ""


def test_a_new_repository_can_be_accepted_and_another_setting_is_one(tmp_path):
    where = context(tmp_path)
    backup_repository.note(where, created(ONE, 12))
    backup_repository.note(where, listed(TWO, 1), accept=True)
    assert backup_repository.recreated(where) == ""

    other = context(tmp_path, backup={"destination": "data/other"})
    other.state = where.state
    assert backup_repository.recreated(other) == "", "nothing was seen there yet"
    backup_repository.note(other, created(ONE, 1))
    assert backup_repository.recreated(other) == ""
    backup_repository.note(other, created(TWO, 1))
    assert "The backups in data/other began anew" in backup_repository.recreated(other)


@pytest.mark.parametrize(
    ("seen", "later", "told"),
    [(ONE, {TWO: 1}, True), (TWO, {ONE: 1}, False), (ONE, {TWO: -1}, False), (TWO, {ONE: 1, TWO: 2}, True)],
)
def test_what_the_schedule_saw_counts_when_it_is_newer(tmp_path, seen, later, told):
    where = context(tmp_path)
    backup_repository.note(where, created(ONE, 5))
    backup_repository.note(where, created(seen, 5))
    now = where.clock.now()
    sightings = [ObservedRepository(place, now + timedelta(hours=hours)) for place, hours in later.items()]
    assert bool(backup_repository.recreated(where, sightings)) is told


def test_a_place_that_only_a_person_knows_is_not_asked_for_and_never_told(tmp_path):
    where = context(tmp_path, backup={"destination": "prompt"})
    where.values = SecretResolver({}, lambda _question: "az://container/x?sig=planted-secret")
    for place in (ONE, TWO):
        backup_repository.note(where, created(place, 3))
    where.values = SecretResolver({}, None)

    found = backup_repository.recreated(where)

    assert "The backups in the place that prompt says began anew" in found
    assert "planted" not in (where.folders.state / "state.json").read_text() + found
