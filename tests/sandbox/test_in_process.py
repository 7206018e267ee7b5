"""The sandbox inside the process that asked for it: it ends and leaves nothing open."""

from __future__ import annotations

import gc
import socket
import ssl
import warnings

from mlflow_ae5_deploy.sandbox.sandbox import Sandbox


def test_stopping_closes_connections_that_their_other_end_keeps_open(tmp_path):
    trusting = ssl._create_unverified_context()  # noqa: S323 - who is at the other end does not matter here
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Sandbox(tmp_path) as server:
            port = int(server.info.hostname.rpartition(":")[2])
            silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            idle = [
                trusting.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
                for _ in range(3)
            ]
        for connection in (*silent, *idle):
            connection.close()
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []
