"""Who may talk to the server and who may show it in a frame, derived from the names AE5 passes on the command line.

- MLflow answers 403 to any Host header it does not know, port included. Behind AE5 the public name arrives, from the
  kubelet and the pod's own network a private address, from a sidecar `localhost`.
- MLflow blocks state-changing requests with a foreign Origin header and has no exception for its own address: the
  browser sends `Origin: https://<endpoint>` with every POST of the UI, so the endpoint's origin must be allowed.
- The platform's deployment page shows the UI in a frame from another host. MLflow can only say SAMEORIGIN, DENY or
  nothing; nothing is what it is told when `frame_ancestors` is set, and `asgi.py` adds the precise policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_ae5_server.errors import UsageError

_HOST = re.compile(
    r"(?P<host>\*|\[[0-9A-Fa-f:.]+\]|(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?\Z"
)

# As in mlflow.server.security_utils, which cannot be imported before these settings are made.
# "[[]::1]" is the fnmatch pattern for "[::1]".
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "localhost:*", "127.0.0.1:*", "[[]::1]:*")
_PRIVATE = ("10.*", "192.168.*", *(f"172.{second}.*" for second in range(16, 32)), "fc00:*", "fd00:*")


@dataclass(frozen=True)
class HostPolicy:
    """`frame_ancestors` holds the origins that may frame the UI besides itself; empty means no one else may."""

    allowed_hosts: tuple[str, ...]
    cors_origins: tuple[str, ...]
    frame_ancestors: tuple[str, ...]

    @property
    def content_security_policy(self) -> str:
        return "frame-ancestors " + " ".join(("'self'", *self.frame_ancestors))

    @property
    def summary(self) -> str:
        """All hosts for a reader: those that were given by name first and whole, the usual ones in words."""
        usual = {*_LOCAL, *_PRIVATE}
        given = [host for host in self.allowed_hosts if host not in usual]
        named = [host for host in given if not (host.endswith(":*") and _without_port(host) in given)]
        return ", ".join((*named, "local and private addresses"))


def split_hosts(values: Iterable[str]) -> list[tuple[str, str | None]]:
    """(host, port) pairs of repeated, comma- or space-separated values; a scheme and a path are dropped.

    Raises UsageError for anything that is not a host name or address.
    """
    found: dict[tuple[str, str | None], None] = {}
    for text in re.split(r"[\s,]+", " ".join(values)):
        bare = re.sub(r"^[a-z]+://", "", text, flags=re.I).split("/", 1)[0]
        if not bare:
            continue
        match = _HOST.match(bare)
        if not match:
            raise UsageError(f"{text!r} is not a host name", "give host or host:port")
        found[match["host"].lower(), match["port"]] = None
    return list(found)


def derive(
    endpoint_hosts: Iterable[str],
    platform_hosts: Iterable[str],
    extra_hosts: Iterable[str] = (),
    extra_origins: Iterable[str] = (),
) -> HostPolicy:
    """The policy for a server reached as `endpoint_hosts` and framed by `platform_hosts` (host or host:port each)."""
    endpoints, platforms = split_hosts(endpoint_hosts), split_hosts(platform_hosts)
    allowed: dict[str, None] = {}
    for host, _port in (*endpoints, *platforms):
        if host == "*":
            continue  # "any host" would switch MLflow's check off
        allowed[host] = allowed[host.replace("[", "[[]") + ":*"] = None
    allowed.update(dict.fromkeys(item for item in extra_hosts if item))
    allowed.update(dict.fromkeys((*_LOCAL, *_PRIVATE)))
    origins = dict.fromkeys(_origin(host, port) for host, port in endpoints if host != "*")
    origins.update(dict.fromkeys(item for item in extra_origins if item))
    return HostPolicy(
        allowed_hosts=tuple(allowed),
        cors_origins=tuple(origins),
        frame_ancestors=tuple(dict.fromkeys(_origin(host, port) for host, port in platforms)),
    )


def _without_port(pattern: str) -> str:
    return pattern.removesuffix(":*").replace("[[]", "[")


def _origin(host: str, port: str | None) -> str:
    if host == "*":
        return "*"
    return f"https://{host}" if port in {None, "443"} else f"https://{host}:{port}"
