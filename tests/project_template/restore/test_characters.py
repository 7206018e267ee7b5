"""A database that cannot store every character is refused before anything is created in it, with the remedy."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from mlflow_ae5_server.commands import check, database_upgrade
from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.common.report import Report
from mlflow_ae5_server.database import dump
from mlflow_ae5_server.database.connection import check_uri, connect_engine

from tests.project_template.conftest import free_port, make_tables
from tests.project_template.mariadb import MariaDB, needed
from tests.project_template.restore.conftest import Home

ALL = "漢字 🜚"

# character set, options of the URI, words of the refusal, the statement or setting that fixes it
MYSQL = [
    pytest.param("latin1", "", "character set latin1", "ALTER DATABASE `{}` CHARACTER SET utf8mb4", id="latin1"),
    pytest.param("utf8mb3", "", "character set utf8mb3", "ALTER DATABASE `{}` CHARACTER SET utf8mb4", id="utf8mb3"),
    pytest.param("utf8mb4", "&charset=latin1", "connections to", "write charset=utf8mb4 in", id="connection"),
]
POSTGRESQL = [
    pytest.param(
        "LATIN1", "", "encoding LATIN1", "CREATE DATABASE \"{}\" TEMPLATE template0 ENCODING 'UTF8'", id="LATIN1"
    ),
    pytest.param("SQL_ASCII", "", "encoding SQL_ASCII", "TEMPLATE template0 ENCODING 'UTF8'", id="SQL_ASCII"),
    pytest.param("UTF8", "?client_encoding=latin1", "use the encoding LATIN1", "remove client_encoding", id="client"),
    pytest.param("UTF8", "?options=-csearch_path%3DNowhere", "no schema of its search_path", "create the", id="schema"),
]


JOBS = {"Check": check.run, "DatabaseUpgrade": database_upgrade.run}


def refusal(home: Home, command: str) -> str:
    """The message with which a job, run in this process, refuses the database."""
    report = Report(command)
    try:
        assert JOBS[command](home.settings(), report, False) == Configuration.exit_code
    except Configuration as error:
        return str(error)
    database = report._fields["database"]
    return f"{database['message']} {database['hint']}"


def server_output(project: Any, uri: str) -> str:
    """The output of a server that refuses the database, in a process of its own."""
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)
    ended = project.run("TrackingServer", "--anaconda-project-port", str(free_port()))
    assert ended.code == Configuration.exit_code, ended.output
    return str(ended.output)


def require_refused(messages: list[str], name: str, words: str, remedy: str, home: Home) -> None:
    (refused,) = home.restore("--dry-run")["would_refuse"]
    messages += [*(refusal(home, command) for command in JOBS), f"{refused['error']} {refused['hint']}"]
    for message in messages:
        assert words in message
        assert remedy.format(name) in message
    with pytest.raises(Configuration, match=words):
        home.restore("--snapshot", "latest")


@needed
@pytest.mark.parametrize(("charset", "options", "words", "remedy"), MYSQL)
def test_every_command_refuses_an_empty_mysql_database(
    charset: str, options: str, words: str, remedy: str, mariadb: MariaDB, project: Any, pilot: Any, tmp_path: Any
) -> None:
    name = f"Of {charset} {len(options)}"
    with mariadb._connected() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET {charset}")
    uri = mariadb.uri(name.replace(" ", "%20")) + options
    messages = [server_output(project, uri)] if charset == "latin1" else []
    require_refused(messages, name, words, remedy, Home.at(tmp_path / "home", pilot.home.backups, uri))
    assert dump.state(check_uri(uri)).kind == "empty"


@pytest.mark.parametrize(("encoding", "options", "words", "remedy"), POSTGRESQL)
def test_every_command_refuses_an_empty_postgresql_database(
    encoding: str, options: str, words: str, remedy: str, postgres: Any, project: Any, pilot: Any, tmp_path: Any
) -> None:
    name = f"of_{encoding.lower()}_{len(options)}"
    postgres.sql(
        f"CREATE DATABASE {name} OWNER mlflow_test TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    uri = postgres.uri(name) + options
    messages = [server_output(project, uri)] if encoding == "LATIN1" else []
    require_refused(messages, name, words, remedy, Home.at(tmp_path / "home", pilot.home.backups, uri))
    assert dump.state(check_uri(postgres.uri(name))).kind == "empty"


@needed
def test_a_restore_recreates_tables_of_another_character_set(mariadb: MariaDB, project: Any, tmp_path: Any) -> None:
    with mariadb._connected() as cursor:
        cursor.execute("CREATE DATABASE made_in_latin1 CHARACTER SET latin1")
    uri = mariadb.uri("made_in_latin1")
    make_tables(uri)
    home = Home.at(tmp_path / "home", str(tmp_path / "backups"), uri)
    assert "ALTER DATABASE `made_in_latin1` CHARACTER SET utf8mb4" in refusal(home, "Check")
    with mariadb._connected() as cursor:
        cursor.execute("ALTER DATABASE `made_in_latin1` CHARACTER SET utf8mb4")
    assert "tables of" in (message := refusal(home, "Check"))
    assert "`restore --replace`" in message
    project.secret("MLFLOW_BACKEND_STORE_URI", uri)
    with project.server() as server:  # the tables are served all the same
        assert "warning: 65 tables" in server.log()

    home.job("backup", "create", "--allow-empty")
    before = dump.digests(home.store)
    home.restore("--replace", "--snapshot", "latest")
    assert dump.digests(home.store) == before
    assert project.run("Check").code == 0
    with contextlib.closing(connect_engine(home.store).connect()) as connection:
        connection.exec_driver_sql("UPDATE experiments SET name = %s", (ALL,))
        assert connection.exec_driver_sql("SELECT name FROM experiments").scalar() == ALL
