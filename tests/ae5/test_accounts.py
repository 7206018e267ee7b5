"""Accounts of the sandbox: signing in as them, making them, and what looking at everything costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

import pytest

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.connect import PlatformTarget, open_admin, open_session
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.common.clock import SystemClock
from mlflow_ae5_deploy.common.errors import Conflict, LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret

PASSWORD = "a-long-password-1"

Open = Callable[..., UserSession]


@pytest.fixture
def target(sandbox, provider):
    sandbox.control.clear()
    options = ConnectionOptions(sandbox.info.hostname, ca_file=sandbox.info.ca_file)
    return PlatformTarget(options, provider, is_sandbox=True)


@pytest.fixture
def admin(sandbox, target):
    account = json.loads(sandbox.info.credentials_file.read_text())["admin"]
    made = open_admin(target, AccountLogin(account["username"], Secret(account["password"])), SystemClock())
    yield made
    made.close()


@pytest.fixture
def sign_in(target, admin):
    with ExitStack() as stack:

        def act(login, **more):
            made = open_session(replace(target, **more), login, SystemClock())
            stack.callback(made.close)
            return made

        yield act


def test_an_administrator_reads_everything_within_fifteen_requests(sandbox, admin, sign_in):
    user = admin.find_user("dev-user")
    assert user is not None
    session = sign_in(admin.login_as(user), read_only=True)
    platform = Client(session, SystemClock())
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


def test_an_account_made_by_the_administrator_can_sign_in_and_exists_once(admin, sign_in):
    name = f"svc-{uuid4().hex[:8]}"
    made = admin.create_user(name, f"{name}@example.invalid", "Service", "Account", Secret(PASSWORD))
    assert admin.find_user(name) == made
    assert Client(sign_in(AccountLogin(name, Secret(PASSWORD))), SystemClock()).whoami() == name
    with pytest.raises(Conflict, match=name):
        admin.create_user(name, f"{name}@example.invalid", "Service", "Account", Secret(PASSWORD))


def test_wrong_missing_and_disabled_accounts(sandbox, admin, sign_in):
    """Without admin rights the platform itself tells them apart only as far as Keycloak does."""
    from tests.sandbox.support import Admin

    name = f"off-{uuid4().hex[:8]}"
    Admin(sandbox.info).create(name, PASSWORD, enabled=False)
    with pytest.raises(LoginFailed, match="name or the password"):
        sign_in(AccountLogin("dev-user", Secret("not the password")))
    with pytest.raises(LoginFailed, match="name or the password"):
        sign_in(AccountLogin("no-such-account", Secret("not the password")))
    with pytest.raises(LoginFailed, match=f"{name} is disabled"):
        sign_in(AccountLogin(name, Secret(PASSWORD)))
    user = admin.find_user(name)
    assert user is not None
    assert not user.enabled
    assert admin.find_user("no-such-account") is None
    with pytest.raises(LoginFailed, match=f"{name} is disabled"):
        sign_in(admin.login_as(user))
