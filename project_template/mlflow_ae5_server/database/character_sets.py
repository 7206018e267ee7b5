"""Check that a database can store every character.

MLflow answers 503 or 400 to names that it cannot store.

SQLite always can. SQL Server is not checked.
"""

from __future__ import annotations

from typing import Any

from mlflow_ae5_server.common.errors import Configuration
from mlflow_ae5_server.database import schema
from mlflow_ae5_server.database.connection import Database, connect_engine

_MYSQL = "utf8mb4"  # what it calls utf8 lacks every character beyond 16 bits
_POSTGRESQL = "UTF8"
_TABLES = (
    "SELECT count(DISTINCT table_name), min(table_name) FROM information_schema.columns "
    "WHERE table_schema = DATABASE() AND character_set_name <> 'utf8mb4' AND table_name IN :own"
)


def require_database(store: Database) -> None:
    """Raise Configuration where new tables could not store every character.

    Also where the search path of a PostgreSQL database has no schema.
    """
    if store.dialect == "mysql":
        _require_mysql(store)
    elif store.dialect == "postgresql":
        _require_postgresql(store)


def require_tables(store: Database) -> None:
    """Raise Configuration for MySQL tables with another character set."""
    if store.dialect != "mysql":
        return
    from sqlalchemy import bindparam

    count, first = _row(store, _TABLES, bindparam("own", sorted(schema.all_tables()), expanding=True))
    if count:
        raise Configuration(
            f"{count} tables of {store.shown} ({first}{', ...' if count > 1 else ''}) have another character set than "
            f"{_MYSQL}: MLflow answers 503 or 400 to characters that they cannot store",
            "back up, then `restore --replace`, which recreates all tables with the character set of the database",
        )


def _row(store: Database, query: str, *parameters: Any) -> Any:
    from sqlalchemy import text

    with connect_engine(store).connect() as connection:
        return connection.execute(text(query).bindparams(*parameters)).one()


def _require_mysql(store: Database) -> None:
    name, stored, sent, received = _row(
        store, "SELECT DATABASE(), @@character_set_database, @@character_set_client, @@character_set_results"
    )
    if stored != _MYSQL:
        quoted = "`" + str(name).replace("`", "``") + "`"
        raise Configuration(
            f"the database {store.shown} has the character set {stored}, in which MLflow cannot store every character",
            f"ALTER DATABASE {quoted} CHARACTER SET {_MYSQL}",
        )
    if {sent, received} != {_MYSQL}:
        raise Configuration(
            f"connections to {store.shown} use the character set {sent}, which does not have every character",
            f"write charset={_MYSQL} in MLFLOW_BACKEND_STORE_URI, or no charset at all",
        )


def _require_postgresql(store: Database) -> None:
    from sqlalchemy.engine import make_url

    current, path, stored, sent = _row(
        store,
        "SELECT current_schema(), current_setting('search_path'), current_setting('server_encoding'), "
        "current_setting('client_encoding')",
    )
    if stored != _POSTGRESQL:
        name = str(make_url(store.uri).database).replace('"', '""')
        raise Configuration(
            f"the database {store.shown} has the encoding {stored}, in which MLflow cannot store every character",
            "an encoding cannot be changed: create another database, and start or restore there: "
            f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
        )
    if sent != _POSTGRESQL:
        raise Configuration(
            f"connections to {store.shown} use the encoding {sent}, which does not have every character",
            "remove client_encoding from MLFLOW_BACKEND_STORE_URI, and PGCLIENTENCODING from the variables",
        )
    if current is None:
        raise no_schema(store, path)


def no_schema(database: Database, search_path: str) -> Configuration:
    """The error where PostgreSQL has no schema to work in."""
    return Configuration(
        f"{database.shown} has no schema of its search_path: {search_path}",
        "create the schema, or correct search_path; write a name with capitals or spaces in double quotes",
    )
