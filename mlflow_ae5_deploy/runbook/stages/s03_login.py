"""Stage 3: we act as the service account."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage


class SignIn(Change):
    verb, resource = "sign in", "as"


@dataclass(frozen=True)
class LoginState:
    account: str
    username: str | None  # signed in; None while the account does not exist
    how: str


class LoginStage(Stage[LoginState]):
    number = 3
    name = "login"

    def observe(self, context: Context) -> LoginState:
        if context.access.account_missing:
            return LoginState(context.account, None, "")
        context.cached.projects()  # an API call that only a signed-in account gets an answer to
        return LoginState(context.account, context.platform.username, context.access.how)

    def diff(self, state: LoginState) -> Diff:
        if state.username is None:
            return Changes((SignIn(name=state.account, reason="possible once the account exists"),))
        return NoChange(f"signed in as {state.username}, {state.how}")

    def apply(self, change: Change, state: LoginState, context: Context) -> None:
        context.platform.whoami()
