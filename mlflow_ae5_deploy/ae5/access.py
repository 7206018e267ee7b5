"""Access to the platform: sessions are opened lazily, at most one per account."""

from __future__ import annotations

from collections.abc import Callable

from mlflow_ae5_deploy.ae5.accounts import AdminSession
from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.connect import PlatformTarget, open_admin, open_session
from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin
from mlflow_ae5_deploy.ae5.resource_api import OnWait, WaitTimeouts
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.common.clock import Clock
from mlflow_ae5_deploy.common.errors import Configuration, LoginFailed
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.secret_refs import SecretRef, SecretResolver
from mlflow_ae5_deploy.config.settings import Settings


class Access:
    """Opens and closes the sessions of one run, and counts what they cost."""

    def __init__(
        self,
        settings: Settings,
        target: PlatformTarget,
        values: SecretResolver,
        clock: Clock,
        on_wait: OnWait | None = None,
    ) -> None:
        self._settings = settings
        self.target = target
        self._values = values
        self._clock = clock
        self._on_wait = on_wait
        self._admin: AdminSession | None = None
        self._user: User | None = None
        self._platform: Client | None = None
        self._sessions: list[UserSession | AdminSession] = []
        self.account_missing = False
        """True when a look-up with admin rights has shown that the account does not exist (yet)."""
        self.before_call: Callable[[bool], None] | None = None
        """Called before each call as the service account or a consumer, with whether it is a write."""
        self.lock_writes = 0
        """Writes of the lock itself, which change nothing of the installation."""

    @property
    def account(self) -> str:
        username = self._settings.account.username
        if not username:
            raise Configuration(
                "No service account is configured.",
                where="account.username",
                remedy="Set it in the configuration, with --username or with AE5_USERNAME.",
            )
        return username

    @property
    def has_admin(self) -> bool:
        return self._settings.admin.username is not None

    @property
    def impersonates(self) -> bool:
        account = self._settings.account
        return self.has_admin and (account.impersonate or account.password is None)

    @property
    def how(self) -> str:
        if self.impersonates:
            return f"impersonated by {self._settings.admin.username}"
        return "by the account's own password"

    def require_credentials(self) -> None:
        """Raise Configuration if the service account's credentials are incomplete."""
        if self.has_admin:
            self._admin_reference()
        if not self.impersonates:
            self._account_reference()

    def require_consumer(self, username: str, password: object) -> None:
        """Raise LoginFailed without a password and an administrator."""
        if password is None and not self.has_admin:
            raise LoginFailed(
                f"Cannot act as the consumer `{username}`: no password and no administrator is configured.",
                where=f"consumers: {username}",
                remedy="Give the consumer a `password` reference, or configure admin credentials.",
            )

    def admin(self) -> AdminSession:
        if self._admin is None:
            username, reference = self._admin_reference()
            login = AccountLogin(username, self._values.secret(reference, "administrator's password"))
            self._admin = open_admin(self.target, login, self._clock)
            self._sessions.append(self._admin)
        return self._admin

    def find_account(self) -> User | None:
        """The service account, looked up once by an administrator."""
        if self._user is None:
            self._user = self.admin().find_user(self.account)
            self.account_missing = self._user is None
        return self._user

    def create_account(self) -> User:
        """Create the account, by default with a random password that is not stored."""
        account = self._settings.account
        password = (
            self._values.secret(account.password, f"password for the new account {self.account}")
            if account.password is not None
            else Secret(self._values.random_password())
        )
        self._user = self.admin().create_user(
            username=self.account,
            email=account.email or f"{self.account}@{self.target.options.hostname.split(':')[0]}",
            first_name=account.first_name,
            last_name=account.last_name,
            password=password,
        )
        self.account_missing = False
        return self._user

    def platform(self) -> Client:
        """The platform as the service account."""
        if self._platform is None:
            login = self._account_login()
            try:
                session = self._open(login)
            except LoginFailed as error:
                if self.impersonates or not self.has_admin or self._user is None or not self._user.enabled:
                    raise
                raise LoginFailed(
                    f"The password of `{self.account}` is wrong: the account exists and is enabled.",
                    where=self.target.options.hostname,
                    remedy="Correct the password, or let the administrator impersonate the account "
                    "(account.impersonate: true).",
                    status=error.status,
                ) from None
            self._platform = self._wrap(session)
        return self._platform

    def consumer(self, username: str, password: Secret | None) -> Client:
        """The platform as a consumer: by its own password or by impersonation."""
        self.require_consumer(username, password)
        if password is not None:
            return self._wrap(self._open(AccountLogin(username, password)))
        user = self.admin().find_user(username)
        if user is None:
            raise LoginFailed(
                f"Cannot act as the consumer `{username}`: no such account.",
                where=f"consumers: {username}",
                remedy="Correct the name, or have the account created.",
            )
        return self._wrap(self._open(self.admin().login_as(user)))

    def costs(self) -> tuple[int, int]:
        """(requests, writes) of all sessions so far; without the writes of the lock."""
        writes = sum(session.writes_made for session in self._sessions) - self.lock_writes
        return sum(session.requests_made for session in self._sessions), writes

    def close(self) -> None:
        """Sign out of all sessions, the last one first."""
        for session in reversed(self._sessions):
            session.close()

    def _account_login(self) -> AccountLogin:
        if self.impersonates:
            user = self.find_account()
            if user is None:
                raise LoginFailed(
                    f"The account `{self.account}` does not exist.",
                    where=self.target.options.hostname,
                    remedy="`mlflow-ae5-deploy install` creates it; on a cluster, add --create-account.",
                )
            return self.admin().login_as(user)
        reference = self._account_reference()
        return AccountLogin(self.account, self._values.secret(reference, f"password of {self.account}"))

    def _account_reference(self) -> SecretRef:
        reference = self._settings.account.password
        if reference is None:
            raise Configuration(
                f"No password for `{self.account}`, and no administrator to impersonate it.",
                where="account.password",
                remedy="Set AE5_PASSWORD, or account.password to a reference. To impersonate the account instead, set "
                "AE5_ADMIN_USERNAME and AE5_ADMIN_PASSWORD.",
            )
        return reference

    def _admin_reference(self) -> tuple[str, SecretRef]:
        admin = self._settings.admin
        if admin.username is None or admin.password is None:
            raise Configuration(
                "Admin credentials are required here, and are incomplete.",
                where="admin.username, admin.password",
                remedy="Set both, for instance with AE5_ADMIN_USERNAME and AE5_ADMIN_PASSWORD.",
            )
        return admin.username, admin.password

    def _open(self, login: AccountLogin) -> UserSession:
        session = open_session(self.target, login, self._clock)
        session.before_call = self._before
        self._sessions.append(session)
        return session

    def _before(self, write: bool) -> None:
        if self.before_call is not None:
            self.before_call(write)

    def _wrap(self, session: UserSession) -> Client:
        settings = self._settings.platform
        waits = WaitTimeouts(
            deployment=settings.deployment_deadline,
            endpoint_free=settings.endpoint_release_deadline,
            lost_answer=settings.lost_answer_deadline,
        )
        return Client(session, self._clock, waits, self._on_wait)
