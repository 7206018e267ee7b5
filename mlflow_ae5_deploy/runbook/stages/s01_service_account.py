"""Stage 1: the account exists, is enabled and is dedicated to this server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.common.errors import LoginFailed
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


@dataclass(frozen=True)
class AccountState:
    """user is None without admin rights, or when the account does not exist."""

    admin: bool
    user: User | None
    foreign_projects: tuple[str, ...]


class ServiceAccountStage:
    number: ClassVar[int] = 1
    name: ClassVar[str] = "service-account"
    promise: ClassVar[str] = "the service account exists, is enabled and is dedicated to the server"

    def observe(self, context: Context) -> AccountState:
        user = context.access.find_account() if context.access.has_admin else None
        may_look = not context.access.has_admin or (user is not None and user.enabled)
        foreign = (
            tuple(
                sorted(
                    p.name
                    for p in context.cached.projects()
                    if p.owner == context.account and p.name != context.settings.project.name
                )
            )
            if may_look
            else ()
        )
        return AccountState(context.access.has_admin, user, foreign)

    def plan(self, state: AccountState, context: Context) -> Decision:
        account = context.account
        if state.admin and state.user is None:
            if not context.options.create_account:
                raise LoginFailed(
                    f"The account `{account}` does not exist.",
                    where=context.access.target.options.hostname,
                    remedy="Have it created with --create-account, or correct account.username.",
                )
            return Decision.do(
                Action("create", f"account {account}", "it does not exist, and creating it was asked for")
            )
        if state.user is not None and not state.user.enabled:
            raise LoginFailed(
                f"The account `{account}` exists but is disabled.",
                where=context.access.target.options.hostname,
                remedy="Enable it in the platform's user administration, then run this again.",
            )
        warnings = []
        if state.foreign_projects:
            names = ", ".join(state.foreign_projects)
            warnings.append(
                f"`{account}` also owns other projects ({names}): every secret of the account is visible to them. "
                "A dedicated account is safer."
            )
        reason = "exists and is enabled" if state.admin else "proved by signing in (no admin credentials to look it up)"
        return Decision.nothing(f"`{account}` {reason}", *warnings)

    def apply(self, action: Action, state: AccountState, context: Context) -> None:
        context.access.create_account()
        context.journal.write("effect", action="create", target=f"account {context.account}")
        context.cached.forget()

    def verify(self, context: Context) -> str | None:
        context.cached.projects()
        return f"`{context.account}` was created and can sign in"
