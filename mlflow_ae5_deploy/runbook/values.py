"""The values behind the configuration's secret references, each resolved once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.redaction import Secret


class Values:
    """prompt(question) asks a person without echo; None where there is no terminal."""

    def __init__(self, environ: Mapping[str, str], prompt: Callable[[str], str] | None) -> None:
        self._environ = environ
        self._prompt = prompt
        self._known: dict[tuple[str, str], Secret] = {}

    def secret(self, reference: SecretRef, meaning: str) -> Secret:
        """Raises Configuration when the reference leads nowhere. meaning: what a prompt asks for."""
        key = (repr(reference), meaning)
        if key not in self._known:
            prompt = self._prompt
            ask = None if prompt is None else (lambda _question: prompt(meaning))
            self._known[key] = reference.resolve(environ=self._environ, prompt=ask)
        return self._known[key]

    def text(self, value: SecretRef | str, meaning: str) -> Secret:
        """A setting that may be plain text (then it holds no password) or a reference."""
        return Secret.public(value) if isinstance(value, str) else self.secret(value, meaning)

    @staticmethod
    def random_password() -> str:
        return secrets.token_urlsafe(24)
