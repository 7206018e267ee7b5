"""Start the local sandbox for a verb that is given `--sandbox`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.cli.completion import DATABASES
from mlflow_ae5_deploy.common.errors import Configuration, Unreachable, Usage

if TYPE_CHECKING:
    from mlflow_ae5_deploy.sandbox.lifecycle import SandboxInfo

_SEE_LOGS = "See `mlflow-ae5-deploy sandbox logs`."


def sandbox_folder() -> Path:
    from mlflow_ae5_deploy.config.state_dir import state_root

    return state_root(None, os.environ) / "sandbox"


def bring_up(*, database: str | None) -> tuple[SandboxInfo, str | None]:
    """Start the sandbox if it is not up; with the URI of its PostgreSQL when that was asked for."""
    from mlflow_ae5_deploy.config.state_dir import private_dir

    if database is not None and database not in DATABASES:
        raise Usage(f"--database takes {' or '.join(DATABASES)}, not {database!r}.", where="--database")
    lifecycle = sandbox_lifecycle()
    folder = sandbox_folder()
    private_dir(folder.parent)  # said here in the words of the configuration when it is not possible
    try:
        # Without a wish the sandbox stays with what it has, so that a second install does not move the data.
        has_postgresql = lifecycle.database_uri(folder) is not None
        if database == "sqlite" and has_postgresql:
            raise Usage(
                "This sandbox runs on PostgreSQL already, and its data would stay behind there.",
                where="--database",
                remedy="Leave --database out, or start anew with `mlflow-ae5-deploy sandbox reset`.",
            )
        if database is None and has_postgresql:
            database = "postgresql"
        info = lifecycle.up(folder, database=database or "sqlite")
        uri = lifecycle.database_uri(folder) if database == "postgresql" else None
    except lifecycle.SandboxError as error:
        raise unreachable(error, folder) from None
    if database == "postgresql" and uri is None:
        raise Unreachable("The sandbox is up, but gives no PostgreSQL.", where=str(folder), remedy=_SEE_LOGS)
    return info, uri


def credentials(info: SandboxInfo) -> dict[str, Any]:
    accounts: dict[str, Any] = json.loads(info.credentials_file.read_text())
    return accounts


def sandbox_lifecycle() -> Any:
    from mlflow_ae5_deploy.common.parts import install_sandbox, missing_for_sandbox

    if missing := missing_for_sandbox():
        raise Configuration(
            f"The extra [sandbox] is not installed (missing: {', '.join(missing)}).",
            where=sys.prefix,
            remedy=f"Install it: `{install_sandbox()}`.",
        )
    from mlflow_ae5_deploy.sandbox import lifecycle

    return lifecycle


def unreachable(error: Exception, folder: Path) -> Unreachable:
    """Its first line says what; what follows is the end of the sandbox's log."""
    what, _, log = str(error).partition("\n")
    return Unreachable(what.removesuffix(" The end of its log:"), where=str(folder), remedy=_SEE_LOGS, detail=log)
