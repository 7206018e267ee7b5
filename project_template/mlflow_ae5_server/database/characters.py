"""Can a database keep every character? MLflow makes its tables in any, and answers 503 or 400 to names it cannot keep.

SQLite can. Of SQL Server nothing is asked.
"""

from __future__ import annotations

from mlflow_ae5_server.common.errors import ConfigurationError
from mlflow_ae5_server.database import checks
from mlflow_ae5_server.database.checks import Database

_MYSQL = "utf8mb4"  # what it calls utf8 lacks every character beyond 16 bits
_POSTGRESQL = "UTF8"
_TABLES = (
    "SELECT count(DISTINCT table_name), min(table_name) FROM information_schema.columns "
    "WHERE table_schema = DATABASE() AND character_set_name <> 'utf8mb4' AND table_name IN :own"
)


def require_database(store: Database) -> None:
    """ConfigurationError, with the statement that fixes it, where tables made now could not keep every character, or
    where the search path of a PostgreSQL database has no schema."""
    if store.dialect == "mysql":
        _require_mysql(store)
    elif store.dialect == "postgresql":
        _require_postgresql(store)


def require_tables(store: Database) -> None:
    """ConfigurationError where MLflow's tables in a MySQL database were made with another character set."""
    from sqlalchemy import bindparam, text

    from mlflow_ae5_server.database import schema

    if store.dialect != "mysql":
        return
    query = text(_TABLES).bindparams(bindparam("own", expanding=True))
    with checks.connect_engine(store).connect() as connection:
        count, first = connection.execute(query, {"own": sorted(schema.all_tables())}).one()
    if count:
        raise ConfigurationError(
            f"{count} tables of {store.shown} ({first}{', ...' if count > 1 else ''}) have another character set than "
            f"{_MYSQL}: MLflow answers 503 or 400 to characters that they cannot keep",
            "back up, then `restore --replace`, which makes all tables again with the character set of the database",
        )


def _require_mysql(store: Database) -> None:
    from sqlalchemy import text

    query = "SELECT DATABASE(), @@character_set_database, @@character_set_client, @@character_set_results"
    with checks.connect_engine(store).connect() as connection:
        name, held, sent, received = connection.execute(text(query)).one()
    if held != _MYSQL:
        quoted = "`" + str(name).replace("`", "``") + "`"
        raise ConfigurationError(
            f"the database {store.shown} has the character set {held}, in which MLflow cannot keep every character",
            f"ALTER DATABASE {quoted} CHARACTER SET {_MYSQL}",
        )
    if {sent, received} != {_MYSQL}:
        raise ConfigurationError(
            f"connections to {store.shown} use the character set {sent}, which does not have every character",
            f"write charset={_MYSQL} in MLFLOW_BACKEND_STORE_URI, or no charset at all",
        )


def _require_postgresql(store: Database) -> None:
    from sqlalchemy import text

    query = (
        "SELECT current_schema(), current_setting('search_path'), current_setting('server_encoding'), "
        "current_setting('client_encoding')"
    )
    with checks.connect_engine(store).connect() as connection:
        here, path, held, sent = connection.execute(text(query)).one()
    if held != _POSTGRESQL:
        raise checks.wrong_encoding(store, held)
    if sent != _POSTGRESQL:
        raise ConfigurationError(
            f"connections to {store.shown} use the encoding {sent}, which does not have every character",
            "take client_encoding out of MLFLOW_BACKEND_STORE_URI, and PGCLIENTENCODING out of the variables",
        )
    if here is None:
        raise checks.no_schema(store, path)
