"""Fixtures of the sandbox tests."""

from __future__ import annotations

import pytest

from tests.sandbox.support import Client


@pytest.fixture(scope="module")
def client(sandbox):
    return Client(sandbox.info, "dev-user")
