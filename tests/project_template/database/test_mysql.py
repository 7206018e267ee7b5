"""What is MySQL's alone. The rest: `mysql` among the dialects of the other tests."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from mlflow_ae5_server.common.errors import Configuration, Locked, Unreachable
from mlflow_ae5_server.database import dump, load, locks, saved_copy
from mlflow_ae5_server.database.connection import Database, connect_engine
from mlflow_ae5_server.database.contents import DatabaseState
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from tests.project_template.database.support import Objects, execute
from tests.project_template.mariadb import needed

pytestmark = needed
TRIGGERS = "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()"
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


def test_values_that_mysql_returns_rounded_arrive_whole(
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
        load.load(part, objects, restored)
        assert dump.digests(restored) == part.digests()
        amounts = column(restored, "SELECT budget_amount FROM budget_policies ORDER BY 1")
        assert amounts == [0.1, 1234567.9, 16777215.0]  # what 32 bits can tell of them


def test_a_nul_goes_to_sqlite_and_is_named_for_postgresql(
    filled: Callable[[str], Database], empty: Callable[[str], Database], untouched: Database
) -> None:
    database, objects, restored = filled("mysql"), Objects(), empty("sqlite")
    execute(database, "UPDATE tags SET value = concat('a', char(0), 'b') WHERE tags.key = 't1'")
    part = dump.dump(database, objects)
    load.load(part, objects, restored)
    assert dump.digests(restored) == part.digests()
    assert column(restored, "SELECT count(*) FROM tags WHERE value = 'a' || char(0) || 'b'") == [3]
    with pytest.raises(Configuration, match="tags holds the character NUL"):
        load.load(part, objects, untouched)
    assert dump.state(untouched) == DatabaseState("empty")


def structure(database: Database) -> dict[str, list[str]]:
    """The lines that make every table of it, and every trigger."""
    with closing(connect_engine(database).connect()) as connection:

        def shown(kind: str, names: list[str], column: int) -> dict[str, list[str]]:
            texts = {n: connection.exec_driver_sql(f"SHOW CREATE {kind} `{n}`").one()[column] for n in names}
            plain = {name: re.sub(r" AUTO_INCREMENT=\d+|`|,$", "", text, flags=re.M) for name, text in texts.items()}
            return {name: sorted(text.splitlines()) for name, text in plain.items()}

        triggers = [row[0] for row in connection.exec_driver_sql("SHOW TRIGGERS")]
        tables = [row[0] for row in connection.exec_driver_sql("SHOW TABLES")]
        return shown("TABLE", tables, 1) | shown("TRIGGER", triggers, 2)


def scratch_databases(database: Database) -> list[object]:
    """Scratch databases, and its saved copies; another database on the server may have saved copies of its own."""
    found = column(database, "SELECT schema_name FROM information_schema.schemata")
    return [name for name in found if str(name).startswith("mlflow_ae5_scratch_")] + [*saved_copy.saved_names(database)]


def test_what_is_loaded_has_the_keys_and_triggers_that_mlflow_makes(
    native: dict[str, Database], empty: Callable[[str], Database]
) -> None:
    objects, restored = Objects(), empty("mysql")
    load.load(dump.dump(native["sqlite"], objects), objects, restored)
    made = structure(native["mysql"])
    assert "prevent_secrets_aad_mutation" in made
    assert structure(restored) == made
    with pytest.raises(IntegrityError, match="foreign key constraint fails"):
        execute(restored, "INSERT INTO tags (tags.key, value, run_uuid) VALUES ('k', 'v', 'no such run')")
    assert scratch_databases(restored) == []


# as many values as an error names
REFUSED = [
    (
        "INSERT INTO tags SELECT 'T1', value, run_uuid FROM tags WHERE key = 't1'",
        "tags.key is the same as .T1. of another",
    ),
    (
        "UPDATE params SET value = replace(hex(zeroblob(40000)), '0', 'x') WHERE rowid = 1",
        "params.value is longer than 8000",
    ),
    (
        "INSERT INTO budget_policies (budget_policy_id, budget_unit, budget_amount, duration_unit, duration_value, "
        "target_scope, budget_action, created_at, last_updated_at, workspace) VALUES ('b', 'USD', 1234567.875, "
        "'DAYS', 1, 'GLOBAL', 'ALERT', 1, 1, 'default')",
        "budget_policies.budget_amount has the number 1234567.875",
    ),
]


def test_values_that_mysql_refuses_are_named_and_the_target_stays_empty(
    copied: Database, empty: Callable[[str], Database]
) -> None:
    execute(copied, "PRAGMA ignore_check_constraints = ON", "UPDATE tags SET value = 'a' || char(0) || 'b'")
    objects, target = Objects(), empty("mysql")
    accepted = dump.dump(copied, objects)
    execute(copied, "PRAGMA ignore_check_constraints = ON", *(change for change, _ in REFUSED))
    with pytest.raises(Configuration) as caught:
        load.load(dump.dump(copied, objects), objects, target)
    assert [words for _, words in REFUSED if not re.search(words, str(caught.value))] == []
    assert (dump.state(target), scratch_databases(target)) == (DatabaseState("empty"), [])
    load.load(accepted, objects, target)
    assert dump.digests(target) == accepted.digests()


def is_query(statement: str) -> bool:
    return statement.lstrip().startswith(("SELECT", "SHOW", "SET", "DESCRIBE"))


def killed(after: int, act: Callable[[], None]) -> bool:
    """Run `act` in a process that is gone once it has made so many changes. Whether it came to its end before."""
    pid = os.fork()
    if pid == 0:
        made = 0

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            nonlocal made
            made += not is_query(statement)
            if made > after:
                os._exit(9)

        event.listen(Engine, "before_cursor_execute", count)
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, 9}
    return code == 0


def test_killed_at_any_statement_a_saved_copy_comes_back(filled: Callable[[str], Database]) -> None:
    database = filled("mysql")
    before, made, after = dump.digests(database), structure(database), 0
    whole, triggers, done = dump.state(database), column(database, TRIGGERS), [False]
    while not all(done):
        done = []
        for act in (saved_copy.save_copy, saved_copy.bring_back):
            done.append(killed(after, lambda act=act: act(database, "x")))
            if ("x" in saved_copy.saved_names(database)) != (act is saved_copy.save_copy):
                act(database, "x")  # as the next run does
        saved_copy.complete(database)
        assert (dump.state(database), column(database, TRIGGERS)) == (whole, triggers), after
        after += 1
    assert (dump.digests(database), structure(database)) == (before, made)
    with saved_copy.scratch(database):
        assert len(scratch_databases(database)) == 1  # what the killed ones left is gone
    assert scratch_databases(database) == []
    assert after > 8


def test_killed_at_any_statement_a_load_has_done_all_or_nothing(
    native: dict[str, Database], empty: Callable[[str], Database]
) -> None:
    objects, database, made = Objects(), empty("mysql"), structure(native["mysql"])
    part = dump.dump(native["sqlite"], objects)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    load.load(part, objects, database)
    event.remove(Engine, "before_cursor_execute", note)
    saved_copy.save_copy(database, "first")
    saved_copy.drop_saved(database, "first")
    changes = [message for message in statements if not is_query(message)]
    moved = next(number for number, message in enumerate(changes) if message.startswith("RENAME"))
    kinds = set()
    for after in (moved // 2, moved, *range(moved + 2, moved + 4)):  # one more where a killed one has left something
        assert not killed(after, lambda: load.load(part, objects, database)), after
        kinds.add(kind := dump.state(database).kind)
        if kind == "empty":
            continue
        saved_copy.complete(database)
        assert (dump.digests(database), structure(database)) == (part.digests(), made), after
        saved_copy.save_copy(database, "whole")
        saved_copy.drop_saved(database, "whole")
    assert kinds == {"empty", "ours"}
    load.load(part, objects, database)
    assert (dump.digests(database), structure(database), scratch_databases(database)) == (part.digests(), made, [])


def test_an_engine_without_snapshots_is_refused(filled: Callable[[str], Database]) -> None:
    database = filled("mysql")
    execute(database, "CREATE TABLE zebra (a int) ENGINE=MyISAM")
    assert dump.dump(database, Objects()).others == ("zebra",)
    execute(database, "ALTER TABLE alembic_version ENGINE=MyISAM")
    with pytest.raises(Configuration, match=r"has alembic_version in another engine than InnoDB"):
        dump.dump(database, Objects())


def test_a_connection_that_is_lost_half_way(filled: Callable[[str], Database]) -> None:
    database = filled("mysql")

    def kill(number: int) -> None:
        if number == 5:
            for other in column(database, OTHERS):
                execute(database, f"KILL {other}")

    with pytest.raises(Unreachable, match="was lost"):
        dump.dump(database, Objects(kill))


def test_locks_outlive_an_idle_timeout(native: dict[str, Database], request: pytest.FixtureRequest) -> None:
    database = native["mysql"]
    assert locks.in_use(database) is None
    execute(database, "SET GLOBAL wait_timeout = 1")
    request.addfinalizer(lambda: execute(database, "SET GLOBAL wait_timeout = 28800"))
    with locks.serving(database), locks.maintenance(database):
        assert hangs_up(database)
        assert "tracking server" in str(locks.in_use(database))
        with pytest.raises(Locked), locks.maintenance(database):
            pass
    assert locks.in_use(database) is None
    with locks.maintenance(database):
        pass
