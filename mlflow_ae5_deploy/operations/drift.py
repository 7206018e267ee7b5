"""What differs from the configuration: every stage's own decision, with nothing done and no stage left out.

Unlike the runner, which stops at the first error because later stages build on earlier ones, this goes on: whoever
asks how things are wants to hear all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_ae5_deploy.common.errors import DeployError
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.plan import Decision
from mlflow_ae5_deploy.engine.stage import Stage
from mlflow_ae5_deploy.resources.consumers import TOKEN

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"
SIGN_IN = 3  # up to this stage an error means that nothing can be seen at all
_LOCAL = (4, 5)  # these are about files on this machine
_TOKEN_STAGES = (11, 12)


@dataclass(frozen=True)
class StageView:
    """state: same | differs | unknown (could not be compared from here). actions: what install would do, and why."""

    number: int
    name: str
    state: str
    message: str
    actions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def forecast(stages: Sequence[Stage], context: Context) -> list[StageView]:
    """Raises the errors of the first three stages: unreachable, not signed in, no such account."""
    views: list[StageView] = []
    for stage in stages:
        try:
            states = stage.observe(context)
            decision = stage.plan(states, context)
        except DeployError as error:
            if stage.number <= SIGN_IN:
                raise
            views.append(StageView(stage.number, stage.name, UNKNOWN, error.what))
            continue
        knows_token = bool(context.memory.stored_tokens()) or TOKEN not in context.cached.secret_names()
        views.append(view(stage.number, stage.name, decision, states, knows_token=knows_token))
    return views


def view(number: int, name: str, decision: Decision, states: Any, *, knows_token: bool) -> StageView:
    """Pure: one stage's decision, seen as drift. knows_token: whose token is stored is on record on this machine."""
    if decision.no_change is not None:
        return StageView(number, name, SAME, decision.no_change.reason, (), decision.warnings)
    actions = tuple(f"{action.phrase}, because {action.reason}" for action in decision.actions)
    return StageView(
        number, name, _state(number, decision, states, knows_token), "; ".join(actions), actions, decision.warnings
    )


def _state(number: int, decision: Decision, states: Any, knows_token: bool) -> str:
    if number in _LOCAL:
        # Whether what they give is what the platform has, stage 6 says, if they give it.
        return SAME if getattr(states, "built", None) is not None else UNKNOWN
    return UNKNOWN if _is_guess(number, decision, states, knows_token) else DIFFERS


def _is_guess(number: int, decision: Decision, states: Any, knows_token: bool) -> bool:
    """Whether the stage would act only because this machine does not know: then it is no sign of a difference."""
    if number in _TOKEN_STAGES and not knows_token:
        return True
    verbs = {action.verb for action in decision.actions}
    if verbs == {"compare"}:
        return True
    wrong = [secret for secret in getattr(states, "secrets", ()) if not secret.right]
    return verbs == {"set"} and bool(wrong) and all(secret.state == "unknown" for secret in wrong)
