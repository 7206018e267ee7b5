"""Warnings about settings that are allowed but risky."""

from __future__ import annotations

from mlflow_ae5_deploy.common.durations import parse_ttl
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.variable_names import DATABASE, GC_TTL
from mlflow_ae5_deploy.config.database_uri import parse_store_uri, path_of
from mlflow_ae5_deploy.config.server_variables import meant
from mlflow_ae5_deploy.config.settings import Settings


def advice(settings: Settings) -> list[str]:
    """Sentences for the reader, in the order of the settings."""
    words: list[str] = []
    if not settings.platform.verify_tls:
        words.append("platform.verify_tls is off: anyone between this machine and the platform can read the passwords.")
    uri = settings.server.backend_store_uri
    if isinstance(uri, str):
        words += store_advice(uri)
    ttls = {"server.gc_ttl": settings.server.gc_ttl, f"gc.variables.{GC_TTL}": settings.gc.variables.get(GC_TTL)}
    words += [
        f"{setting} is {text}: garbage collection purges deleted experiments and runs at once and permanently."
        for setting, text in ttls.items()
        if text is not None and _is_zero(text)  # may have been meant as "never"
    ]
    return words + misspelt(settings) + lost_at_restart(settings)


def misspelt(settings: Settings) -> list[str]:
    """Variables of the bundled release that nothing reads. Another release may have variables of its own."""
    if settings.release.source != "bundled":
        return []
    sections = {"server": settings.server.variables, "slipstream": settings.slipstream.variables}
    return [
        f"{section}.variables.{name} is not a variable of MLflow or of the server; did you mean {correct}?"
        for section, names in (sections | {"gc": settings.gc.variables}).items()
        for name in names
        if (correct := meant(name))
    ]


def _is_zero(text: str) -> bool:
    try:
        return not parse_ttl(text)
    except Configuration:
        return False


def store_advice(uri: str) -> list[str]:
    """About a valid database URI. Repeats no part of it but dialect and driver."""
    store = parse_store_uri(uri)
    if not store.driver_is_implied or store.dialect == "sqlite":
        return []
    return [
        f"The database URI names no driver, and the default changed with SQLAlchemy 2.1. Write "
        f"{store.dialect}+{store.driver}:// to be sure."
    ]


def lost_at_restart(settings: Settings) -> list[str]:
    """A sentence for each store whose relative path is not below data/."""
    return [
        f"{setting} is a relative path outside data/: everything stored there is lost at every restart."
        for setting, path in _paths(settings).items()
        if not path.startswith("/") and [part for part in path.split("/") if part not in ("", ".")][:1] != ["data"]
    ]


def _paths(settings: Settings) -> dict[str, str]:
    """Setting -> path, of the stores that are a file or folder."""
    server, variables = settings.server, {"slipstream": settings.slipstream.variables, "gc": settings.gc.variables}
    databases: dict[str, object] = {"server.backend_store_uri": server.backend_store_uri}
    databases |= {f"{section}.variables.{DATABASE}": given.get(DATABASE) for section, given in variables.items()}
    paths = {}
    for setting, uri in databases.items():
        if isinstance(uri, str) and (store := parse_store_uri(uri)).dialect == "sqlite":
            paths[setting] = store.database.removeprefix("file:")
    locations = {
        "server.artifacts_destination": server.artifacts_destination,
        "server.default_artifact_root": server.default_artifact_root,
        "backup.destination": settings.backup.destination,
    }
    for setting, location in locations.items():
        if isinstance(location, str) and (path := path_of(location)) is not None:
            paths[setting] = path
    return paths
