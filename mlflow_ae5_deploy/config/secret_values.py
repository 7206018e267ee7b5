"""The values behind the configuration's secret references, each resolved once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping

from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.database_uri import resolve_store_uri
from mlflow_ae5_deploy.config.secret_refs import SecretRef


class SecretResolver:
    """prompt(question) asks a person without echo; None where there is no terminal.

    added: packages on top of the bundled project's, for the driver of a database; None where another release is used.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        prompt: Callable[[str], str] | None,
        *,
        added: Collection[str] | None = None,
    ) -> None:
        self._added = added
        self._environ = environ
        self._prompt = prompt
        self._resolved: dict[tuple[SecretRef | str, str], Secret] = {}

    def secret(self, reference: SecretRef, meaning: str) -> Secret:
        """The value of a reference. meaning: its name in prompts and errors."""
        key = (reference, meaning)
        if key not in self._resolved:
            self._resolved[key] = reference.resolve(environ=self._environ, prompt=self._prompt, label=meaning)
        return self._resolved[key]

    def store_uri(self, uri: SecretRef | str) -> Secret:
        """The database URI, checked also where it comes from a reference."""
        key = (uri, "database URI")
        if key not in self._resolved:
            self._resolved[key] = resolve_store_uri(uri, environ=self._environ, prompt=self._prompt, added=self._added)
        return self._resolved[key]

    def knows(self, uri: SecretRef | str) -> bool:
        """Whether the database URI is already resolved, without a prompt."""
        return (uri, "database URI") in self._resolved

    @staticmethod
    def random_password() -> str:
        return secrets.token_urlsafe(24)
