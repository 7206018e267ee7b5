"""Stage 7: data is restored before the server first starts, when that is asked for."""

from __future__ import annotations

from typing import ClassVar

from mlflow_ae5_deploy.runbook.context import Context
from mlflow_ae5_deploy.runbook.model import Action, Decision


class Recovery:
    number: ClassVar[int] = 7
    name: ClassVar[str] = "recovery"
    promise: ClassVar[str] = "database and artifacts are restored before the server first starts, if asked for"

    def observe(self, context: Context) -> None:
        """Nothing to look at: an install never restores."""

    def plan(self, facts: None, context: Context) -> Decision:
        return Decision.nothing("no restore was asked for")

    def apply(self, action: Action, facts: None, context: Context) -> None:
        """Nothing to change here."""

    def verify(self, context: Context) -> str | None:
        return None
