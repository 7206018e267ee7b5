"""The proxy of a deployment: authorize a request, and forward it unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from http.cookies import SimpleCookie

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from mlflow_ae5_deploy.sandbox.api.requests import ACCOUNT
from mlflow_ae5_deploy.sandbox.auth.accounts import digest
from mlflow_ae5_deploy.sandbox.auth.login import SESSION_COOKIE, XSRF_COOKIE, auth_url, signed_in
from mlflow_ae5_deploy.sandbox.core import SandboxCore
from mlflow_ae5_deploy.sandbox.errors import ApiError
from mlflow_ae5_deploy.sandbox.models import SandboxDeployment
from mlflow_ae5_deploy.sandbox.ports import LOOPBACK
from mlflow_ae5_deploy.sandbox.supervisor.deployments import DeploymentSupervisor
from mlflow_ae5_deploy.sandbox.supervisor.processes import append_line

ERROR_PAGE = "/_errors/404.html"
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding")
) | {"upgrade", "proxy-connection", "expect"}
_OURS = frozenset(
    ("host", "cookie", "authorization", "anaconda-user", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
) | {"x-forwarded-port"}


class Proxy:
    def __init__(self, core: SandboxCore, deployments: DeploymentSupervisor, http: aiohttp.ClientSession) -> None:
        self._core = core
        self._deployments = deployments
        self._http = http

    async def handle(self, request: web.Request, label: str) -> web.StreamResponse:
        deployment = next((d for d in self._core.state.deployments.values() if d.label == label), None)
        if deployment is None:
            if self._core.is_being_released(label):
                return self._to_login(request)
            raise ApiError(404, "Not Found")
        user, by_token = self._visitor(request, deployment)
        if user is None:
            return self._to_login(request)
        request[ACCOUNT] = user
        if request.path == ERROR_PAGE:
            # The ingress's own page, there for every endpoint in use; ae5-tools asks for it to find out.
            return web.Response(text="<!DOCTYPE html><title>404</title>\n", content_type="text/html")
        port = self._deployments.app_port(deployment.id)
        if port is None:
            raise ApiError(502, "Bad Gateway")
        headers = self._headers(request, user, keep_authorization=not by_token)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request, port, headers)
        return await self._forward(request, deployment, port, headers)

    # -- who ------------------------------------------------------------------------------

    def _visitor(self, request: web.Request, deployment: SandboxDeployment) -> tuple[str | None, bool]:
        """The user name for the application (None: unknown), and whether a token was used."""
        account = signed_in(request)
        if deployment.public:
            return (account.username if account else ""), False
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if deployment.tokens.get(digest(token.strip()), 0.0) > time.time():
                return deployment.owner, True
            raise ApiError(401, "Unauthorized")
        if account is not None:
            if self._core.may_open(account, deployment):
                return account.username, False
            raise ApiError(403, "The deployment is not shared with you")
        return None, False

    def _to_login(self, request: web.Request) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise ApiError(401, "Unauthorized")
        back = f"https://{request.host}{request.path_qs}"
        headers = {"Location": auth_url(self._core, back)}
        return web.Response(status=302, headers=headers, content_type="text/html")

    # -- what is passed on ----------------------------------------------------------------

    def _headers(self, request: web.Request, user: str, *, keep_authorization: bool) -> CIMultiDict[str]:
        named = {h.strip().lower() for h in request.headers.get("Connection", "").split(",")}
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP | _OURS and name.lower() not in named
        )
        if keep_authorization and "Authorization" in request.headers:
            headers["Authorization"] = request.headers["Authorization"]
        cookies = _foreign_cookies(request.headers.getall("Cookie", []))
        if cookies:
            headers["Cookie"] = cookies
        headers["Host"] = request.host
        headers["X-Forwarded-For"] = request.remote or LOOPBACK
        headers["X-Forwarded-Proto"] = "https"
        headers["X-Forwarded-Host"] = request.host
        headers["X-Forwarded-Port"] = request.host.rpartition(":")[2]
        if user:
            headers["Anaconda-User"] = user
        return headers

    async def _forward(
        self, request: web.Request, deployment: SandboxDeployment, port: int, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        url = URL(f"http://{LOOPBACK}:{port}{request.raw_path}", encoded=True)
        response: web.StreamResponse | None = None
        try:
            async with self._http.request(
                request.method,
                url,
                headers=headers,
                data=request.content if request.body_exists else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            ) as answer:
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            append_line(
                self._deployments.log_folder(deployment) / "proxy.log",
                f"{request.method} {request.path}: {type(error).__name__}",
            )
            if response is None or not response.prepared:
                raise ApiError(502, "Bad Gateway") from error
            # Half an answer is out: abort the connection, so that it is not taken for a whole one.
            if request.transport is not None:
                request.transport.abort()
            return response

    async def _websocket(self, request: web.Request, port: int, headers: CIMultiDict[str]) -> web.StreamResponse:
        for name in [n for n in headers if n.lower().startswith("sec-websocket-")]:
            del headers[name]
        url = f"ws://{LOOPBACK}:{port}{request.raw_path}"
        try:
            async with self._http.ws_connect(url, headers=headers) as inner:
                outer = web.WebSocketResponse()
                await outer.prepare(request)
                tasks = [asyncio.create_task(_pump(outer, inner)), asyncio.create_task(_pump(inner, outer))]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                await outer.close()
                return outer
        except aiohttp.ClientError as error:
            raise ApiError(502, "Bad Gateway") from error


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    target: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)


def _foreign_cookies(headers: list[str]) -> str:
    """The application's cookies; the platform's own stay with us."""
    found = []
    for header in headers:
        jar = SimpleCookie()
        with contextlib.suppress(Exception):
            jar.load(header)
        found += [f"{n}={m.coded_value}" for n, m in jar.items() if n not in (SESSION_COOKIE, XSRF_COOKIE)]
    return "; ".join(found)
