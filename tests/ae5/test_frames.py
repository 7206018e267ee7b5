"""How deep a call gets from a resource API to the provider: a stack trace, and a newcomer, pass few frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.session import UserSession
from tests.manual_clock import ManualClock

CALLS: dict[str, Callable[[Client], Any]] = {
    "list": lambda client: client.deployments(),
    "get": lambda client: client.deployment("a2-1"),
    "read text": lambda client: client.run_log("1"),
    "write once": lambda client: client.issue_token("a2-1"),
    "write by id": lambda client: client.set_collaborators("a2-1", []),
    "delete": lambda client: client.delete_job("1"),
}


class Recorder:
    """A connection on which every request ends, noting how many frames it passed on its way."""

    def __init__(self) -> None:
        self.adapter = SimpleNamespace(requests_made=0, writes_made=0)
        self.http = requests.Session()
        self.frames: list[list[str]] = []

    def sign_in(self) -> None: ...

    def sign_out(self) -> None: ...

    def send(self, _method: str, _path: str, **_request: Any) -> requests.Response:
        names = [frame.function for frame in inspect.stack()]
        self.frames.append(names[: names.index("<lambda>")])
        response = requests.Response()
        response.status_code, response._content = 204, b""
        return response


@pytest.mark.parametrize("name", CALLS)
def test_at_most_four_frames_from_a_resource_api_to_the_provider(name):
    connection = Recorder()
    client = Client(UserSession(connection, "h", "me", read_only=False), ManualClock())
    try:
        CALLS[name](client)
    except Exception:
        assert connection.frames, "nothing was sent"
    assert max(len(frames) for frames in connection.frames) <= 4, connection.frames
