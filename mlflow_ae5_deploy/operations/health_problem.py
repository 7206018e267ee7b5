"""What can be wrong with an installation: a stable code for each, as monitoring reads it."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class ProblemCode:
    """severity: an error makes the installation unhealthy. remedy: unless the problem has one of its own."""

    code: str
    severity: str
    meaning: str
    remedy: str


# code: (meaning, remedy)
_ERRORS = {
    "not-installed": ("There is no such project, or no such account.", "Run `install`."),
    "upgrade-interrupted": (
        "An upgrade or its rollback has not finished.",
        "Run the same `upgrade` again, or `upgrade --roll-back`.",
    ),
    "restore-interrupted": (
        "A restore has not finished; the data is or may be incomplete.",
        "Run the same `restore` again to resume it, or `restore --undo`.",
    ),
    "restart-interrupted": ("A restart has not finished.", "Run `rotate-token` to finish it."),
    "rotation-interrupted": ("A token rotation has not finished.", "Run `rotate-token` to finish it."),
    "endpoint-taken": (
        "A deployment of another project uses the endpoint.",
        "Have that deployment stopped, or choose another deployment.endpoint. Then run `install`.",
    ),
    "second-server": ("A second deployment uses the same data.", "Run `install`, which stops the second one."),
    "no-server": ("The project has no deployment.", "Run `install` to start the server."),
    "server-public": (
        "The deployment is public: no login protects the data.",
        "Run `install`, which makes it private.",
    ),
    "server-not-started": (
        "The deployment has failed or is stopped.",
        "Read its log with `logs`. `install` starts it again.",
    ),
    "server-starting": ("The deployment is starting.", "Wait until it has started."),
    "no-url": ("The platform reports no URL for the deployment.", "Restart it with `rotate-token --restart`."),
    "api-unhealthy": (
        "The MLflow API or its database does not work.",
        "Read the server's log with `logs`. `doctor --from-platform` tests the database.",
    ),
    "api-not-checked": (
        "The endpoint rejected the login session, so the API was not checked.",
        "Run `verify`, which uses a token.",
    ),
    "token-missing": (
        "A token file that this machine wrote does not exist, is empty or cannot be read.",
        "Run `rotate-token --if-needed`, which writes it.",
    ),
    "token-expired": ("A stored token has expired.", "Run `rotate-token`."),
    "secrets-missing": ("Secrets that the server or its clients need are not set.", "Run `install`."),
    "not-shared": ("A configured group or user has no access.", "Run `install`."),
    "gc-missing": ("There is no garbage collection job.", "Run `schedule-gc`, which creates it."),
    "gc-duplicate": ("More than one garbage collection job exists.", "Run `schedule-gc`, which deletes the others."),
    "gc-failed": (
        "The last garbage collection failed or skipped some of its work.",
        "Read its log with `logs --run ID`, fix the cause, then run `schedule-gc --run-now`.",
    ),
    "job-overdue": (
        "Two or more runs of a scheduled job in a row did not start.",
        "Ask the platform's administrator about its job scheduler.",
    ),
    "backup-failed": ("The last backup failed.", "Fix the cause, then run `backup`."),
    "backup-damaged": (
        "The last check of a snapshot found damage.",
        "Make another snapshot with `backup`, then run `backup verify`.",
    ),
    "backup-not-checked": ("The last check of a snapshot did not finish.", "Fix the cause, then run `backup verify`."),
    "drill-failed": ("The last drill failed.", "Fix the cause, then run `drill`."),
    "prune-failed": ("The last prune failed.", "Fix the cause, then run `backup prune --yes`."),
    "repository-missing": (
        "The last job that used the backup repository did not find it.",
        "Fix the cause, then run `backup list`.",
    ),
    "repository-replaced": (
        "The backup destination holds another repository than before.",
        "Check that its volume is mounted. `backup list --new-repository` accepts the new repository.",
    ),
}
_WARNINGS = {
    "install-interrupted": ("The last `install` did not end.", "Run `install` again, which completes it."),
    "run-in-progress": ("Another run works on this installation.", "Wait until it ends, then look again."),
    "release-differs": (
        "The installed release is not the configured one.",
        "To keep it, set release.source. To change it, run `upgrade`, which rolls back on failure; `install` does not.",
    ),
    "job-differs": (
        "A scheduled job is not as configured.",
        "To reset it, run `install`, which deletes the logs of its runs. To keep it, change the configuration.",
    ),
    "schedule-missing": (
        "A job that was scheduled from this machine does not exist any more.",
        "Schedule it again, or keep it removed with the option --remove.",
    ),
    "gc-paused": ("The garbage collection job is paused.", "Run `schedule-gc --resume` to resume it."),
    "token-not-known": (
        "Another machine stored a token; whether it is current is not visible from here.",
        "Run `doctor --from-platform` to test it.",
    ),
    "token-outdated": (
        "The token stored by this machine is of an earlier deployment.",
        "Run `rotate-token --if-needed`.",
    ),
    "token-expiring": ("A stored token expires within 30 days.", "Run `rotate-token`."),
    "gc-not-retested": (
        "The last garbage collection failed, and the token was renewed since.",
        "Wait for the next run, or start one: `schedule-gc --run-now`.",
    ),
    "result-unknown": (
        "The last run of a job wrote no readable result.",
        "Run it again. If its result stays unknown, read the run's log on the platform.",
    ),
    "job-late": (
        "A run of a scheduled job did not start within an hour.",
        "Wait for the next one. If that does not start either, ask the platform's administrator.",
    ),
    "no-backup": ("This machine has seen no snapshot.", "Run `backup`, or `backup list` to query the destination."),
    "backup-old": (
        "The newest complete snapshot is older than the schedule allows, or over a week old without one.",
        "Run `backup`.",
    ),
    "backup-paused": ("The scheduled backup is paused.", "Resume the job on the platform."),
    "check-paused": ("The scheduled backup check is paused.", "Resume the job on the platform."),
    "drill-paused": ("The scheduled drill is paused.", "Resume the job on the platform."),
    "backup-incomplete": (
        "The newest snapshot lacks artifacts.",
        "Make them readable, or back them up where they are.",
    ),
    "backup-shrunk": (
        "Many runs or artifacts of the previous snapshot are missing in the newest.",
        "Check the database and the artifact volume. If users deleted the data, nothing has to be done.",
    ),
    "project-edited": (
        "The project's files were changed after the upload.",
        "Run `plan` to see whether `install` would replace them.",
    ),
    "configuration": ("A stage of `install` has a warning.", "Run `plan` for the details."),
}
CODES = {
    code: ProblemCode(code, severity, *texts)
    for severity, rows in ((ERROR, _ERRORS), (WARNING, _WARNINGS))
    for code, texts in rows.items()
}


@dataclass(frozen=True)
class HealthProblem:
    """One observed problem. code: one of CODES."""

    code: str
    message: str  # a sentence
    remedy: str = ""
    subject: str = ""  # the deployment or job that it is about, where several can have this problem

    def __post_init__(self) -> None:
        if not self.remedy:
            object.__setattr__(self, "remedy", CODES[self.code].remedy)

    @property
    def severity(self) -> str:
        return CODES[self.code].severity

    @property
    def key(self) -> str:
        """The same in every observation of this problem: its message may have times, which change."""
        return f"{self.code} {self.subject}".rstrip()

    def data(self) -> dict[str, str]:
        return {"code": self.code, "severity": self.severity, "message": self.message, "remedy": self.remedy}
