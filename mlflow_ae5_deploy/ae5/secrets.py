"""The account's secrets. Values can be set and never read back."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow_ae5_deploy.ae5.resource_api import MOST_ATTEMPTS, ResourceApi, part
from mlflow_ae5_deploy.common.errors import Configuration, UnexpectedAnswer
from mlflow_ae5_deploy.common.redaction import Secret

_NAME = re.compile(r"[A-Za-z0-9_]+")
_PATH = "credentials/user"


class SecretsApi(ResourceApi):
    def secret_names(self, *, timeout: float | None = None) -> set[str]:
        answer = self._session.call("GET", _PATH, timeout=timeout)
        names = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UnexpectedAnswer("The answer about secrets is not a list of names.", where=_PATH)
        return set(names)

    def put_secret(self, name: str, value: Secret) -> None:
        """Add or replace one, and wait until it is listed."""
        self.put_secrets({name: value})

    def put_secrets(self, secrets: Mapping[str, Secret]) -> None:
        """Add or replace some, then wait until all are listed."""
        for name in secrets:
            _check_name(name)
        for name, value in secrets.items():
            self.send_secret(name, value)
        if secrets:
            self._poll(
                lambda: True if self.secret_names() >= set(secrets) else None,
                f"the secrets {', '.join(sorted(secrets))} to be listed",
                self._waits.secret,
            )

    def send_secret(
        self, name: str, value: Secret, *, attempts: int = MOST_ATTEMPTS, timeout: float | None = None
    ) -> None:
        """Add or replace one. It may be listed later."""
        _check_name(name)
        body = {"key": name, "value": value.reveal()}
        self._write("POST", _PATH, json=body, attempts=attempts, timeout=timeout, expect="text")

    def delete_secret(self, name: str, *, attempts: int = MOST_ATTEMPTS, timeout: float | None = None) -> None:
        """Delete by name; a missing one is fine."""
        _check_name(name)
        path = f"{_PATH}/{part(name)}"
        self._write("DELETE", path, missing_ok=True, attempts=attempts, timeout=timeout, expect="text")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Configuration(
            f"{name!r} cannot be the name of a secret.", where="secrets", remedy="Use letters, digits and underscores."
        )
