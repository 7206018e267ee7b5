"""Stages 1 to 3 against a sandbox: what an administrator is told about an account, and how it is entered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runbook_support import context

from mlflow_ae5_deploy.ae5.access import Access
from mlflow_ae5_deploy.ae5.cache import PlatformCache
from mlflow_ae5_deploy.ae5.connect import PlatformTarget
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.common.errors import DeployError, LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.secret_refs import SecretRef, SecretResolver
from mlflow_ae5_deploy.config.settings import Settings
from mlflow_ae5_deploy.engine.context import Context, RunOptions
from mlflow_ae5_deploy.engine.executor import run
from mlflow_ae5_deploy.engine.stage import RunResult
from mlflow_ae5_deploy.runbook.stages.order import STAGES
from tests.manual_clock import ManualClock
from tests.sandbox.support import Admin, credentials

RIGHT = "right-planted-password"


def held(value: str) -> SecretRef:
    return SecretRef.holding(Secret(value))


@pytest.fixture
def enter(sandbox, tmp_path: Path):
    """Run the stages 1 to 3 as `account`; the administrator is the sandbox's."""
    opened: list[Access] = []

    def act(account: dict[str, Any], *, admin: bool = True, create: bool = False) -> RunResult:
        admin_login = credentials(sandbox.info)["admin"]
        rights = {"username": admin_login["username"], "password": held(admin_login["password"])} if admin else {}
        settings = Settings.model_validate({"account": account, "admin": rights})
        options = ConnectionOptions(sandbox.info.hostname, ca_file=sandbox.info.ca_file)
        target = PlatformTarget(options, "built-in", is_sandbox=True, read_only=False)
        access = Access(settings, target, SecretResolver({}, None), ManualClock())
        opened.append(access)
        made: Context = replace(
            context(tmp_path),
            settings=settings,
            access=access,
            cached=PlatformCache(access),
            options=RunOptions(create_account=create),
        )
        return run(STAGES[:3], made)

    yield act
    for access in opened:
        access.close()


@pytest.fixture(scope="module")
def accounts(sandbox) -> Admin:
    admin = Admin(sandbox.info)
    admin.create("svc-good", RIGHT)
    admin.create("svc-disabled", RIGHT, enabled=False)
    return admin


MESSAGES = [
    ("missing", "svc-missing", RIGHT, "`svc-missing` does not exist", "--create-account"),
    ("disabled", "svc-disabled", RIGHT, "`svc-disabled` exists but is disabled", "Enable it"),
    ("wrong password", "svc-good", "wrong-password", "password of `svc-good` is wrong: the account exists", "Correct"),
]


@pytest.mark.parametrize(("case", "name", "password", "what", "remedy"), MESSAGES, ids=[row[0] for row in MESSAGES])
def test_with_admin_rights_three_troubles_are_three_messages(enter, accounts, case, name, password, what, remedy):
    result = enter({"username": name, "password": held(password)})

    error = result.error
    assert isinstance(error, LoginFailed)
    assert what in error.what
    assert remedy in error.remedy
    assert error.where
    assert password not in text_of(error)
    assert result.writes == 0


@pytest.mark.parametrize(
    ("name", "password", "what"),
    [
        ("svc-missing", RIGHT, "rejected the name or the password of svc-missing"),
        ("svc-good", "wrong-password", "rejected the name or the password of svc-good"),
        ("svc-disabled", RIGHT, "svc-disabled is disabled"),
    ],
)
def test_without_them_it_is_what_the_login_page_says(enter, accounts, name, password, what):
    result = enter({"username": name, "password": held(password)}, admin=False)

    assert isinstance(result.error, LoginFailed)
    assert what in result.error.what


@pytest.mark.parametrize(
    ("account", "admin", "how"),
    [
        ({"password": held(RIGHT)}, False, "by the account's own password"),
        ({"password": held(RIGHT)}, True, "by the account's own password"),
        ({}, True, "impersonated by admin"),
        ({"password": held("wrong-password"), "impersonate": True}, True, "impersonated by admin"),
    ],
)
def test_ways_to_act_as_the_account(enter, accounts, account, admin, how):
    result = enter({"username": "svc-good", **account}, admin=admin)

    assert result.error is None, result.error
    assert [stage.outcome for stage in result.stages] == ["unchanged"] * 3
    assert f"signed in as svc-good, {how}" in result.stages[2].reason


def test_a_missing_account_is_created_on_request_and_signed_in_with_its_password(enter, accounts):
    account = {"username": "svc-new", "password": held(RIGHT)}

    first = enter(account, create=True)
    second = enter(account, create=True)

    assert first.error is None, first.error
    assert first.stages[0].outcome == "changed"
    assert "svc-new" in [user["username"] for user in accounts.call("GET", "users").json()]
    assert [stage.outcome for stage in second.stages] == ["unchanged"] * 3


def text_of(error: DeployError) -> str:
    return f"{error!r} {error.what} {error.where} {error.remedy} {error.detail}"
