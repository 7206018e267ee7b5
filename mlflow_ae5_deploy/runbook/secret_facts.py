"""Whether a secret of the service account is already right, as far as that can be known."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_ae5_deploy.redaction import Secret
from mlflow_ae5_deploy.runbook.context import Context

_WHY = {
    "missing": "it is not set",
    "different": "the configuration has another value than the one last stored",
    "unknown": "it is set, but not by this machine, and its value cannot be read back",
    "unset": "its value is not known yet",
}


@dataclass(frozen=True)
class SecretFact:
    """state: same | missing | different | unknown | unset (no value wanted yet)."""

    name: str
    state: str

    @property
    def right(self) -> bool:
        return self.state == "same"

    @property
    def why(self) -> str:
        return _WHY[self.state]


def observe_secret(context: Context, name: str, wanted: Secret | None) -> SecretFact:
    if wanted is None:
        return SecretFact(name, "unset")
    if name not in context.look.secret_names():
        return SecretFact(name, "missing")
    return SecretFact(name, context.memory.secret_state(context.account, name, wanted))
