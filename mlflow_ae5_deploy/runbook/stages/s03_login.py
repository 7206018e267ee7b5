"""Stage 3: we act as the service account."""

from __future__ import annotations

from typing import ClassVar

from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


class LoginStage:
    number: ClassVar[int] = 3
    name: ClassVar[str] = "login"
    promise: ClassVar[str] = "we act as the service account"

    def observe(self, context: Context) -> str | None:
        if context.access.missing:
            return None
        context.cached.projects()  # an API call that only a signed-in account gets an answer to
        return context.platform.username

    def plan(self, state: str | None, context: Context) -> Decision:
        if state is None:
            return Decision.do(Action("sign in", f"as {context.account}", "possible once the account exists"))
        return Decision.nothing(f"signed in as `{state}`, {context.access.how}")

    def apply(self, action: Action, state: str | None, context: Context) -> None:
        context.platform.whoami()

    def verify(self, context: Context) -> str | None:
        return f"signed in as `{context.account}`, {context.access.how}"
