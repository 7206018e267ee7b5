"""Secrets of the service account, as far as this machine can know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.common.variable_names import GC_TTL
from mlflow_ae5_deploy.engine.change import Change, Consequence, Impact
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.records import shown_value
from mlflow_ae5_deploy.resources import earlier_deletion

MADE, KEPT = "made", "kept"
_READ_BY_JOBS_ONLY = (GC_TTL, "MLFLOW_TRACKING_BACKUP_DESTINATION", "MLFLOW_TRACKING_NOTIFY_URLS")

SET_ELSEWHERE = "not known here (set from another machine)"
# Each begins with a word that the scrubber takes for no credential.
_WHY = {
    "new": "not set",
    "missing": "no longer set",
    "different": "not the configured value",
    "unknown": SET_ELSEWHERE,
    MADE: "not set",
    "unset": "not known before the deployment runs",
}
_BEFORE = {"unknown": "(set from another machine)"}


@dataclass(frozen=True, kw_only=True)
class SecretsChange(Change):
    resource = "secrets"
    names: tuple[str, ...]

    def record(self) -> dict[str, str]:
        return super().record() | {"name": ", ".join(self.names)}


@dataclass(frozen=True, kw_only=True)
class SetSecrets(SecretsChange):
    """Secrets of the service account.

    differences: one of each secret, with the values that may be shown. initial: none of the stage's is set yet.
    """

    verb = "set"
    initial: bool = False

    @property
    def target(self) -> str:
        return f"{len(self.names)} secrets" if len(self.names) > 1 else f"secret {self.names[0]}"

    def record(self) -> dict[str, str]:
        """Without values: the journal outlives them."""
        return super().record() | {"reason": self.reason if len(self.names) > 1 else ""}

    @property
    def lines(self) -> tuple[str, ...]:
        """Of one secret, all is in the reason."""
        return () if self.initial or len(self.names) == 1 else self.differences

    @property
    def details(self) -> tuple[str, ...]:
        return () if self.lines or len(self.names) == 1 else self.differences or self.names


@dataclass(frozen=True, kw_only=True)
class DeleteSecrets(SecretsChange):
    """name: of the account, where it is not the service account."""

    verb = "delete"
    consequences: tuple[Consequence, ...] = (
        Consequence(Impact.SECRETS, "the values of deleted secrets are lost: AE5 never shows them again"),
    )

    @property
    def target(self) -> str:
        return counted(len(self.names), self.resource) + (f" of {self.name}" if self.name else "")

    @property
    def details(self) -> tuple[str, ...]:
        return self.names

    @property
    def identity(self) -> tuple[Any, ...]:
        return (*super().identity, self.names)


@dataclass(frozen=True)
class SecretState:
    name: str
    # same | new (not set, and this value never was) | missing (not set any more) | different (set, with another value)
    # unknown (set from elsewhere) | unset (no value yet); of keys also MADE (to be made), KEPT (set from elsewhere)
    state: str
    note: str = ""  # a warning
    previous: str = ""  # what may be shown of the value that this machine stored
    desired: str = ""  # what may be shown of the desired value
    of_nobody: bool = False  # set from elsewhere, and nothing of this installation has used it yet

    @property
    def right(self) -> bool:
        return self.state in ("same", KEPT)

    @property
    def why(self) -> str:
        return _WHY[self.state]

    @property
    def values(self) -> str:
        """`previous → desired`; empty for a confidential value."""
        if not self.desired or self.state != "different":
            return f"{_BEFORE.get(self.state, self.why)} → {self.desired}" if self.desired else ""
        if self.previous == self.desired:
            return f"{self.desired} (password or options changed)"
        return f"{self.previous} → {self.desired}" if self.previous else f"changed to {self.desired}"

    @property
    def consequence(self) -> Consequence | None:
        """What its new value lets be deleted, where that needs consent."""
        if self.right or self.of_nobody or self.name not in earlier_deletion.DEFAULTS:
            return None
        is_set = self.state in ("different", "unknown")
        before = (self.previous or None) if is_set else earlier_deletion.DEFAULTS[self.name]
        return earlier_deletion.consequence_of(self.name, before, self.desired or None)

    @property
    def difference(self) -> str:
        return f"{self.name}: {self.values}" if self.values else self.name

    @property
    def is_news_to_the_server(self) -> bool:
        """A running server was started without this value, and reads it only at its start."""
        return self.state in ("new", "different", MADE) and self.name not in _READ_BY_JOBS_ONLY


def observe_secret(context: Context, name: str, desired: Secret | None) -> SecretState:
    if desired is None:
        return SecretState(name, "unset")
    state = context.state.compare_secret(context.account, name, desired)
    if name not in context.cached.secret_names():
        state = "missing" if state == "same" else "new"
    stored = context.state.secrets.get(context.account, {}).get(name)
    return SecretState(name, state, previous=stored.shown if stored else "", desired=shown_value(name, desired))


def setting(secrets: Sequence[SecretState]) -> list[SetSecrets]:
    """One change that sets all secrets that are not right; none when all are."""
    wrong = [secret for secret in secrets if not secret.right]
    if not wrong:
        return []
    counts = Counter(secret.why for secret in wrong)
    reason = ", ".join(f"{count} {why}" for why, count in counts.items()) if len(counts) > 1 else wrong[0].why
    if len(wrong) == 1:
        reason = wrong[0].values or reason
    if made := sum(secret.state == MADE for secret in wrong):
        reason += f" ({counted(made, 'new keys')}, written to the key file)"
    initial = all(secret.state in ("new", "unset", MADE) for secret in secrets)
    consequences = [] if initial else [secret.consequence for secret in wrong]
    return [
        SetSecrets(
            names=tuple(secret.name for secret in wrong),
            reason=reason,
            differences=tuple(secret.difference for secret in wrong),
            consequences=tuple(found for found in consequences if found is not None),
            initial=initial,
            guess=all(secret.state == "unknown" for secret in wrong),
        )
    ]
