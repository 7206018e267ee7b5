"""Jobs (scheduled or run once) and their runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from mlflow_ae5_deploy.ae5.models import Job, Project, Revision, Run
from mlflow_ae5_deploy.ae5.parsing import as_list, as_record, parse_job, parse_run
from mlflow_ae5_deploy.ae5.resource_api import ResourceApi, part, workload
from mlflow_ae5_deploy.common.errors import Conflict, DeployError, NotFound, Refused, UnexpectedAnswer


class JobsApi(ResourceApi):
    def jobs(self) -> list[Job]:
        return [parse_job(record) for record in as_list(self._session.call("GET", "jobs"), "jobs")]

    def create_job(
        self,
        *,
        project: Project,
        revision: Revision,
        revision_name: str,
        name: str,
        command: str,
        schedule: str | None,
        variables: Mapping[str, str],
        resource_profile: str,
        run: bool = False,
    ) -> Job:
        """Create a job. schedule: cron, or None. run: start a run at once.

        Leftover runs of a deleted job block its name, and AE5's answer to that is not documented: after a refusal such
        runs are deleted (see free_job_name) and, if there were any, the request is repeated once. An existing job of
        that name is a Conflict.
        """
        path = f"projects/{part(project.id)}/jobs"
        body = workload(
            revision,
            revision_name,
            command=command,
            name=name,
            resource_profile=resource_profile,
            variables=variables,
            schedule=schedule,
            autorun=run,
        )

        def send() -> Job:
            return parse_job(as_record(self._send("POST", path, json=body), "a job"))

        def find() -> Job | None:
            return next((job for job in self.jobs() if job.name == name and job.project_id == project.id), None)

        clash: Conflict | Refused | None = None
        try:
            return self._write_once(send, find, f"the creation of job {name}")
        except (Conflict, Refused) as error:
            clash = error
        freed = 0
        # A refusal may be about something else: an error while freeing the name must not hide it.
        with contextlib.suppress(*([DeployError] if isinstance(clash, Refused) else [])):
            freed = self.free_job_name(name)
        if freed == 0:
            raise clash
        return self._write_once(send, find, f"the creation of job {name}")

    def free_job_name(self, name: str) -> int:
        """Delete own finished runs of that name without a job; returns how many.

        Raises Conflict if a job has the name, or a run of a deleted job is still active.
        """
        holder = next((job for job in self.jobs() if job.name == name and job.owner == self._session.username), None)
        if holder is not None:
            raise Conflict(f"A job named {name} exists already ({holder.id}).", where=holder.id)
        leftover = [run for run in self.runs() if run.name == name and run.owner == self._session.username]
        active = next((run for run in leftover if run.is_active), None)
        if active is not None:
            raise Conflict(
                f"A run of a deleted job named {name} is still active ({active.id}).",
                where=active.id,
                remedy="Wait until it ends, or stop it.",
            )
        for run in leftover:
            self.delete_run(run.id)
        return len(leftover)

    def delete_job(self, job_id: str) -> None:
        """Delete by id; a missing one is fine. The platform refuses while a run is active."""
        self._write("DELETE", f"jobs/{part(job_id)}", missing_ok=True, expect="text")

    def pause_job(self, job_id: str) -> Job:
        return parse_job(as_record(self._write("POST", f"jobs/{part(job_id)}/pause"), "a job"))

    def unpause_job(self, job_id: str) -> Job:
        return parse_job(as_record(self._write("POST", f"jobs/{part(job_id)}/unpause"), "a job"))

    def run_job(self, job_id: str) -> Run:
        """Start a run now; after a lost answer it is recognised by its new id."""
        before = {run.id for run in self.runs(job_id)}
        path = f"jobs/{part(job_id)}/runs"

        def send() -> Run:
            return parse_run(as_record(self._send("POST", path), "a run"), job_id)

        def find() -> Run | None:
            return next((run for run in self.runs(job_id) if run.id not in before), None)

        return self._write_once(send, find, "the start of a run")

    def runs(self, job_id: str | None = None) -> list[Run]:
        """All visible runs, or those of one job. The order is the platform's."""
        path = "runs" if job_id is None else f"jobs/{part(job_id)}/runs"
        return [parse_run(record, job_id) for record in as_list(self._session.call("GET", path), "runs")]

    def run(self, run_id: str) -> Run | None:
        try:
            answer = self._session.call("GET", f"runs/{part(run_id)}")
        except NotFound:
            return None
        return parse_run(as_record(answer, "a run"))

    def run_log(self, run_id: str) -> str:
        answer = self._session.call("GET", f"runs/{part(run_id)}/logs")
        text = answer.get("job") if isinstance(answer, dict) else None
        if text is not None and not isinstance(text, str):
            raise UnexpectedAnswer("The log of a run is not text.", where=run_id)
        return text or ""

    def stop_run(self, run_id: str) -> None:
        """Stop by id; a missing one is fine."""
        self._write("POST", f"runs/{part(run_id)}/stop", missing_ok=True, expect="text")

    def delete_run(self, run_id: str) -> None:
        """Delete by id; a missing one is fine."""
        self._write("DELETE", f"runs/{part(run_id)}", missing_ok=True, expect="text")
