"""Receivers of messages on loopback: a webhook, a mail server, and some that do not work."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "PLANTED-receiver-secret"


class Webhook:
    """Takes messages at `url`, and answers them with `status`."""

    def __init__(self, port: int) -> None:
        self.url = f"json://user:{SECRET}@127.0.0.1:{port}/{SECRET}/"
        self.status = 200
        self.messages: list[tuple[str, str]] = []  # title, text

    @property
    def titles(self) -> list[str]:
        return [title for title, _text in self.messages]


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.status == 200:
                receiver.messages.append((content["title"], content["message"]))
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_what: Any) -> None:
            """Not to the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Webhook(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def mail_server() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Its URL, and the messages it took."""
    from aiosmtpd.controller import Controller

    taken: list[tuple[str, str]] = []

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
            message = message_from_bytes(envelope.content)
            text = message.get_payload(decode=True) or b""
            taken.append((str(message["Subject"]), text.decode() if isinstance(text, bytes) else ""))
            return "250 OK"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"mailto://127.0.0.1:{port}/?from=mlflow@example.com&to=ops@example.com", taken
    finally:
        controller.stop()


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The URL of a receiver that accepts a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"json://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/?rto=600"


def dead() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"json://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/"
