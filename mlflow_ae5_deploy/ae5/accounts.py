"""The administrator's session: accounts of the identity provider, impersonation."""

from __future__ import annotations

from functools import partial
from http.cookiejar import CookieJar
from typing import Any

from requests.cookies import RequestsCookieJar

from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.ae5.parsing import as_list, parse_user
from mlflow_ae5_deploy.ae5.providers.builtin import ADMIN_BASE
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin, Connection
from mlflow_ae5_deploy.ae5.session import Session
from mlflow_ae5_deploy.common.errors import Conflict, LoginFailed, Refused, UnexpectedAnswer
from mlflow_ae5_deploy.common.redaction import Secret

DEFAULT_ROLE = "default-roles-anacondaplatform"
_PAGE = 1000


class AdminSession(Session):
    """A signed-in administrator of the identity provider (Keycloak)."""

    def __init__(self, connection: Connection, hostname: str, username: str, *, read_only: bool) -> None:
        super().__init__(connection, hostname, username, base=ADMIN_BASE, read_only=read_only)

    def users(self) -> list[User]:
        """All accounts of the platform's realm."""
        return [parse_user(record) for record in self._pages("users")]

    def find_user(self, username: str) -> User | None:
        """The account of that name, compared as Keycloak does: without regard to case."""
        desired = username.casefold()
        return next((user for user in self.users() if user.username.casefold() == desired), None)

    def create_user(self, username: str, email: str, first_name: str, last_name: str, password: Secret) -> User:
        """Create an enabled account with the default role. Conflict if it exists."""
        account = {
            "username": username,
            "email": email,
            "firstName": first_name,
            "lastName": last_name,
            "enabled": True,
            "emailVerified": True,
            "groups": ["everyone"],
            "credentials": [{"type": "password", "temporary": False, "value": password.reveal()}],
        }
        try:
            self.call("POST", "users", json=account, expect="text")
        except Conflict:
            what = f"An account {username}, or one with that e-mail, exists already."
            raise Conflict(what, where=self.hostname) from None
        user = self.find_user(username)
        if user is None:
            raise UnexpectedAnswer(f"The account {username} was created but is not listed.", where=self.hostname)
        self._give_default_role(user)
        return user

    def login_as(self, user: User) -> AccountLogin:
        """Impersonation of that account, for which this session must stay open. LoginFailed if it is disabled."""
        if not user.enabled:
            raise LoginFailed(
                f"The account {user.username} is disabled.",
                where=self.hostname,
                remedy="Have an administrator enable it.",
            )
        return AccountLogin(user.username, impersonate=partial(self.impersonate, user))

    def impersonate(self, user: User) -> CookieJar:
        """Cookies of a new session of that account, removed from the administrator's own.

        LoginFailed if the platform refuses.
        """
        jar = self.connection.http.cookies
        try:
            self.call("POST", f"users/{user.id}/impersonation", expect="text")
        except Refused as refusal:
            raise LoginFailed(
                f"The platform does not let {self.username} act as {user.username}: {refusal.what}",
                where=self.hostname,
                status=refusal.status,
                remedy="Check that the account is enabled.",
            ) from None
        theirs = RequestsCookieJar()
        for cookie in jar:
            theirs.set_cookie(cookie)
        jar.clear()
        return theirs

    def _give_default_role(self, user: User) -> None:
        role = next((role for role in self._pages("roles") if role.get("name") == DEFAULT_ROLE), None)
        if role is None:
            raise UnexpectedAnswer(f"The platform has no role {DEFAULT_ROLE}.", where=self.hostname)
        body = [{"id": role.get("id"), "name": DEFAULT_ROLE}]
        self.call("POST", f"users/{user.id}/role-mappings/realm", json=body, expect="text")

    def _pages(self, path: str) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        while True:
            params = {"first": len(records), "max": _PAGE}
            page = as_list(self.call("GET", path, params=params), path)
            records.extend(page)
            if len(page) < _PAGE:
                return records
