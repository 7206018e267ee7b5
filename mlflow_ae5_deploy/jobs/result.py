"""How a job's run ended, according to the platform and to the job itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from mlflow_ae5_deploy.ae5.models import Run
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.jobs import text
from mlflow_ae5_deploy.jobs.contract import INCOMPLETE, SUCCESS, UNKNOWN, last_line, read, without_progress
from mlflow_ae5_deploy.jobs.reports import REPORTS, R_co, Report

_SHOWN = 200  # characters of a log's last line


@dataclass(frozen=True)
class JobResult(Generic[R_co]):
    """The result of one run."""

    run_id: str
    state: str  # how the run ended, in the platform's word
    report: R_co
    message: str = ""  # one sentence for a person
    tail: str = ""  # the end of the log, where nobody has seen it
    log_saved: bool = False  # the log is on this machine; `logs --run` shows it

    @property
    def outcome(self) -> str:
        """The job's own word; `unknown` without a report."""
        return self.report.outcome or UNKNOWN

    @property
    def exit_code(self) -> int | None:
        return self.report.exit_code

    @property
    def succeeded(self) -> bool:
        """False if the platform or the job calls it failed, and without a report."""
        return self.state == "completed" and self.outcome in SUCCESS and self.exit_code in (0, None)

    @property
    def reported(self) -> bool:
        """False for a completed run without a report: a launcher may lose the code."""
        return self.state != "completed" or self.outcome != UNKNOWN

    @property
    def passed(self) -> bool | None:
        """`succeeded`; None where the result is not known."""
        return self.succeeded if self.reported else None


def read_result(form: type[R_co], run: Run, log: str) -> JobResult[R_co]:
    """Pure: the result of an ended run, from its log. form: the command's report."""
    result = JobResult(run.id, run.state, read(form, last_line(log)))
    return JobResult(run.id, run.state, result.report, scrub(_message(result, log)))


def read_any_result(run: Run, log: str) -> JobResult[Report]:
    """The same for a run of any command: its report names it."""
    return read_result(REPORTS.get(str(last_line(log).get("command")), Report), run, log)


def _message(result: JobResult[R_co], log: str) -> str:
    if not result.reported:
        return _unreported(log)
    if result.succeeded or result.exit_code == INCOMPLETE:
        return text.sentence(result.report)
    if result.report.error:
        return result.report.error.rstrip(".")
    reported = "and its log has no report" if result.outcome == UNKNOWN else f"the job reports {result.outcome}"
    code = f", exit code {result.exit_code}" if result.exit_code is not None else ""
    return f"the run is {result.state}, {reported}{code}"


def _unreported(log: str) -> str:
    last = next((line.strip() for line in reversed(without_progress(log).splitlines()) if line.strip()), "")
    end = f"it ends with `{scrub(last[:_SHOWN])}`" if last else "it is empty"
    return f"the run is completed, and its log has no report; {end}"
