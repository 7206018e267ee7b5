"""Open sessions: which provider, whose credentials, reading only or not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar
from types import ModuleType
from typing import Literal

from mlflow_ae5_deploy.ae5.accounts import AdminSession
from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.providers import builtin
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import Configuration, LoginFailed
from mlflow_ae5_deploy.common.parts import (
    OLDEST_AE5_TOOLS,
    ae5_tools_version,
    install_ae5_tools,
    too_old,
    update_ae5_tools,
)
from mlflow_ae5_deploy.common.redaction import Secret

Provider = Literal["auto", "ae5-tools", "built-in"]


@dataclass(frozen=True)
class UserCredentials:
    username: str
    password: Secret


@dataclass(frozen=True)
class AdminCredentials:
    username: str
    password: Secret


@dataclass(frozen=True)
class Impersonation:
    """admin must stay open as long as the session that it impersonates: a lost session is replaced through it."""

    admin: AdminSession
    user: User


def open_session(
    options: ConnectionOptions,
    *,
    provider: Provider,
    credentials: UserCredentials | Impersonation,
    clock: Clock,
    read_only: bool = False,
    is_sandbox: bool,
) -> UserSession:
    """Sign in as the service account, at once. Raises Configuration, LoginFailed and what a call may raise."""
    chosen = choose_provider(provider, is_sandbox=is_sandbox)
    options.check()
    password: Secret | None = None
    impersonate: Callable[[], CookieJar] | None = None
    if isinstance(credentials, Impersonation):
        admin, user = credentials.admin, credentials.user
        username = user.username
        if not user.enabled:
            raise LoginFailed(
                f"The account {username} is disabled.",
                where=options.hostname,
                remedy="Have an administrator enable it.",
            )

        def impersonate() -> CookieJar:
            return admin.impersonate(user)
    else:
        username, password = credentials.username, credentials.password
    if not username:
        raise Configuration("No account is given to sign in as.", where="account.username")
    make = _ae5tools().Ae5ToolsUserConnection if chosen == "ae5-tools" else builtin.BuiltInUserConnection
    connection = make(options, clock, username, password=password, impersonate=impersonate, read_only=read_only)
    session = UserSession(connection, options.hostname, username, read_only=read_only)
    session.sign_in()
    return session


def open_admin(
    options: ConnectionOptions,
    *,
    provider: Provider,
    credentials: AdminCredentials,
    clock: Clock,
    read_only: bool = False,
    is_sandbox: bool,
) -> AdminSession:
    """Sign in as an administrator of the identity provider, at once."""
    chosen = choose_provider(provider, is_sandbox=is_sandbox)
    options.check()
    make = _ae5tools().Ae5ToolsAdminConnection if chosen == "ae5-tools" else builtin.BuiltInAdminConnection
    connection = make(options, clock, credentials.username, credentials.password, read_only=read_only)
    admin = AdminSession(connection, options.hostname, credentials.username, read_only=read_only)
    admin.sign_in()
    return admin


def choose_provider(provider: Provider, *, is_sandbox: bool) -> Literal["ae5-tools", "built-in"]:
    """Real platforms are reached through ae5-tools only; the sandbox needs nothing that pip cannot bring."""
    if provider == "auto":
        return "built-in" if is_sandbox else "ae5-tools"
    if provider == "built-in" and not is_sandbox:
        raise Configuration(
            "The built-in session provider is for the sandbox only.",
            where="platform.session",
            remedy="Leave the provider at `auto`, or set it to `ae5-tools`.",
        )
    return provider


def check_provider(provider: Provider, *, is_sandbox: bool) -> None:
    """Raise Configuration, without a request, if the provider for this platform cannot be used."""
    if choose_provider(provider, is_sandbox=is_sandbox) == "ae5-tools":
        _ae5tools()


def _ae5tools() -> ModuleType:
    """Our ae5-tools provider; Configuration if ae5-tools is missing, too old or does not load."""
    installed = ae5_tools_version()
    if installed is not None and too_old(installed):
        raise Configuration(
            f"ae5-tools {installed} is too old; {OLDEST_AE5_TOOLS} or newer is required.",
            where="ae5-tools",
            remedy=update_ae5_tools(),
        )
    problem = ""
    try:
        return importlib.import_module("mlflow_ae5_deploy.ae5.providers.ae5tools")
    except ImportError as error:
        problem = f"it cannot be imported ({error.name or 'unknown module'})"
    except Exception as error:  # its import creates a folder, and fails as it likes
        problem = f"its import failed ({type(error).__name__}); is AE5_TOOLS_CONFIG_DIR or ~/.ae5 writable?"
    raise Configuration(
        f"A real platform is reached through ae5-tools, but {problem}.",
        where="ae5-tools",
        remedy=install_ae5_tools(),
    )
