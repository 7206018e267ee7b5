"""The pauses in which others get their turn on a SQLite database."""

from __future__ import annotations

import pytest
from mlflow_ae5_server.database.connection import check_uri, connect_engine
from mlflow_ae5_server.gc.transactions import DeletingConnection
from sqlalchemy import text


class Clock:
    def __init__(self):
        self.now, self.slept = 100.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def other(tmp_path):
    """Somebody else's engine on the same file."""
    uri = f"sqlite:///{tmp_path / 'mydb.sqlite'}"
    engine = connect_engine(check_uri(uri))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (id INTEGER)"))
    return engine


CASES = [  # seconds that the transaction took, seconds of other work after it, others write: the pause
    ("alone", 0.1, 0.0, False, 0.01),
    ("alone, and something else was done", 0.1, 0.004, False, 0.006),
    ("alone, and much else was done", 0.1, 0.2, False, None),
    ("others write", 0.002, 0.0, True, 0.03),
    ("others write, and it took long", 0.1, 0.0, True, 0.5),
    ("others write, and something else was done", 0.1, 0.2, True, 0.3),
]


@pytest.mark.parametrize(("case", "took", "other_work", "company", "pause"), CASES, ids=[row[0] for row in CASES])
def test_others_have_their_turn_between_two_transactions(other, case, took, other_work, company, pause):
    clock = Clock()
    store = check_uri(other.url.render_as_string(hide_password=False))
    with DeletingConnection(store, other, clock=clock, sleep=clock.sleep) as writer:
        with writer.transaction() as connection:
            connection.execute(text("INSERT INTO runs VALUES (1)"))
        if company:
            with other.begin() as connection:
                connection.execute(text("INSERT INTO runs VALUES (2)"))
        clock.now += 1.0
        with writer.transaction() as connection:
            connection.execute(text("INSERT INTO runs VALUES (3)"))
            clock.now += took
        clock.now += other_work
        with writer.transaction() as connection:
            connection.execute(text("INSERT INTO runs VALUES (4)"))

    assert clock.slept == ([pause] if pause else [])
