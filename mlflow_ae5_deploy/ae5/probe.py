"""Probe a host before signing in: its name, certificate and clock.

Sends nothing but a TLS handshake and one GET without credentials.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from mlflow_ae5_deploy.ae5.error_map import shielded
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.transport import guard
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer


@dataclass(frozen=True)
class Certificate:
    subject: str  # common name, or organisation where there is none
    issuer: str  # likewise
    names: tuple[str, ...]
    not_after: datetime


@dataclass(frozen=True)
class Handshake:
    version: str
    chain: tuple[Certificate, ...]  # the server's first, and alone where Python has no others


def split_host(host: str) -> tuple[str, int]:
    """Name and port of `host` or `host:port`."""
    parts = urlsplit(f"https://{host}")
    return parts.hostname or "", parts.port or 443


def proxy_for(host: str) -> str | None:
    """Host of the environment's proxy for requests to `host`, or None."""
    proxies = requests.utils.get_environ_proxies(f"https://{host}/")
    proxy = proxies.get("https") or proxies.get("all")
    return urlsplit(proxy).netloc.rpartition("@")[2] or "a proxy" if proxy else None


def addresses(host: str) -> list[str]:
    """The addresses of the host's name. Raises Unreachable."""
    name, port = split_host(host)
    found = shielded(lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM), host=host)
    return sorted({str(entry[4][0]) for entry in found})


def connect(host: str, options: ConnectionOptions) -> None:
    """Open a connection, and close it. Raises Unreachable."""
    shielded(lambda: socket.create_connection(split_host(host), timeout=options.connect_timeout).close(), host=host)


def handshake(host: str, options: ConnectionOptions, *, verify: bool = True) -> Handshake:
    """Agree on TLS; with `verify`, with the trust of requests. Raises PlatformError."""
    return shielded(lambda: _handshake(host, options, verify), host=host)


def _handshake(host: str, options: ConnectionOptions, verify: bool) -> Handshake:
    name, port = split_host(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify:
        _trust(context, options)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.client_cert is not None:
        context.load_cert_chain(options.client_cert)
    with socket.create_connection((name, port), timeout=options.connect_timeout) as plain:
        plain.settimeout(options.connect_timeout)
        with context.wrap_socket(plain, server_hostname=name) as secure:
            return Handshake(secure.version() or "", _chain(secure, verify))


def _trust(context: ssl.SSLContext, options: ConnectionOptions) -> None:
    trust = options.trust()
    where = trust if isinstance(trust, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
    try:
        context.load_verify_locations(cafile=where)
    except IsADirectoryError:
        context.load_verify_locations(capath=where)


def _chain(secure: ssl.SSLSocket, verified: bool) -> tuple[Certificate, ...]:
    """The whole chain by Python's private interface; else the leaf."""
    inner: Any = getattr(secure, "_sslobj", None)
    read = getattr(inner, "get_verified_chain" if verified else "get_unverified_chain", None)
    infos = [entry.get_info() for entry in read() or ()] if read is not None else [secure.getpeercert()]
    return tuple(_certificate(info) for info in infos if info and "notAfter" in info)


def _certificate(info: Any) -> Certificate:
    return Certificate(
        subject=_name(info.get("subject", ())),
        issuer=_name(info.get("issuer", ())),
        names=tuple(str(value) for kind, value in info.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
        not_after=datetime.fromtimestamp(ssl.cert_time_to_seconds(info["notAfter"]), UTC),
    )


def _name(parts: Any) -> str:
    fields = {key: value for group in parts for key, value in group}
    return str(fields.get("commonName") or fields.get("organizationName") or "(no name)")


def clock_skew(options: ConnectionOptions, clock: Clock) -> float:
    """Seconds that the platform's clock is ahead, to about one. Raises PlatformError."""
    http = requests.Session()
    adapter = guard(http, options, clock, read_only=True)
    try:
        address = f"https://{options.hostname}/"
        shielded(lambda: http.get(address, allow_redirects=False), host=options.hostname)
        after = clock.now()
    finally:
        http.close()
    dated = adapter.dated
    if dated is None:
        raise UnexpectedAnswer("The platform's answer has no date in it.", where=options.hostname)
    # the header has whole seconds, truncated: half of one is added back
    return dated.stated.timestamp() + 0.5 - (dated.sent.timestamp() + after.timestamp()) / 2
