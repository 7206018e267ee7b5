"""What signing in and looking at everything costs, over the sandbox."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from mlflow_ae5_deploy.clock import SystemClock
from mlflow_ae5_deploy.platform.connect import AdminCredentials, Impersonation, open_admin, open_session
from mlflow_ae5_deploy.platform.options import ConnectionOptions
from mlflow_ae5_deploy.platform.platform import Platform
from mlflow_ae5_deploy.redaction import Secret


def test_an_administrator_looks_at_everything_within_fifteen_requests(sandbox: Any, provider: str) -> None:
    info = sandbox.info
    admin_word = json.loads(info.credentials_file.read_text())["admin"]
    options = ConnectionOptions(info.hostname, ca_file=info.ca_file)
    clock = SystemClock()
    sandbox.control.clear()
    admin = open_admin(
        options,
        provider=provider,  # type: ignore[arg-type]
        credentials=AdminCredentials(admin_word["username"], Secret(admin_word["password"])),
        clock=clock,
        is_sandbox=True,
    )
    user = admin.find_user("dev-user")
    assert user is not None
    session = open_session(
        options,
        provider=provider,  # type: ignore[arg-type]
        credentials=Impersonation(admin, user),
        clock=clock,
        read_only=True,
        is_sandbox=True,
    )
    platform = Platform(session, clock)
    assert platform.whoami() == "dev-user"
    platform.projects()
    platform.deployments()
    platform.secret_names()
    platform.jobs()
    platform.static_endpoints()
    session.close()
    admin.close()
    calls = sandbox.control.calls("platform")
    assert session.requests_made + admin.requests_made == len(calls) <= 15
    assert session.writes_made + admin.writes_made == 0


def test_an_account_made_by_the_administrator_can_sign_in(sandbox: Any, provider: str) -> None:
    from mlflow_ae5_deploy.platform.connect import UserCredentials

    info = sandbox.info
    admin_word = json.loads(info.credentials_file.read_text())["admin"]
    options = ConnectionOptions(info.hostname, ca_file=info.ca_file)
    admin = open_admin(
        options,
        provider=provider,  # type: ignore[arg-type]
        credentials=AdminCredentials(admin_word["username"], Secret(admin_word["password"])),
        clock=SystemClock(),
        is_sandbox=True,
    )
    name = f"svc-{uuid4().hex[:8]}"
    made = admin.create_user(name, f"{name}@example.invalid", "Service", "Account", Secret("long-password-1"))
    assert admin.find_user(name) == made
    session = open_session(
        options,
        provider=provider,  # type: ignore[arg-type]
        credentials=UserCredentials(name, Secret("long-password-1")),
        clock=SystemClock(),
        is_sandbox=True,
    )
    assert Platform(session, SystemClock()).whoami() == name
    session.close()
    admin.close()
