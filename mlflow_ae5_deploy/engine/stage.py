"""The interface of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Action, Decision


class Stage(Protocol):
    """One step of the runbook. `plan` is pure; the others talk to the platform through the context."""

    number: ClassVar[int]
    name: ClassVar[str]
    promise: ClassVar[str]

    def observe(self, context: Context) -> Any: ...

    def plan(self, state: Any, context: Context) -> Decision: ...

    def apply(self, action: Action, state: Any, context: Context) -> None: ...

    def verify(self, context: Context) -> str | None:
        """Prove the promise after a change; a sentence that says what was seen, or None when apply proved it."""


@runtime_checkable
class Checked(Protocol):
    """A stage with a precondition on this machine, which an earlier stage needs as well."""

    def check(self, context: Context) -> None:
        """Called before the first stage observes anything. Makes no request; raises DeployError."""
