"""The control plane over HTTPS, on its own port, protected by the control token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from mlflow_ae5_deploy.sandbox.api.requests import json_fields, json_value
from mlflow_ae5_deploy.sandbox.control_plane.control import Control
from mlflow_ae5_deploy.sandbox.errors import ApiError

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def control_app(control: Control, token: str, start_database: Callable[[], Awaitable[str]]) -> web.Application:
    api = _ControlApi(control, start_database)
    app = web.Application(middlewares=[_guard(token)])
    app.add_routes(
        [
            web.get("/", api.snapshot),
            web.get("/calls", api.calls),
            web.delete("/calls", api.clear_calls),
            web.post("/faults", api.add_fault),
            web.delete("/faults", api.clear_faults),
            web.patch("/settings", api.change_settings),
            web.post("/clock", api.advance_clock),
            web.post("/database", api.start_database),
        ]
    )
    return app


def _guard(token: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "")
        if not hmac.compare_digest(sent.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
            return web.json_response({"error": "missing or wrong control token"}, status=401)
        try:
            return await handler(request)
        except ApiError as error:
            return web.json_response({"error": error.reason}, status=error.status)
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except RuntimeError as error:
            return web.json_response({"error": str(error)}, status=500)

    return guard


class _ControlApi:
    def __init__(self, control: Control, start_database: Callable[[], Awaitable[str]]) -> None:
        self._control = control
        self._start_database = start_database

    async def snapshot(self, _: web.Request) -> web.Response:
        return web.json_response(self._control.snapshot())

    async def calls(self, request: web.Request) -> web.Response:
        return web.json_response([asdict(c) for c in self._control.calls(request.query.get("surface"))])

    async def clear_calls(self, _: web.Request) -> web.Response:
        self._control.clear_calls()
        return web.json_response({})

    async def add_fault(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._control.add_fault(**await json_value(request))))

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._control.clear_faults()
        return web.json_response({})

    async def change_settings(self, request: web.Request) -> web.Response:
        return web.json_response(self._control.change_settings(**await json_value(request)).as_dict())

    async def advance_clock(self, request: web.Request) -> web.Response:
        fields = await json_fields(request, {"seconds": (int, float)})
        return web.json_response({"now": self._control.advance_clock(fields["seconds"])})

    async def start_database(self, _: web.Request) -> web.Response:
        """The URI holds the password; it goes to the holder of the control token only."""
        return web.json_response({"uri": await self._start_database()})
