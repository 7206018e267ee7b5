"""Accounts, passwords, and grants: sessions, SSO cookies, admin tokens.

Of what is handed out only SHA-256 digests are kept; passwords as scrypt hashes.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import time
import uuid
from typing import Any

from mlflow_ae5_deploy.sandbox.errors import ApiError
from mlflow_ae5_deploy.sandbox.models import SandboxAccount, SandboxGrant
from mlflow_ae5_deploy.sandbox.settings import SandboxSettings
from mlflow_ae5_deploy.sandbox.store import SandboxStore

DEFAULT_ROLE = "default-roles-anacondaplatform"
ROLES = (DEFAULT_ROLE, "ae-admin", "ae-creator", "ae-deployer", "ae-uploader", "offline_access", "uma_authorization")
EVERYONE = "everyone"
CODE_SECONDS = 60.0
_MAX_LOGINS = 500


def digest(value: str) -> str:
    return hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=2**12, r=8, p=1)
    return f"{salt.hex()}:{key.hex()}"


@functools.lru_cache(maxsize=64)
def password_matches(password: str, stored: str) -> bool:
    """Compare with the stored hash; cached, because the hash is slow on purpose."""
    salt, key = stored.split(":")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**12, r=8, p=1)
    return hmac.compare_digest(found.hex(), key)


class IdentityProvider:
    """The sandbox's Keycloak: realm AnacondaPlatform, and realm master for the admin."""

    def __init__(self, store: SandboxStore, settings: SandboxSettings) -> None:
        self._store = store
        self._prepare(settings)

    def _prepare(self, settings: SandboxSettings) -> None:
        state = self._store.state
        for name in settings.groups:
            state.group_ids.setdefault(name, str(uuid.uuid4()))
        for name in ROLES:
            state.role_ids.setdefault(name, str(uuid.uuid4()))

    # -- accounts -------------------------------------------------------------------------

    def create(self, username: str, password: str, **values: Any) -> SandboxAccount:
        """Create an account; ApiError 409 for a name in use, ignoring upper and lower case."""
        if self.by_name(username) is not None:
            raise ApiError(409, "User exists with same username")
        account = SandboxAccount(
            id=str(uuid.uuid4()),
            username=username.lower(),
            password_hash=hash_password(password),
            created_ms=int(time.time() * 1000),
            **values,
        )
        self._store.state.accounts[account.id] = account
        return account

    def by_name(self, username: str) -> SandboxAccount | None:
        accounts = self._store.state.accounts.values()
        return next((a for a in accounts if a.username == username.lower()), None)

    def delete(self, account: SandboxAccount) -> None:
        state = self._store.state
        del state.accounts[account.id]
        state.secrets.pop(account.username, None)
        self.revoke_all(account.username)

    def authenticate(self, username: str, password: str) -> SandboxAccount | None:
        account = self.by_name(username)
        if account is None or not password_matches(password, account.password_hash):
            return None
        return account

    def admin_password_matches(self, username: str, password: str) -> bool:
        admin = self._store.state.admin
        return username == admin["username"] and password_matches(password, admin["password_hash"])

    def note_login(self, account: SandboxAccount) -> None:
        logins = self._store.state.logins
        logins.append({"userId": account.id, "time": int(time.time() * 1000)})
        del logins[:-_MAX_LOGINS]

    # -- grants ---------------------------------------------------------------------------

    def grant(self, kind: str, username: str, seconds: float, xsrf: str = "") -> str:
        """A fresh random value standing for `username`."""
        self._forget_expired()
        value = secrets.token_urlsafe(32)
        self._store.state.grants[digest(value)] = SandboxGrant(
            kind, username, time.time() + seconds, digest(xsrf) if xsrf else ""
        )
        return value

    def holder(self, kind: str, value: str | None) -> SandboxGrant | None:
        if not value:
            return None
        grant = self._store.state.grants.get(digest(value))
        if grant is None or grant.kind != kind or grant.expires <= time.time():
            return None
        return grant

    def account_of(self, kind: str, value: str | None) -> SandboxAccount | None:
        """The enabled account behind a cookie value, if any."""
        grant = self.holder(kind, value)
        account = self.by_name(grant.username) if grant else None
        return account if account is not None and account.enabled else None

    def revoke(self, value: str | None) -> None:
        if value:
            self._store.state.grants.pop(digest(value), None)

    def revoke_all(self, username: str) -> None:
        grants = self._store.state.grants
        for key in [k for k, g in grants.items() if g.username == username and g.kind in ("session", "sso", "code")]:
            del grants[key]

    def _forget_expired(self) -> None:
        grants, now = self._store.state.grants, time.time()
        for key in [k for k, g in grants.items() if g.expires <= now]:
            del grants[key]

    # -- sharing --------------------------------------------------------------------------

    def shared_with(self, account: SandboxAccount, collaborators: list[dict[str, str]]) -> str | None:
        """The strongest permission (`rw` before `r`) of the account, or None."""
        found = {
            c["permission"]
            for c in collaborators
            if (c["type"] == "user" and c["id"].lower() == account.username)
            or (c["type"] == "group" and (c["id"] == EVERYONE or c["id"] in account.groups))
        }
        return "rw" if "rw" in found else ("r" if found else None)
