"""Which hosts and origins may use the server, and which may frame it.

- Behind AE5 the public name arrives as the Host header, from the kubelet and the pod's own network a private address,
  from a sidecar `localhost`. Everything else is refused. MLflow's own check cannot tell a name from an address
  (`10.*` also matches `10.evil.example`), so MLflow allows "*", and this policy decides.
- MLflow blocks state-changing requests with a foreign Origin header and has no exception for its own address: the
  browser sends `Origin: https://<endpoint>` with every POST of the UI, so the endpoint's origin must be allowed. And it
  allows every origin on localhost, credentials included, without being configured to.
- The platform's deployment page shows the UI in a frame from another host. MLflow can only say SAMEORIGIN, DENY or
  nothing; with `frame_ancestors` it says nothing, and `host_guard.py` adds the precise policy.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_ae5_server.common.errors import Usage

_HOST = re.compile(
    r"(?P<host>\*|\[[0-9A-Fa-f:.]+\]|(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>[0-9]{1,5}))?\Z"
)
_HEADER = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}|\*))?\Z")
_FOR_ADDRESSES = re.compile(r"[0-9.*]+|\[[0-9a-f:.*]+\]")  # a pattern without a name in it

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


@dataclass(frozen=True)
class HostPolicy:
    """Hosts and origins that the server accepts."""

    allowed_hosts: tuple[str, ...]  # names, addresses, networks (10.0.0.0/8) or patterns (*.example.com), perhaps ports
    cors_origins: tuple[str, ...]
    frame_ancestors: tuple[str, ...]  # origins that may frame the UI besides itself

    @property
    def content_security_policy(self) -> str:
        return "frame-ancestors " + " ".join(("'self'", *self.frame_ancestors))

    @property
    def summary(self) -> str:
        """The hosts, for the log: configured names first, the usual ones in words."""
        named = [host for host in self.allowed_hosts if host not in {*_LOCAL, *_PRIVATE}]
        return ", ".join((*named, "local and private addresses"))

    def allows_host(self, header: str) -> bool:
        """Whether a request with this Host header may pass."""
        return any(_matches(allowed, header.lower()) for allowed in self.allowed_hosts)

    def allows_origin(self, header: str) -> bool:
        """Whether a page of this origin may use the API, with credentials if sent."""
        return any(_origin_matches(allowed, header.lower()) for allowed in self.cors_origins)


def _origin_matches(allowed: str, origin: str) -> bool:
    if "*" not in allowed or allowed == "*":
        return allowed in {origin, "*"}
    scheme, _, host = origin.partition("://")
    desired, _, pattern = allowed.partition("://")
    return fnmatch.fnmatchcase(scheme, desired) and _matches(pattern, host)


def _matches(allowed: str, host: str) -> bool:
    """Whether a host, in lower case, is allowed; without a port, on any port."""
    if allowed == "*":
        return True
    requested = _HEADER.match(host)
    if not requested:
        return False
    address = _address(requested["host"])
    if (network := _network(allowed)) is not None:
        return address is not None and address in network
    entry = _HEADER.match(allowed)
    if not entry or entry["port"] not in {None, "*", requested["port"]}:
        return False
    if (network := _network(entry["host"])) is not None:
        return address is not None and address in network
    if _FOR_ADDRESSES.fullmatch(entry["host"]) and address is None:
        return False
    return fnmatch.fnmatchcase(requested["host"], entry["host"].replace("[", "[[]"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        return None


def split_hosts(values: Iterable[str]) -> list[tuple[str, str | None]]:
    """(host, port) pairs of comma- or space-separated values.

    A scheme and a path are dropped.

    Raises Usage for anything that is not a host name or address.
    """
    pairs: dict[tuple[str, str | None], None] = {}
    for text in re.split(r"[\s,]+", " ".join(values)):
        bare = re.sub(r"^[a-z]+://", "", text, flags=re.I).split("/", 1)[0]
        if not bare:
            continue
        match = _HOST.match(bare)
        if not match:
            raise Usage(f"{text!r} is not a host name", "give host or host:port")
        pairs[match["host"].lower(), match["port"]] = None
    return list(pairs)


def derive(
    endpoint_hosts: Iterable[str],
    platform_hosts: Iterable[str],
    extra_hosts: Iterable[str] = (),
    extra_origins: Iterable[str] = (),
) -> HostPolicy:
    """The policy for a server at `endpoint_hosts`, framed by `platform_hosts`."""
    endpoints, platforms = split_hosts(endpoint_hosts), split_hosts(platform_hosts)
    # "any host" would switch the check off
    allowed = dict.fromkeys(host for host, _port in (*endpoints, *platforms) if host != "*")
    allowed.update(dict.fromkeys(item.strip().lower() for item in extra_hosts if item.strip()))
    allowed.update(dict.fromkeys((*_LOCAL, *_PRIVATE)))
    origins = dict.fromkeys(_origin(host, port) for host, port in endpoints if host != "*")
    origins.update(dict.fromkeys(item.strip().lower() for item in extra_origins if item.strip()))
    return HostPolicy(
        allowed_hosts=tuple(allowed),
        cors_origins=tuple(origins),
        frame_ancestors=tuple(dict.fromkeys(_origin(host, port) for host, port in platforms)),
    )


def _origin(host: str, port: str | None) -> str:
    if host == "*":
        return "*"
    return f"https://{host}" if port in {None, "443"} else f"https://{host}:{port}"
