"""Database URIs: what is understood, what is refused and why, and that no part of a secret one is repeated."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.database_uri import DRIVERS, IMPLIED, holds_password, parse_store_uri, path_of
from mlflow_ae5_deploy.config.secret_refs import SecretRef, SecretResolver


@pytest.mark.parametrize(
    ("uri", "dialect", "driver", "implied"),
    [
        ("sqlite:///data/store/mydb.sqlite", "sqlite", "pysqlite", True),
        ("sqlite:////data/mydb.sqlite", "sqlite", "pysqlite", True),
        ("sqlite+pysqlite:///x.db", "sqlite", "pysqlite", False),
        ("postgresql://u:p@h:5432/d", "postgresql", "psycopg", True),
        ("postgresql+psycopg2://u@h/d", "postgresql", "psycopg2", False),
        ("postgresql://postgres:@/postgres?host=/run/pg", "postgresql", "psycopg", True),
        ("postgresql://u:p@[::1]:5432/d", "postgresql", "psycopg", True),
        ("PostgreSQL+PSYCOPG://h/d", "postgresql", "psycopg", False),
        ("mysql+pymysql://u:p@h/d?charset=utf8mb4", "mysql", "pymysql", False),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3D%7Bx%7D", "mssql", "pyodbc", False),
    ],
)
def test_database_uris_are_parsed(uri, dialect, driver, implied):
    store = parse_store_uri(uri)
    assert (store.dialect, store.driver, store.driver_is_implied) == (dialect, driver, implied)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "not a database URI"),
        ("data/mydb.sqlite", "not a database URI"),
        ("sqlite:mydb.sqlite", "not a database URI"),
        ("u:hunter2@h/d", "not a database URI"),
        ("sqlite://data/mydb.sqlite", "three slashes"),
        ("sqlite://", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///data/", "names a folder"),
        ("postgres://u:hunter2@h/d", "SQLAlchemy's name for it is 'postgresql'"),
        ("mariadb://u:hunter2@h/d", "SQLAlchemy's name for it is 'mysql'"),
        ("mongodb://u:hunter2@h/d", "supported: mssql, mysql, postgresql, sqlite"),
        (
            "oracle+oracledb://u:hunter2@h/d",
            "supported: mssql, mysql, postgresql, sqlite",
        ),  # MLflow has no store for it
        ("http://u:hunter2@h/d", "unsupported database"),
        ("mysql://u:hunter2@h/d", r"no driver.*mysql\+pymysql://"),
        ("postgresql+asyncpg://u:hunter2@h/d", "unsupported driver"),
        ("mssql+nonsense://u:hunter2@h/d", "supported: pymssql, pyodbc"),
        ("postgresql+psycopg://u:hunter2@h:port/d", "port"),
        ("postgresql+psycopg://u:hunter2@h:70000/d", "port"),
        ("postgresql+psycopg://u:hunter2/x@h/d", "%2F"),
        ("postgresql+psycopg://u:hunter2@x@h/d", "%40"),
        ("postgresql+psycopg://u:5432/hunter2@h/d", "%2F"),
        ("postgresql+psycopg://u:5432?hunter2@h/d", "%2F"),
    ],
)
def test_unusable_database_uris_are_refused(uri, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_store_uri(uri)
    assert "hunter2" not in str(caught.value)


def test_drivers_are_what_sqlalchemy_says():
    """The table against the library the server uses."""
    url = pytest.importorskip("sqlalchemy.engine").make_url
    for dialect, driver in IMPLIED.items():
        assert url(f"{dialect}://").get_dialect().driver == driver
    registered = {
        (name, driver) for name, drivers in DRIVERS.items() for driver in drivers if driver != "mariadbconnector"
    }
    for dialect, driver in registered:
        chosen = url(f"{dialect}+{driver}://").get_dialect()
        assert (chosen.name in (dialect, "mariadb"), chosen.is_async) == (True, False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("postgresql://u:hunter2@h/d", True),
        ("postgresql://:hunter2@h/d", True),
        ("s3://key:hunter2@bucket", True),
        ("postgresql://h/d?user=u&password=hunter2", True),
        ("postgresql://h/d?sslpassword=hunter2", True),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BUID%3Du%3BPWD%3Dhunter2", True),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hunter2", True),
        ("https://a.blob.core.windows.net/c?sv=1&sig=hunter2", True),
        ("psql --password=hunter2", True),
        ("TOKEN=hunter2 python x.py", True),
        ("postgresql://u@h/d", False),
        ("postgresql://postgres:@/postgres?host=/run/pg", False),
        ("sqlite:///data/x.db", False),
        ("https://host:8080/path@2", False),
        ("wasbs://container@account.blob.core.windows.net/x", False),
        ("curl https://u:$PASSWORD@h/", False),
        ("mlflow server --token=$TOKEN", False),
        ("a text about a password: none", False),
        ("design=1&assign=2", False),
    ],
)
def test_passwords_are_recognised(text, found):
    assert holds_password(text) is found


def test_resolved_uri_is_checked_and_kept_out_of_texts():
    environ = {"GOOD": "postgresql+psycopg://u:s3cr%40t-word@h/d", "BAD": "mysql://u:hunter2@h/d"}
    good = SecretResolver(environ, None).store_uri(SecretRef.parse("env:GOOD"))
    assert good.reveal() == environ["GOOD"]
    assert scrub("server said: s3cr@t-word is wrong") == "server said: ******** is wrong"
    assert SecretResolver({}, None).store_uri("sqlite:///x.db").reveal() == "sqlite:///x.db"
    with pytest.raises(Configuration, match="no driver") as caught:
        SecretResolver(environ, None).store_uri(SecretRef.parse("env:BAD"))
    assert caught.value.where == "server.backend_store_uri (env:BAD)"
    assert "hunter2" not in caught.value.what
    assert caught.value.__context__ is None, "the chain must not lead to the value either"


# location -> the path that it is; None for an address
LOCATIONS = [
    ("", ""),
    ("data/a", "data/a"),
    ("./data/a", "./data/a"),
    ("artifacts", "artifacts"),
    ("/opt/continuum/project/data/a", "/opt/continuum/project/data/a"),
    ("/mnt/volume", "/mnt/volume"),
    ("file:///data/a", "/data/a"),
    ("FILE:///data/a", "/data/a"),
    ("file://localhost/data/a%20b", "/data/a b"),
    ("file:/data/a", "/data/a"),
    ("file:data/a", "data/a"),
    ("s3://bucket/prefix", None),
    ("abfss://container@account.dfs.core.windows.net/x", None),
    ("mlflow-artifacts:/", None),
]


@pytest.mark.parametrize(("location", "path"), LOCATIONS)
def test_a_location_is_a_path_or_an_address(location, path):
    assert path_of(location) == path
