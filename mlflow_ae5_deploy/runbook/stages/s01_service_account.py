"""Stage 1: the account exists, is enabled and is dedicated to this server."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.engine.change import Change
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import Changes, Diff, NoChange, Stage


class CreateAccount(Change):
    verb, resource = "create", "account"


@dataclass(frozen=True)
class AccountState:
    account: str
    admin: bool
    user: User | None  # None without admin rights, or when the account does not exist
    other_projects: tuple[str, ...]

    @property
    def missing(self) -> bool:
        return self.admin and self.user is None


class ServiceAccountStage(Stage[AccountState]):
    number = 1
    name = "service-account"

    def observe(self, context: Context) -> AccountState:
        user = context.access.find_account() if context.access.has_admin else None
        readable = not context.access.has_admin or (user is not None and user.enabled)
        if readable:
            context.access.platform()  # sign in; a wrong password is an error of this stage
        projects = context.cached.projects() if readable else []
        own = context.settings.project.name
        others = sorted(item.name for item in projects if item.owner == context.account and item.name != own)
        return AccountState(context.account, context.access.has_admin, user, tuple(others))

    def check(self, state: AccountState, context: Context) -> None:
        if state.missing and not context.options.create_account:
            raise LoginFailed(
                f"The account `{state.account}` does not exist.",
                where=context.access.target.options.hostname,
                remedy="Run `install --create-account`, or correct account.username.",
            )
        if state.user is not None and not state.user.enabled:
            raise LoginFailed(
                f"The account `{state.account}` exists but is disabled.",
                where=context.access.target.options.hostname,
                remedy="Enable it in the platform's user administration, then run this again.",
            )

    def diff(self, state: AccountState) -> Diff:
        if state.missing:
            return Changes((CreateAccount(name=state.account, reason="it does not exist"),))
        warnings = []
        if state.other_projects:
            names = ", ".join(state.other_projects)
            warnings.append(
                f"Other projects of {state.account} ({names}) can read all its secrets. Use a dedicated account."
            )
        reason = "exists and is enabled" if state.admin else "can sign in (not looked up: no admin credentials)"
        return NoChange(f"{state.account} {reason}", tuple(warnings))

    def apply(self, change: Change, state: AccountState, context: Context) -> None:
        context.access.create_account()
        context.journal.effect("create", "account", context.account)
        context.cached.forget()

    def verify(self, context: Context) -> str | None:
        context.access.platform()
        context.cached.projects()
        return None
