"""Stage 2: Python, ae5-tools, TLS trust and reachability are in order."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.ae5.connect import check_provider
from mlflow_ae5_deploy.common.parts import ae5_tools_version
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


@dataclass(frozen=True)
class EnvironmentState:
    """ae5_tools is None where that package is not installed."""

    python: str
    ae5_tools: str | None
    hostname: str
    answered: int


class EnvironmentStage:
    number: ClassVar[int] = 2
    name: ClassVar[str] = "environment"
    promise: ClassVar[str] = "Python, ae5-tools, TLS trust and reachability are in order"

    def check(self, context: Context) -> None:
        target = context.access.target
        check_provider(target.provider, is_sandbox=target.is_sandbox)

    def observe(self, context: Context) -> EnvironmentState:
        if not context.access.missing:
            context.cached.projects()
        requests, _ = context.access.costs()
        return EnvironmentState(
            platform.python_version(), ae5_tools_version(), context.access.target.options.hostname, requests
        )

    def plan(self, state: EnvironmentState, context: Context) -> Decision:
        options = context.access.target.options
        warnings = []
        if not options.verify_tls:
            trust = "TLS certificate NOT verified"
            warnings.append(
                "TLS verification is switched off: anyone between here and the platform can read the password. "
                "Set platform.ca_file instead."
            )
        else:
            trust = f"TLS certificate verified against {options.ca_file or 'the system trust store'}"
        tools = (
            f"ae5-tools {state.ae5_tools}"
            if state.ae5_tools
            else "ae5-tools not installed (not needed for the sandbox)"
        )
        return Decision.nothing(f"Python {state.python}, {tools}; {state.hostname} answers, {trust}", *warnings)

    def apply(self, action: Action, state: EnvironmentState, context: Context) -> None:
        """Nothing to change here."""

    def verify(self, context: Context) -> str | None:
        return None
