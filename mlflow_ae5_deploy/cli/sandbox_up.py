"""Start the local sandbox for a verb that is given `--sandbox`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.common.errors import Configuration, Unreachable, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.secret_refs import SecretRef
    from mlflow_ae5_deploy.render.console import Reporter
    from mlflow_ae5_deploy.sandbox.lifecycle import SandboxInfo

_SEE_LOGS = "See `mlflow-ae5-deploy sandbox logs`."


@dataclass(frozen=True)
class SandboxOverrides:
    """What a verb with --sandbox uses in place of its own configuration."""

    settings: dict[str, Any]
    """Dotted setting -> value: address, trust, administrator, database."""
    passwords: dict[str, SecretRef]
    """Of the sandbox's accounts."""
    mounts_secrets: bool
    """Whether its commands find secrets where AE5 has them."""


def announce_first_install(reporter: Reporter) -> None:
    """Say what `install --sandbox` does and how long it takes, where the sandbox has never run."""
    if not reporter.json_mode and sandbox_lifecycle().hostname(sandbox_folder()) is None:
        reporter.note("Starting an AE5 sandbox on this machine, and installing an MLflow server on it in 14 stages.")
        reporter.note("The first time takes about half a minute.")


def sandbox_overrides(reporter: Reporter, *, database: str | None) -> SandboxOverrides:
    """Start the sandbox if it is not up. database: see bring_up."""
    from mlflow_ae5_deploy.common.redaction import Secret
    from mlflow_ae5_deploy.config.secret_refs import SecretRef

    info, database_uri = bring_up(reporter, database=database)
    accounts: dict[str, Any] = json.loads(info.credentials_file.read_text())
    settings = _platform_settings(info.hostname, info.ca_file, accounts["admin"]["username"]) | {
        "admin.password": SecretRef.holding(Secret(accounts["admin"]["password"])),
    }
    if database_uri is not None:
        settings["server.backend_store_uri"] = SecretRef.holding(Secret(database_uri))
    passwords = {**accounts.get("reserved", {}), **accounts["users"]}
    references = {name: SecretRef.holding(Secret(password)) for name, password in passwords.items()}
    return SandboxOverrides(settings, references, info.mounts_secrets)


def overrides_without_start() -> SandboxOverrides:
    """For a verb that reads local files only: the sandbox is not started. No address where it has never run."""
    lifecycle, folder = sandbox_lifecycle(), sandbox_folder()
    settings = _platform_settings(
        called(lifecycle.hostname, folder), called(lifecycle.ca_file, folder), lifecycle.ADMIN
    )
    return SandboxOverrides(settings, {}, mounts_secrets=True)


def _platform_settings(hostname: str | None, ca_file: Path | None, admin: str) -> dict[str, Any]:
    return {
        "platform.hostname": hostname,
        "platform.ca_file": ca_file,
        "platform.verify_tls": True,
        "platform.client_cert": None,
        "account.impersonate": True,
        "account.create": True,
        "admin.username": admin,
    }


def require_running() -> None:
    """For a verb that reads what a running sandbox has. Raises Unreachable where none runs."""
    if called(sandbox_lifecycle().status, sandbox_folder()) is None:
        raise Unreachable(
            "The sandbox is not running.",
            where=str(sandbox_folder()),
            remedy="Start it with `mlflow-ae5-deploy sandbox up`.",
        )


def sandbox_folder() -> Path:
    from mlflow_ae5_deploy.config.state_dir import state_root

    return state_root(None, os.environ) / "sandbox"


def bring_up(reporter: Reporter, *, database: str | None) -> tuple[SandboxInfo, str | None]:
    """Start the sandbox if it is not up; return its address, and the URI of its PostgreSQL if it uses that.

    database: sqlite or postgresql; None: what it has, so that a second install does not move the data.
    """
    from mlflow_ae5_deploy.config.state_dir import private_dir

    lifecycle = sandbox_lifecycle()
    folder = sandbox_folder()
    private_dir(folder.parent)  # raises the error of a configuration if that is not possible
    has_postgresql = called(lifecycle.database_uri, folder) is not None
    if database == "sqlite" and has_postgresql:
        raise Usage(
            "This sandbox uses PostgreSQL, and its data would stay there.",
            where="--database",
            remedy="Leave --database out, or start a new sandbox with `mlflow-ae5-deploy sandbox reset`.",
        )
    if lifecycle.status(folder) is None:
        reporter.doing("starting the sandbox")
    if not has_postgresql and database != "postgresql":
        return called(lifecycle.up, folder, database="sqlite"), None
    info = called(lifecycle.up, folder, database="postgresql")
    uri = called(lifecycle.database_uri, folder)
    if uri is None:
        raise Unreachable("The sandbox is running, but has no PostgreSQL.", where=str(folder), remedy=_SEE_LOGS)
    return info, uri


def sandbox_lifecycle() -> Any:
    """Import the module that starts and stops the sandbox. Raises Configuration where its packages are missing."""
    from mlflow_ae5_deploy.common.optional_packages import install_extra, missing_for_sandbox

    if missing := missing_for_sandbox():
        raise Configuration(
            f"The extra [sandbox] is not installed (missing: {', '.join(missing)}).",
            where=sys.prefix,
            remedy=f"Install it: `{install_extra('sandbox')}`.",
        )
    from mlflow_ae5_deploy.sandbox import lifecycle

    return lifecycle


def called(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of the sandbox's lifecycle and log it. Raises Unreachable for a SandboxError."""
    import logging

    from mlflow_ae5_deploy.sandbox.lifecycle import SandboxError

    log = logging.getLogger(__name__)
    log.info("%s: begin, %s", function.__name__, sandbox_folder())
    try:
        result = function(*arguments, **options)
    except SandboxError as error:
        what, _, end_of_log = str(error).partition("\n")
        what = what.removesuffix(" The end of its log:")
        raise Unreachable(what, where=str(sandbox_folder()), remedy=_SEE_LOGS, detail=end_of_log) from None
    log.info("%s: end", function.__name__)
    return result
