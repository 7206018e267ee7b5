"""Warnings about settings that are allowed but risky."""

from __future__ import annotations

from mlflow_ae5_deploy.common.durations import parse_ttl
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.config.database_uri import parse_store_uri
from mlflow_ae5_deploy.config.persistence import lost_at_restart
from mlflow_ae5_deploy.config.settings import Settings

_TTL = "MLFLOW_TRACKING_GC_TTL"


def advice(settings: Settings) -> list[str]:
    """Sentences for the reader, in the order of the settings."""
    words: list[str] = []
    if not settings.platform.verify_tls:
        words.append("platform.verify_tls is off: anyone between here and the platform can read the passwords sent.")
    uri = settings.server.backend_store_uri
    if isinstance(uri, str):
        words += store_advice(uri)
    words += _ttl_advice(settings)
    return words + lost_at_restart(settings)


def _ttl_advice(settings: Settings) -> list[str]:
    """The time until deletion may be zero, and whoever writes it may have meant `never`."""
    message = {"server.gc_ttl": settings.server.gc_ttl, f"gc.variables.{_TTL}": settings.gc.variables.get(_TTL)}
    return [
        f"{setting} is {text}: garbage collection purges deleted experiments and runs at once and permanently."
        for setting, text in message.items()
        if text is not None and _is_zero(text)
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
        f"The database URI states no driver; {store.dialect}:// means {store.driver} on SQLAlchemy 2.1 and meant "
        f"another one before. Write {store.dialect}+{store.driver}:// to be sure."
    ]
