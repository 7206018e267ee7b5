"""Artifacts through the server."""

from __future__ import annotations

import pytest
import responses
from mlflow_ae5_server.gc.remote import ServerStore


@responses.activate
def test_the_certificate_it_was_given_counts_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/another/ca.pem")
    responses.get("https://server/api/2.0/mlflow-artifacts/artifacts", json={"files": []})

    assert ServerStore("https://server", {}, "/the/ca.pem").top() == set()

    assert [call.request.req_kwargs["verify"] for call in responses.calls] == ["/the/ca.pem"]
