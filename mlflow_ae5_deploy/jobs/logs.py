"""Follow logs that the platform only returns whole: print the new lines of each read."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.ae5.resource_api import VISIBLE
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import NotFound, Refused
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.progress import JOB_END, Phase
from mlflow_ae5_deploy.jobs.contract import last_line, progress_of

CUT = "[... the platform no longer returns some lines of the log ...]"
_log = logging.getLogger(__name__)
_ANCHOR = 20  # lines that locate the end of what was shown, in a log that lost its beginning
_SETTINGS = "settings ("  # the start of a job's table of settings
# The starts of lines of the platform: that the job starts, and how a sandbox differs from a real AE5.
_PLATFORM = ("The project is ready to run commands.", "[sandbox] ")
_LAGGING = 3  # more reads after a run's end: the log may come later than the state

OnLine = Callable[[str], None]


def lines_of(text: str) -> list[str]:
    """Split at line feeds only: a log may have any other character within its lines."""
    return text.removesuffix("\n").split("\n") if text else []


class LogTail:
    """The part of a growing log that was shown. An incomplete last line waits.

    last: how many lines of the first read are returned; 0 means all.
    """

    def __init__(self, last: int = 0) -> None:
        self._seen = ""
        self._last = last

    def feed(self, text: str, *, ended: bool = False) -> list[str]:
        """The lines that were not returned before; with `ended`, also an incomplete one."""
        whole = text if ended else text[: text.rfind("\n") + 1]
        if whole.startswith(self._seen):
            new = whole[len(self._seen) :]
        elif self._seen.startswith(whole):
            return []  # an older answer, or one that is shorter for a moment
        else:
            new = self._behind_anchor(whole)
        self._seen = whole
        lines = lines_of(new)[-self._last :]
        if text or not ended:  # the log of an ended run may come late
            self._last = 0
        return lines

    def _behind_anchor(self, whole: str) -> str:
        anchor = "".join(self._seen.splitlines(keepends=True)[-_ANCHOR:])
        at = whole.rfind(anchor)
        return whole[at + len(anchor) :] if at >= 0 else f"{CUT}\n{whole}"


def with_progress(show: OnLine, on_phase: Callable[[Phase], None]) -> OnLine:
    """Pass progress lines of a job to `on_phase`, and every other line to `show`."""

    def on_line(line: str) -> None:
        if (phase := progress_of(line)) is not None:
            on_phase(phase)
        else:
            show(line)

    return on_line


def without_json(show: OnLine, on_phase: Callable[[Phase], None], *, with_report: bool) -> OnLine:
    """As `with_progress`, and drop a job's report. with_report: pass it on."""
    return with_progress(lambda line: show(line) if with_report or not last_line(line) else None, on_phase)


class JobLog:
    """Passes on the lines that a job itself writes: not its settings or report, nor lines of the platform."""

    def __init__(self, show: OnLine) -> None:
        self._show = show
        self._in_settings = False

    def __call__(self, line: str) -> None:
        self._in_settings = line.startswith(_SETTINGS) or (self._in_settings and line.startswith("  "))
        if not (self._in_settings or line.startswith(_PLATFORM) or last_line(line)):
            self._show(line)


def job_log(context: Context, show: OnLine = lambda _line: None) -> OnLine:
    """What to do with each line of a job's log: with --verbose all are shown, else `show` gets those that it wrote."""
    if context.progress.verbose:
        return with_progress(lambda line: context.progress.log(f"  | {line}"), context.progress.phase)
    return JobLog(with_progress(show, context.progress.phase))


def follow_run(context: Context, run_id: str, show: OnLine, *, seconds: float, last: int = 0) -> tuple[Run, str]:
    """Show a run's log while it grows. Returns the ended run and its log.

    DeadlineExceeded when it has not ended after `seconds`; NotFound when there is no such run (any more).
    """
    tail = LogTail(last)
    began = context.clock.monotonic()
    _log.info("follow run %s", run_id)

    def probe() -> Run | None:
        run = context.platform.run(run_id)  # first the state, then the log: an ended run's log is whole
        if run is None:
            if context.clock.monotonic() - began >= VISIBLE:
                raise NotFound(f"The run {run_id} has disappeared: somebody deleted it or its job.", where=run_id)
            return None
        for line in tail.feed(read_log(context, run), ended=not run.is_active):
            show(line)
        return None if run.is_active else run

    ended = poll_until(
        probe,
        waiting_for=f"run {run_id} to end",
        deadline=Deadline(context.clock, seconds),
        longest=3.0,
        on_wait=lambda _what: context.progress.waiting(JOB_END),
        remedy="It continues on the platform: `logs --follow --run latest` shows it.",
    )
    _log.info("run %s of %s: %s", ended.id, ended.name, ended.state)
    text = read_log(context, ended)
    for _ in range(_LAGGING):
        if text:
            break
        context.clock.sleep(1.0)
        text = read_log(context, ended)
    for line in tail.feed(text, ended=True):
        show(line)
    return ended, text


def follow_deployment(
    context: Context, deployment_id: str, read: Callable[[], str], show: OnLine, *, last: int
) -> None:
    """Show a deployment's log while it grows, until the deployment is gone or Ctrl-C.

    last: see LogTail.
    """
    tail = LogTail(last)
    pause = 0.5
    while True:
        new = tail.feed(read())
        for line in new:
            show(line)
        if context.platform.deployment(deployment_id) is None:
            raise NotFound(
                f"The deployment {deployment_id} is gone; a restart creates a new one.",
                where=deployment_id,
                remedy="Run `logs --follow` again for the current one.",
            )
        pause = 0.5 if new else min(pause * 1.5, 5.0)
        context.clock.sleep(pause)


def read_log(context: Context, run: Run) -> str:
    """The log as it is now; empty while an active run has none yet."""
    try:
        return context.platform.run_log(run.id)
    except (NotFound, Refused):
        if run.is_active:
            return ""
        raise
