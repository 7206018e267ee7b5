"""Loopback ports of the sandbox, stable across restarts."""

from __future__ import annotations

import random
import socket
import ssl
import time

from aiohttp import web

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.info import SandboxError

LOOPBACK = "127.0.0.1"
# Below the ports of outgoing connections, so that a port is likely to be free after a restart; and apart from those
# that servers have for as long as they run, which would else get the port of another sandbox that is stopped.
KEPT = range(20000, 32000)
TEMPORARY = range(10000, 20000)


def listen(port: int | None, purpose: str) -> socket.socket:
    """A listening socket on loopback: on `port`, or on a free one for None and 0.

    Raises SandboxError when `port` stays in use for a second.
    """
    if not port:
        return _listen_anywhere(KEPT)
    deadline = time.monotonic() + 1
    while True:
        try:
            return _listen(port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"Port {port} ({purpose}) on {LOOPBACK} is in use by another program ({error.strerror}). "
                    "Stop that program, or delete the sandbox and its data with `sandbox reset`."
                ) from error
            time.sleep(0.1)


def free_port(ports: range = TEMPORARY) -> int:
    """A port that is free now."""
    with _listen_anywhere(ports) as found:
        port: int = found.getsockname()[1]
    return port


def _listen_anywhere(ports: range) -> socket.socket:
    for _ in range(50):
        try:
            return _listen(random.choice(ports))  # noqa: S311 - not a secret
        except OSError:
            continue
    return _listen(0)


def _listen(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((LOOPBACK, port))
        found.listen(128)
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found


def wildcard_names_resolve() -> bool:
    """Whether `<anything>.ae5.localhost` resolves here: yes with systemd's resolver."""
    try:
        found = socket.getaddrinfo("x.ae5.localhost", None, socket.AF_INET)
    except OSError:
        return False
    return all(entry[4][0] == LOOPBACK for entry in found)


class Endpoints:
    """Open and close the endpoints' own ports; unused with sub-domains."""

    def __init__(self, core: SandboxCore, runner: web.AppRunner, tls: ssl.SSLContext) -> None:
        self._core = core
        self._runner = runner
        self._tls = tls
        self._sites: dict[str, web.SockSite] = {}

    async def start(self) -> None:
        if not self._core.vhosts:
            for label in self._used():
                await self.open(label)

    async def open(self, label: str) -> None:
        """A port once given to a label stays with it, so that its address is stable."""
        if self._core.vhosts or label in self._sites:
            return
        ports = self._core.state.endpoint_ports
        listener = listen(ports.get(label), f"endpoint {label}")
        ports[label] = listener.getsockname()[1]
        site = web.SockSite(self._runner, listener, ssl_context=self._tls)
        await site.start()
        self._sites[label] = site

    async def close_unclaimed(self) -> None:
        """Addresses without a static endpoint go with their deployment."""
        used = self._used()
        for label in [x for x in self._sites if x not in used]:
            await self._sites.pop(label).stop()

    def _used(self) -> set[str]:
        return {d.label for d in self._core.state.deployments.values()} | set(self._core.state.claims)

    def label_of_port(self, port: int) -> str | None:
        return next((label for label, p in self._core.state.endpoint_ports.items() if p == port), None)
