"""What is MySQL's alone. The rest: `mysql` among the dialects of the other tests."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from mlflow_ae5_server import locks, presence
from mlflow_ae5_server.database import Database, connect_engine
from mlflow_ae5_server.errors import BusyError, ConfigurationError, UnreachableError
from mlflow_ae5_server.snapshot import dump

from tests.project_template.mariadb import needed
from tests.project_template.snapshot.dump.support import Objects, execute

pytestmark = needed
OTHERS = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"


def column(database: Database, query: str) -> list[object]:
    with closing(connect_engine(database).connect()) as connection:
        return [row[0] for row in connection.exec_driver_sql(query)]


def hangs_up(database: Database) -> bool:
    """Wait until the server has closed an idle connection."""
    import pymysql

    with closing(connect_engine(database).raw_connection()) as idle:
        connection = idle.driver_connection
        assert isinstance(connection, pymysql.Connection)
        return bool(select.select([connection._sock], [], [], 20)[0])


def test_what_mysql_would_tell_with_a_loss_arrives_whole(
    filled: Callable[[str], Database], empty: Callable[[str], Database]
) -> None:
    """Through a URI that names a character set, as many do."""
    database, objects = filled("mysql"), Objects()
    execute(
        database,
        "UPDATE evaluation_dataset_records SET outputs = '5.0'",
        "INSERT INTO budget_policies (budget_policy_id, budget_unit, budget_amount, duration_unit, duration_value, "
        "target_scope, budget_action, created_at, last_updated_at, workspace) SELECT n, 'USD', n, 'DAYS', 1, 'GLOBAL', "
        "'ALERT', 1, 1, 'default' FROM (SELECT 1234567.875 n UNION SELECT 0.1 UNION SELECT 16777215) numbers",
    )
    whole = dump.dump(database, objects)
    part = dump.dump(replace(database, uri=database.uri + "&charset=latin1"), objects)
    assert part.digests() == whole.digests()
    for dialect in ("sqlite", "postgresql"):
        restored = empty(dialect)
        dump.load(part, objects, restored)
        assert dump.digests(restored) == part.digests()
        amounts = column(restored, "SELECT budget_amount FROM budget_policies ORDER BY 1")
        assert amounts == [0.1, 1234567.9, 16777215.0]  # what 32 bits can tell of them


def test_a_nul_goes_to_sqlite_and_is_named_for_postgresql(
    filled: Callable[[str], Database], empty: Callable[[str], Database], untouched: Database
) -> None:
    database, objects, restored = filled("mysql"), Objects(), empty("sqlite")
    execute(database, "UPDATE tags SET value = concat('a', char(0), 'b') WHERE tags.key = 't1'")
    part = dump.dump(database, objects)
    dump.load(part, objects, restored)
    assert dump.digests(restored) == part.digests()
    assert column(restored, "SELECT count(*) FROM tags WHERE value = 'a' || char(0) || 'b'") == [3]
    with pytest.raises(ConfigurationError, match="tags holds the character NUL"):
        dump.load(part, objects, untouched)
    assert dump.state(untouched) == dump.State("empty")


def test_nothing_is_loaded_into_mysql(native: dict[str, Database], empty: Callable[[str], Database]) -> None:
    objects, target = Objects(), empty("mysql")
    with pytest.raises(ConfigurationError, match="cannot be loaded into mysql"):
        dump.load(dump.dump(native["mysql"], objects), objects, target)
    assert dump.state(target) == dump.State("empty")


def test_an_engine_without_snapshots_is_refused(filled: Callable[[str], Database]) -> None:
    database = filled("mysql")
    execute(database, "CREATE TABLE zebra (a int) ENGINE=MyISAM")
    assert dump.dump(database, Objects()).others == ("zebra",)
    execute(database, "ALTER TABLE alembic_version ENGINE=MyISAM")
    with pytest.raises(ConfigurationError, match=r"keeps alembic_version in another engine than InnoDB"):
        dump.dump(database, Objects())


def test_a_connection_that_is_lost_half_way(filled: Callable[[str], Database]) -> None:
    database = filled("mysql")

    def kill(number: int) -> None:
        if number == 5:
            for other in column(database, OTHERS):
                execute(database, f"KILL {other}")

    with pytest.raises(UnreachableError, match="was lost"):
        dump.dump(database, Objects(kill))


def test_who_is_at_work_on_it_is_known_however_long_he_says_nothing(
    native: dict[str, Database], request: pytest.FixtureRequest
) -> None:
    database = native["mysql"]
    assert dump.in_use(database) is None
    execute(database, "SET GLOBAL wait_timeout = 1")
    request.addfinalizer(lambda: execute(database, "SET GLOBAL wait_timeout = 28800"))
    with presence.serving(database), locks.maintenance(database):
        assert hangs_up(database)
        assert "tracking server" in str(dump.in_use(database))
        with pytest.raises(BusyError), locks.maintenance(database):
            pass
    assert dump.in_use(database) is None
    with locks.maintenance(database):
        pass
