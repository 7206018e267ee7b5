"""Stage 2: Python, ae5-tools and TLS are as required, the platform reachable."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.ae5.connect import check_provider
from mlflow_ae5_deploy.common.optional_packages import ae5_tools_version
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Diff, NoChange, Stage


@dataclass(frozen=True)
class EnvironmentState:
    python: str
    ae5_tools: str | None  # None if not installed
    hostname: str
    verify_tls: bool
    ca_file: Path | None  # None for the system's trust store


class EnvironmentStage(Stage[EnvironmentState]):
    number = 2
    name = "environment"

    def preflight(self, context: Context) -> None:
        target = context.access.target
        check_provider(target.provider, is_sandbox=target.is_sandbox)

    def observe(self, context: Context) -> EnvironmentState:
        if not context.access.account_missing:
            context.cached.projects()
        options = context.access.target.options
        return EnvironmentState(
            platform.python_version(), ae5_tools_version(), options.hostname, options.verify_tls, options.ca_file
        )

    def diff(self, state: EnvironmentState) -> Diff:
        tools = f"ae5-tools {state.ae5_tools}" if state.ae5_tools else "no ae5-tools (not needed for the sandbox)"
        start = f"{state.hostname} is reachable; Python {state.python}, {tools}"
        if state.verify_tls:
            return NoChange(f"{start}; TLS certificate verified against {state.ca_file or 'the system trust store'}")
        warning = (
            "TLS verification is off: anyone between this machine and the platform can read the password. "
            "Set platform.ca_file instead."
        )
        return NoChange(f"{start}; TLS certificate NOT verified", (warning,))
