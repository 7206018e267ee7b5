"""References to secrets, and their values. A configuration holds references only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlflow_ae5_deploy.common.errors import Configuration
from mlflow_ae5_deploy.common.files import read_private
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.config.checks import VARIABLE
from mlflow_ae5_deploy.config.database_uri import check_shipped, parse_store_uri, without_password

FORMS = "env:NAME, file:PATH or prompt"

Prompt = Callable[[str], str]


@dataclass(frozen=True)
class SecretRef:
    """A reference to a secret."""

    kind: Literal["env", "file", "prompt", "held"]
    """env: an environment variable. file: a private file. prompt: ask at the terminal. held: a value of this program,
    which no configuration can refer to"""
    name: str = ""  # the variable's name or the file's path
    held: Secret | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, *, base: Path | None = None) -> SecretRef:
        """The reference written as `text`; a relative file is below `base`.

        Raises ValueError for anything else. Its message never repeats `text`: what is not a reference is, most
        likely, the secret itself.
        """
        if text == "prompt":
            return cls("prompt")
        kind, _, name = text.partition(":")
        if kind == "env" and VARIABLE.match(name):
            return cls("env", name)
        if kind == "file" and name.strip() and "\0" not in name:
            path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown ~user
            return cls("file", str(path if base is None else base / path))
        if kind == "env":
            raise ValueError("'env:' must be followed by the name of an environment variable (letters, digits and _)")
        if kind == "file":
            raise ValueError("'file:' must be followed by the path of a file")
        raise ValueError(f"must be a reference to a secret, as {FORMS}")

    @classmethod
    def holding(cls, secret: Secret) -> SecretRef:
        """A reference to a value at hand, such as the sandbox's generated password."""
        return cls("held", "", secret)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    def resolve(self, *, environ: Mapping[str, str], prompt: Prompt | None, label: str = "secret") -> Secret:
        """The secret itself.

        label: its name in questions and errors. prompt: None without a terminal.

        Raises Configuration when there is nothing to be had, or when a file is open to other people.
        """
        if self.kind == "held" and self.held is not None:
            return self.held
        if self.kind == "env":
            return self._from_environment(environ, label)
        if self.kind == "file":
            return self._from_file(label)
        return _from_person(prompt, label)

    def _from_environment(self, environ: Mapping[str, str], label: str) -> Secret:
        value = environ.get(self.name, "")
        if value:
            return Secret(value)
        state = "empty" if self.name in environ else "not set"
        raise Configuration(
            f"The environment variable {self.name}, which holds the {label}, is {state}.",
            where=str(self),
            remedy=f"Set {self.name}, or use another reference ({FORMS}).",
        )

    def _from_file(self, label: str) -> Secret:
        path = Path(self.name)
        try:
            raw = read_private(path, label)
        except OSError as error:
            raise Configuration(
                f"The file that holds the {label} cannot be read: {error.strerror or error}.",
                where=self.name,
                remedy="Check the path after 'file:', and that this account can read it.",
            ) from None
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise Configuration(f"The file that holds the {label} is not UTF-8 text.", where=self.name) from None
        value = text[:-1].removesuffix("\r") if text.endswith("\n") else text
        if not value:
            raise Configuration(f"The file that holds the {label} is empty.", where=self.name)
        return Secret(value)


def _from_person(prompt: Prompt | None, label: str) -> Secret:
    remedy = "Run this in a terminal, or refer to the secret with env:NAME or file:PATH."
    if prompt is None:
        raise Configuration(f"There is no terminal to prompt for the {label}.", where="prompt", remedy=remedy)
    try:
        value = prompt(label)
    except EOFError:
        value = ""
    if not value:
        raise Configuration(f"No {label} was entered.", where="prompt", remedy=remedy)
    return Secret(value)


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
        self._resolved: dict[tuple[SecretRef, str], Secret] = {}

    def secret(self, reference: SecretRef, meaning: str) -> Secret:
        """The value of a reference. meaning: its name in prompts and errors."""
        key = (reference, meaning)
        if key not in self._resolved:
            self._resolved[key] = reference.resolve(environ=self._environ, prompt=self._prompt, label=meaning)
        return self._resolved[key]

    def store_uri(self, uri: SecretRef | str) -> Secret:
        """The database URI, checked also where it comes from a reference.

        Raises Configuration; its text holds no part of the URI but dialect and driver.
        """
        value = self.secret(uri, "database URI") if isinstance(uri, SecretRef) else Secret.public(uri)
        try:
            store = parse_store_uri(value.reveal())
            if self._added is not None:
                check_shipped(store, self._added)
        except ValueError as error:
            problem = f"The database URI {error}."
        else:
            return value if value.shown else Secret(value.reveal(), without_password(value.reveal()))
        raise Configuration(
            problem, where=f"server.backend_store_uri ({uri if isinstance(uri, SecretRef) else 'plain text'})"
        )

    def store_uri_at_hand(self, uri: SecretRef | str) -> Secret | None:
        """The database URI; None where a person would be asked for it, and where it is not valid."""
        if isinstance(uri, SecretRef) and uri.kind == "prompt" and (uri, "database URI") not in self._resolved:
            return None
        try:
            return self.store_uri(uri)
        except Configuration:
            return None

    @staticmethod
    def random_password() -> str:
        return secrets.token_urlsafe(24)
