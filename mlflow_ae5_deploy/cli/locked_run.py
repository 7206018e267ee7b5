"""What every verb that changes an installation does around its work: hold the lock, keep the journal, ask."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_ae5_deploy.cli.context import SharedOptions, opened

if TYPE_CHECKING:
    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.engine.context import Context, RunOptions
    from mlflow_ae5_deploy.engine.plan import Action
    from mlflow_ae5_deploy.render.console import Reporter

LockWait = Annotated[
    float,
    typer.Option(
        "--lock-wait",
        min=0,
        help="Seconds to wait for another run on this machine to end. Runs on other machines are not seen.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Agree to what would be asked, after showing what it means.")]
ReplaceKeys = Annotated[
    bool,
    typer.Option(
        "--replace-keys",
        help="Store other keys than those that are set. LLM keys and webhook secrets entered before become unreadable.",
    ),
]


@contextlib.contextmanager
def changing(
    choices: SharedOptions,
    reporter: Reporter,
    *,
    verb: str,
    lock_wait: float,
    agreed: bool = False,
    before: Callable[[Context], None] = lambda _context: None,
) -> Iterator[Context]:
    """The context of a verb that writes, with the installation's lock held and the journal's frame around it.

    before: what comes before the lock, such as a question: nobody else is to wait for its answer.
    """
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.journal_frame import recorded
    from mlflow_ae5_deploy.engine.lock import InstallationLock

    def wishes(_loaded: LoadedSettings) -> RunOptions:
        return RunOptions(consent=asking(reporter, agreed=agreed))

    with opened(choices, reporter, verb=verb, wishes=wishes) as context:
        before(context)
        lock = InstallationLock(context.folder, context.clock, verb=verb)
        with lock.held(lock_wait):
            context.memory.refresh()  # whoever held the lock before may have remembered something
            with recorded(context):
                yield context


@contextlib.contextmanager
def looking(choices: SharedOptions, reporter: Reporter, *, verb: str) -> Iterator[Context]:
    """The context of a verb that only reads: its session refuses every write."""
    from mlflow_ae5_deploy.engine.context import RunOptions

    with opened(choices, reporter, verb=verb, wishes=lambda _loaded: RunOptions(dry=True)) as context:
        yield context


def can_ask(reporter: Reporter) -> bool:
    return not reporter.json_mode and sys.stdin.isatty()


def asking(reporter: Reporter, *, agreed: bool, to: Collection[str] = ()) -> Callable[[Sequence[Action]], bool]:
    """Shows what the actions mean, then asks; agreed answers for the person, and nobody there means no.

    to: verbs of actions that an option of their own has agreed to.
    """

    def consent(actions: Sequence[Action]) -> bool:
        reporter.meaning(actions)
        if agreed or all(action.verb in to for action in actions):
            return True
        if not can_ask(reporter):
            return False
        try:
            return typer.confirm("Go on?", default=False, err=True)
        except typer.Abort:  # which the journal would not know for an interruption
            raise KeyboardInterrupt from None

    return consent
