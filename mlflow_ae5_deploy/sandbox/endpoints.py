"""Where deployments can be reached, when each has a port of its own on localhost."""

from __future__ import annotations

import ssl

from aiohttp import web

from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.ports import listen


class Endpoints:
    """Opens and closes the endpoints' own ports. With sub-domains on the platform's port there is nothing to do."""

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
        socket = listen(ports.get(label), f"endpoint {label}")
        ports[label] = socket.getsockname()[1]
        site = web.SockSite(self._runner, socket, ssl_context=self._tls)
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
