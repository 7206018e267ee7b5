"""Checks of the server's database URI (dialect, driver, and no password in it), and of locations of files."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from mlflow_ae5_deploy.common.redaction import register
from mlflow_ae5_deploy.common.text import package_name

# dialect, of those that MLflow has a store for -> synchronous drivers SQLAlchemy 2.1 knows (MLflow cannot use the
# asynchronous ones) -> packages that contain the driver, with conda and pip names, normalised
DRIVERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sqlite": {"pysqlite": ()},
    "postgresql": {
        "psycopg": ("psycopg", "psycopg-binary"),
        "psycopg2": ("psycopg2-binary", "psycopg2"),
        "psycopg2cffi": ("psycopg2cffi",),
        "pg8000": ("pg8000",),
    },
    "mysql": {
        "pymysql": ("pymysql",),
        "mysqldb": ("mysqlclient",),
        "mysqlconnector": ("mysql-connector-python",),
        "mariadbconnector": ("mariadb",),
        "cymysql": ("cymysql",),
        "pyodbc": ("pyodbc",),
    },
    "mssql": {"pyodbc": ("pyodbc",), "pymssql": ("pymssql",)},
}
# dialect -> drivers that the bundled project's server takes. Its environment `default` has the first one; the others
# need a package of DRIVERS.
SUPPORTED: Mapping[str, tuple[str, ...]] = {
    "sqlite": ("pysqlite",),
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql", "mysqldb", "mysqlconnector"),
    "mssql": ("pyodbc", "pymssql"),
}
# What a URI without a driver means on SQLAlchemy 2.1. (In older versions postgresql meant psycopg2.)
# mysql is missing on purpose: it means mysqlclient, which has to be compiled and which the project does not bring.
IMPLIED: Mapping[str, str] = {dialect: SUPPORTED[dialect][0] for dialect in ("sqlite", "postgresql", "mssql")}
_LOCATION = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://[^/]*)?(?P<path>.*)", re.DOTALL)
_ALIASES = {"postgres": "postgresql", "mariadb": "mysql", "sqlserver": "mssql", "sqlite3": "sqlite"}

_URI = re.compile(r"(?P<scheme>[A-Za-z0-9_+]+)://(?P<authority>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?\Z")
# user:password@, but not host:8080/path@2, and not a shell variable in the password's place
_CREDENTIALS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/\s:@]*:(?!\d{1,5}/|\$)[^\s@]+@")
# ?password=..., the PWD of an ODBC connection string, the signature of a shared-access URL
_PARAMETERS = re.compile(
    r"(?:[?&;{\s]|\A|odbc_connect=)[\w-]*(?:password|passwd|pwd|secret|token|\bsig|signature|accountkey)"
    r"\s*=\s*['\"]?[^&;\s$'\"]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class StoreUri:
    """The harmless parts of a database URI."""

    dialect: str
    driver: str
    driver_is_implied: bool
    database: str


def holds_password(value: str) -> bool:
    """Whether a password or signature is in this URI, connection string or command."""
    plain = unquote_plus(value)
    return bool(_CREDENTIALS.search(value) or _PARAMETERS.search(value) or _PARAMETERS.search(plain))


def login_in(url: str) -> tuple[str, ...]:
    """User and password before the bucket of an object store's address.

    In every way it could be read. Azure's `CONTAINER@ACCOUNT` is no login, nor is an Amazon resource name.
    """
    scheme, separator, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    if not separator or "@" not in rest or bucket.startswith("arn:"):
        return ()
    if ":" in bucket:  # a password may hold a slash, and an `@`
        fronts = [rest[: found.start()] for found in re.finditer("@", rest)]
        return tuple(part for front in fronts for part in front.split(":", 1))
    return (bucket.rpartition("@")[0],) if "@" in bucket and scheme.lower() in {"s3", "gs"} else ()


def parse_store_uri(uri: str) -> StoreUri:
    """Parse and check a database URI. ValueError repeats only dialect and driver."""
    match = _URI.match(uri)
    if not match:
        raise ValueError(
            "is not a database URI such as sqlite:///folder/file.sqlite or "
            "postgresql+psycopg://user:password@host:5432/database"
        )
    dialect, _, driver = match["scheme"].lower().partition("+")
    _check_driver(dialect, driver)
    database = unquote(match["database"] or "")
    if dialect == "sqlite":
        _check_sqlite(match["authority"], database)
    else:
        _check_authority(match["authority"], uri)
        # A driver may print the password alone, so it is kept out of texts by itself too.
        register(unquote(match["authority"].rpartition("@")[0].partition(":")[2]))
    return StoreUri(dialect, driver or IMPLIED[dialect], not driver, database)


def without_password(uri: str) -> str:
    """A database URI without its password and its query, either of which may be confidential; empty if it is none."""
    match = _URI.match(uri)
    if not match:
        return ""
    login, at, host = match["authority"].rpartition("@")
    database = "" if match["database"] is None else f"/{match['database']}"
    return f"{match['scheme']}://{login.partition(':')[0]}{at}{host}{database}"


def _check_driver(dialect: str, driver: str) -> None:
    if dialect not in DRIVERS:
        if dialect in _ALIASES:
            raise ValueError(f"begins with '{dialect}'; SQLAlchemy's name for it is '{_ALIASES[dialect]}'")
        raise ValueError(f"names an unsupported database; supported: {', '.join(sorted(DRIVERS))}")
    if driver and driver not in DRIVERS[dialect]:
        raise ValueError(f"names an unsupported driver for {dialect}; supported: {', '.join(sorted(DRIVERS[dialect]))}")
    if not driver and dialect not in IMPLIED:
        raise ValueError(
            f"names no driver, and the default one for {dialect} is not in the project: write "
            f"{dialect}+{SUPPORTED[dialect][0]}://..."
        )


def _check_sqlite(authority: str, database: str) -> None:
    if authority:
        raise ValueError(
            "must have three slashes before a relative path (sqlite:///folder/file) and four before an absolute one"
        )
    if database in ("", ":memory:") or "mode=memory" in database:
        raise ValueError("is an in-memory database: lost at every restart, and different in every worker")
    if database.endswith("/"):
        raise ValueError("names a folder; it must name a file")
    if leaves_its_folder(database):
        raise ValueError("contains '..': write a path below data/, or an absolute one")


def _check_authority(authority: str, uri: str) -> None:
    if ":" in authority and "@" not in authority and "@" in uri:  # all before the `@` would be the password
        raise ValueError(
            "has an '@' behind the host: write '/' and '?' within the password as %2F and %3F, and '@' elsewhere as %40"
        )
    if authority.count("@") > 1:
        raise ValueError("has an '@' too many: write '@' within the user name or password as %40")
    host = authority.rpartition("@")[2]
    bare = re.sub(r"\A\[[^\]]*\]", "", host)
    port = bare.partition(":")[2]
    if ":" in bare and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            "has an invalid port: use 1 to 65535 (within a password, write ':', '/' and '?' as %3A, %2F and %3F)"
        )


def check_shipped(store: StoreUri, added: Collection[str]) -> None:
    """Raise ValueError for a driver that neither the project nor an added package has."""
    shipped, *addable = SUPPORTED[store.dialect]
    if store.driver == shipped:
        return
    problem = f"states the driver {store.driver}, which the bundled project does not "
    instead = f"write {store.dialect}+{shipped}://, which it ships"
    if store.driver not in addable:
        raise ValueError(f"{problem}take: {instead}")
    packages = DRIVERS[store.dialect][store.driver]
    if not {*packages} & {package_name(package) for package in added}:
        raise ValueError(f"{problem}ship: {instead}, or add {packages[0]} to slipstream.dependencies")


def leaves_its_folder(location: str) -> bool:
    """Whether a path, or the path of a URL, has a `..` in it."""
    return ".." in re.split(r"[/\\:]", unquote(location))


def path_of(location: str) -> str | None:
    """The path that a location of files is, also as a `file:` URI; None for any other address."""
    match = _LOCATION.match(location)
    if match is None:
        return location
    return unquote(match["path"]) if match["scheme"].lower() == "file" else None
