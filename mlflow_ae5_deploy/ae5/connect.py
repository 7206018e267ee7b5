"""Open a session: choose the provider, sign in."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Literal

from mlflow_ae5_deploy.ae5.accounts import AdminSession
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.providers import builtin
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin, Connection
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.ae5.transport import guard
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.optional_packages import (
    OLDEST_AE5_TOOLS,
    ae5_tools_version,
    install_ae5_tools,
    too_old,
    update_ae5_tools,
)

Provider = Literal["auto", "ae5-tools", "built-in"]


@dataclass(frozen=True)
class PlatformTarget:
    """A platform, and how to reach it. read_only: refuse every write."""

    options: ConnectionOptions
    provider: Provider
    is_sandbox: bool
    read_only: bool = False


def open_session(target: PlatformTarget, login: AccountLogin, clock: Clock) -> UserSession:
    """Sign in as an account. Raises Configuration, LoginFailed, and as `Session.call`."""
    if not login.username:
        raise Configuration("No account is given to sign in as.", where="account.username")
    connection = _connect(target, login, clock, "UserConnection")
    session = UserSession(connection, target.options.hostname, login.username, read_only=target.read_only)
    session.sign_in()
    return session


def open_admin(target: PlatformTarget, login: AccountLogin, clock: Clock) -> AdminSession:
    """Sign in as an administrator of the identity provider, at once."""
    connection = _connect(target, login, clock, "AdminConnection")
    admin = AdminSession(connection, target.options.hostname, login.username, read_only=target.read_only)
    admin.sign_in()
    return admin


def _connect(
    target: PlatformTarget, login: AccountLogin, clock: Clock, kind: Literal["UserConnection", "AdminConnection"]
) -> Connection:
    options = target.options
    chosen = choose_provider(target.provider, is_sandbox=target.is_sandbox)
    options.check()
    mount = partial(guard, options=options, clock=clock, read_only=target.read_only)
    if chosen == "ae5-tools":
        connection: Connection = getattr(_ae5tools(), f"Ae5Tools{kind}")(options.hostname, login, mount)
    else:
        connection = getattr(builtin, f"BuiltIn{kind}")(options.hostname, login, mount)
    return connection


def choose_provider(provider: Provider, *, is_sandbox: bool) -> Literal["ae5-tools", "built-in"]:
    """Choose ae5-tools, or the built-in provider on the sandbox."""
    if provider == "auto":
        return "built-in" if is_sandbox else "ae5-tools"
    if provider == "built-in" and not is_sandbox:
        raise Configuration(
            "The built-in session provider works on the sandbox only.",
            where="platform.session",
            remedy="Set it to `auto` or `ae5-tools`.",
        )
    return provider


def check_provider(provider: Provider, *, is_sandbox: bool) -> None:
    """Raise Configuration, without a request, if the provider cannot be used."""
    if choose_provider(provider, is_sandbox=is_sandbox) == "ae5-tools":
        _ae5tools()


def _ae5tools() -> ModuleType:
    """Our ae5-tools provider; Configuration if ae5-tools is missing or unusable."""
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
        f"ae5-tools, which is required for AE5 clusters, cannot be used: {problem}.",
        where="ae5-tools",
        remedy=install_ae5_tools(),
    )
