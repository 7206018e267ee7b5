"""A scripted HTTPS server for what goes wrong on the wire. It knows the login; everything else a test tells it."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import trustme

FORM = (
    '<html><title>Sign in</title><form id="kc-form-login" onsubmit="x" '
    'action="{origin}/auth/realms/AnacondaPlatform/login-actions/authenticate?a=1&amp;b=2" method="post"></form></html>'
)
WRONG_PASSWORD = FORM + "<span>Invalid username or password.</span>"


@dataclass(frozen=True)
class Reply:
    """drop: close the connection instead of answering. trickle: send a byte now and then, for ever."""

    status: int = 200
    reason: str | None = None
    body: bytes = b""
    kind: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    drop: bool = False
    delay: float = 0.0
    trickle: bool = False
    cut_short: bool = False


def answer(value: Any, status: int = 200, reason: str | None = None) -> Reply:
    return Reply(status, reason, json.dumps(value).encode())


def page(text: str, status: int = 200) -> Reply:
    return Reply(status, body=text.encode(), kind="text/html; charset=utf-8")


def redirect(location: str) -> Reply:
    return Reply(302, headers=(("Location", location),), kind=None)


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answerer = Callable[[Call], Reply]


@dataclass
class _Rule:
    method: str
    path: re.Pattern[str]
    replies: list[Reply | Answerer]
    always: bool


@dataclass
class Stub:
    """users: name -> password, for the login form. sessions: cookie values that are signed in."""

    address: str = ""
    users: dict[str, str] = field(default_factory=lambda: {"svc": "right-password"})
    admins: dict[str, str] = field(default_factory=lambda: {"root": "admin-password"})
    accounts: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": "u-1", "username": "svc", "enabled": True, "email": "svc@x"}]
    )
    sessions: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    unauthenticated: Literal["401", "302", "page"] = "401"
    _rules: list[_Rule] = field(default_factory=list)
    _count: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def origin(self) -> str:
        return f"https://{self.address}"

    def on(self, method: str, path: str, *replies: Reply | Answerer, always: bool = False) -> None:
        """Answer matching requests with `replies` in turn, then as before; with `always`, the last one for ever.

        Paths below /api/v2 are given without it. Rules act before the login is checked.
        """
        full = path if path.startswith("/") else f"/api/v2/{path}"
        self._rules.insert(0, _Rule(method, re.compile(full), list(replies), always))

    def sent(self, method: str, path: str) -> list[Call]:
        full = path if path.startswith("/") else f"/api/v2/{path}"
        return [call for call in self.calls if call.method == method and re.fullmatch(full, call.path)]

    def forget_sessions(self) -> None:
        self.sessions.clear()

    def reply_to(self, call: Call) -> Reply:
        self.calls.append(call)
        for rule in self._rules:
            if rule.method == call.method and rule.path.fullmatch(call.path) and rule.replies:
                reply = rule.replies[0] if rule.always and len(rule.replies) == 1 else rule.replies.pop(0)
                return reply(call) if callable(reply) else reply
        if call.path.startswith(("/auth/", "/login", "/logout")) or call.path == "/":
            return self._login_reply(call)
        if not self._signed_in(call):
            return self._not_signed_in()
        if (call.method, call.path) == ("GET", "/api/v2/projects"):
            return answer([])
        return Reply(404, "Not Found", b"{}")

    def _signed_in(self, call: Call) -> bool:
        cookies = call.headers.get("cookie", "")
        return any(f"ae5={session}" in cookies for session in self.sessions)

    def _not_signed_in(self) -> Reply:
        if self.unauthenticated == "302":
            return redirect("/login")
        if self.unauthenticated == "page":
            return page(FORM.format(origin=self.origin))
        return Reply(401, "Unauthorized")

    def _start(self) -> Reply:
        self._count += 1
        return redirect(f"{self.origin}/login?code=c{self._count}")

    def _login_reply(self, call: Call) -> Reply:
        realm = "/auth/realms/AnacondaPlatform"
        if call.path == f"{realm}/protocol/openid-connect/auth":
            if "sso=yes" in call.headers.get("cookie", ""):
                return self._start()
            return page(FORM.format(origin=self.origin))
        if call.path == f"{realm}/login-actions/authenticate":
            form = parse_qs(call.body.decode())
            name, password = form.get("username", [""])[0], form.get("password", [""])[0]
            if not name or self.users.get(name) != password:
                return page(WRONG_PASSWORD.format(origin=self.origin))
            return self._start()
        if call.path == "/login":
            session = f"s{self._count}"
            self.sessions.add(session)
            cookies = (("Set-Cookie", f"ae5={session}; Path=/"), ("Set-Cookie", f"_xsrf=x{self._count}; Path=/"))
            return Reply(302, headers=(("Location", "/"), *cookies), kind=None)
        if call.path == "/logout":
            self.sessions.clear()
            return redirect("/")
        if call.path == "/":
            return page("<html>front page</html>")
        return self._admin_reply(call)

    def _admin_reply(self, call: Call) -> Reply:
        form = parse_qs(call.body.decode()) if call.method == "POST" else {}
        if call.path == "/auth/realms/master/protocol/openid-connect/token":
            name = form["username"][0]
            if self.admins.get(name) != form["password"][0]:
                return answer({"error": "invalid_grant"}, 401, "Unauthorized")
            return answer({"access_token": "admin-access-token", "refresh_token": "admin-refresh-token"})
        if call.path.endswith("/openid-connect/logout"):
            return Reply(204, kind=None)
        if call.headers.get("authorization") != "Bearer admin-access-token":
            return Reply(401, "Unauthorized")
        if call.path.endswith("/users") and call.method == "GET":
            return answer(self.accounts)
        if call.path.endswith("/impersonation"):
            return Reply(200, body=b"{}", headers=(("Set-Cookie", "sso=yes; Path=/"),))
        return Reply(404, "Not Found", b"{}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        stub = self.server.stub
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = stub.reply_to(Call(self.command, parts.path, parse_qs(parts.query), headers, body))
        if reply.delay:
            stub.closing.wait(reply.delay)
        if reply.drop:
            self.close_connection = True
            return
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        self.send_response_only(reply.status, reply.reason)
        if reply.kind:
            self.send_header("Content-Type", reply.kind)
        for name, value in reply.headers:
            self.send_header(name, value)
        length = len(reply.body) + (10_000 if reply.trickle else 50 if reply.cut_short else 0)
        if reply.status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()
        self.close_connection = self.close_connection or reply.trickle or reply.cut_short
        while reply.trickle and not self.server.stub.closing.wait(0.02):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815

    def log_message(self, *_args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    stub: Stub

    def handle_error(self, *_args: Any) -> None:
        """Broken handshakes and connections are what the tests are about."""


@contextmanager
def running(
    certificate: trustme.LeafCert, *, client_ca: trustme.CA | None = None, name: str = "localhost"
) -> Iterator[Stub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server = _Server(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.stub = Stub(address=f"{name}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
    thread.start()
    try:
        yield server.stub
    finally:
        server.stub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
