"""A change of one resource, as data to show, confirm, record and apply.

Each kind is a class of its own beside its resource. What people read is made from a change; nothing is read back.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Impact(StrEnum):
    """What a change touches that its users notice."""

    ACCESS = "access"
    DATA = "data"
    DOWNTIME = "downtime"
    JOBS = "jobs"
    SECRETS = "secrets"
    TOKENS = "tokens"


@dataclass(frozen=True)
class Consequence:
    impact: Impact
    text: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change to one resource."""

    verb: ClassVar[str]
    resource: ClassVar[str]
    local: ClassVar[bool] = False  # changes files on this machine only
    waits: ClassVar[bool] = False  # for what is there to become as it should be; changes nothing itself
    of_project: ClassVar[bool] = False  # of something that is deleted and created again with its project
    of_deployment: ClassVar[bool] = False  # the same of its deployment

    reason: str  # a phrase; may be empty where there are differences
    differences: tuple[str, ...] = ()  # `setting: observed → desired`
    name: str = ""  # of the resource
    id: str = ""  # of the resource, where the platform has given it one
    consequences: tuple[Consequence, ...] = ()  # only of a change that needs the administrator's consent
    guess: bool = False  # needed as far as this machine knows; the platform does not show it

    @property
    def needs_consent(self) -> bool:
        return bool(self.consequences)

    @property
    def target(self) -> str:
        """The resource in words."""
        return " ".join(word for word in (self.resource, self.name) if word)

    @property
    def phrase(self) -> str:
        return f"{self.verb} {self.target}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The differences, as people read them."""
        return self.differences

    @property
    def why(self) -> str:
        return "; ".join(text for text in (self.reason, *self.lines) if text)

    @property
    def sentence(self) -> str:
        """The change with its reason, on one line."""
        return f"{self.phrase}: {self.why}"

    @property
    def headline(self) -> str:
        """The change with its reason; `lines` go below it."""
        return f"{self.phrase}: {self.reason}" if self.reason else self.phrase

    @property
    def details(self) -> tuple[str, ...]:
        """Lines that are only shown with --verbose."""
        return ()

    @property
    def identity(self) -> tuple[Any, ...]:
        """The same for two changes that do the same to the same resource."""
        return (type(self), self.name, self.id)

    def data(self) -> dict[str, Any]:
        """The change as JSON: its kind, every field, and the phrase."""
        return {"change": self.kind(), "phrase": self.phrase, **asdict(self)}

    def record(self) -> dict[str, str]:
        """The change as the journal has it."""
        return {
            "change": self.kind(),
            "action": self.verb,
            "resource": self.resource,
            "name": self.name,
            "id": self.id,
            "phrase": f"{self.phrase} ({self.id})" if self.id else self.phrase,
            "reason": self.why,
        }

    @classmethod
    def kind(cls) -> str:
        """The name of the class, as JSON and the journal write it: `restart_deployment`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
