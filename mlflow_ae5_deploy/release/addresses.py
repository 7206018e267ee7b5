"""Addresses of releases: which are taken, and how they are shown."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.redaction import register

_LONG_ENOUGH_FOR_A_SECRET = 16  # of a query's values: shorter ones are words such as "true"


def public_form(url: str) -> str:
    """The URL for messages and records: without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def check_url(url: str, called: str) -> str:
    """The URL if it is https, or http on loopback. Registers its secrets."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Configuration(f"The address of {called} is not a URL.", where=called) from None
    for secret in (parts.password or "", unquote(parts.password or "")):
        register(secret)
    for _, value in parse_qsl(parts.query):
        if len(value) >= _LONG_ENOUGH_FOR_A_SECRET:
            register(value)
    if not host:
        raise Configuration(f"The address of {called} names no host.", where=public_form(url))
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return url
    raise Configuration(
        f"The address of {called} is not https.",
        where=public_form(url),
        remedy="Use an https:// address; http:// is only taken for this very machine.",
    )


def host_of(url: str) -> str:
    """Host and port, without userinfo."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
