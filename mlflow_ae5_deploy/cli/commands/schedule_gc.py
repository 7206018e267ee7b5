"""schedule-gc: the garbage collection job after the install."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_ae5_deploy.cli import gc_options
from mlflow_ae5_deploy.cli.context import load_settings, writing
from mlflow_ae5_deploy.cli.gc_options import GcOptions
from mlflow_ae5_deploy.cli.options import WriteOptions
from mlflow_ae5_deploy.common.errors import EXIT_DONE, JobFailed, PartlyDone, StageFailed
from mlflow_ae5_deploy.common.text import counted

if TYPE_CHECKING:
    from mlflow_ae5_deploy.engine.context import Context
    from mlflow_ae5_deploy.engine.job_result import JobResult
    from mlflow_ae5_deploy.jobs.spec import JobSpec
    from mlflow_ae5_deploy.operations.schedule import ScheduleResult
    from mlflow_ae5_deploy.render.console import Reporter
    from mlflow_ae5_deploy.render.schedule_gc import ScheduleView

NAME = "schedule-gc"


def command(
    options: WriteOptions,
    cron: gc_options.Cron = None,
    ttl: gc_options.Ttl = None,
    backend_store_uri: gc_options.BackendStoreUri = None,
    variable: gc_options.Variable = None,
    dry_run: gc_options.DryRun = False,
    run_now: gc_options.RunNow = False,
    pause: gc_options.Pause = False,
    resume: gc_options.Resume = False,
    remove: gc_options.Remove = False,
    keep_runs: gc_options.KeepRuns = 50,
    wait: gc_options.Wait = 900.0,
) -> int:
    """Without options: exactly one schedule, as the configuration says. Options are laid over the configuration."""
    gc = gc_options.read(
        cron=cron,
        ttl=ttl,
        uri=backend_store_uri,
        variables=variable or [],
        dry_run=dry_run,
        switches={"pause": pause, "resume": resume, "remove": remove, "run-now": run_now},
        keep_runs=keep_runs,
        wait=wait,
    )
    return _schedule(options, gc)


def _schedule(options: WriteOptions, gc: GcOptions) -> int:
    from mlflow_ae5_deploy.operations import schedule_gc
    from mlflow_ae5_deploy.render.install import error_data
    from mlflow_ae5_deploy.render.schedule_gc import ScheduleView, schedule_data, show_job_result
    from mlflow_ae5_deploy.resources.gc_job import desired_job

    configured = desired_job(load_settings(options).settings)
    result: ScheduleView | None = None
    reporter = options.reporter
    try:
        with writing(options, NAME, settings=gc.overrides) as context:
            reporter.doing(NAME)
            desired = _desired(gc, context)
            result = ScheduleView(
                desired=desired,
                done=_set(gc, context, desired),
                departures=tuple(schedule_gc.departures(desired, configured)) if gc.verb in ("set", "run") else (),
                now=context.clock.now(),
            )
            _show(reporter, result, gc, options)
            job_result = _run(gc, context, desired, reporter)
            result = replace(result, job_result=job_result, pruned=_prune(gc, context, desired, reporter))
            if job_result is not None:
                show_job_result(reporter, job_result)
                schedule_gc.require(job_result)
    except (JobFailed, StageFailed, PartlyDone) as error:
        if result is None or result.job_result is None or not options.json:
            raise
        reporter.data(schedule_data(NAME, result) | {"outcome": "failed", "error": error_data(error)})
        reporter.error(error)
        return error.exit_code
    if options.json:
        reporter.data(schedule_data(NAME, result))
    return EXIT_DONE


def _desired(gc: GcOptions, context: Context) -> JobSpec:
    from mlflow_ae5_deploy.operations.schedule_gc import with_database
    from mlflow_ae5_deploy.resources.gc_job import desired_job

    desired = desired_job(context.settings)
    if gc.database is None:
        return desired
    return with_database(desired, context, gc_options.resolve(gc.database, context.values))


def _set(gc: GcOptions, context: Context, desired: JobSpec) -> ScheduleResult | None:
    """What happens to the schedule; None where only a run was asked for."""
    from mlflow_ae5_deploy.operations import schedule, schedule_gc

    if gc.verb == "pause":
        return schedule_gc.pause(context, desired)
    if gc.verb == "resume":
        return schedule_gc.resume(context, desired)
    if gc.verb == "remove":
        return schedule.remove(context, desired, wait=gc.wait)
    if gc.verb == "set" or (gc.verb == "run" and gc.changes):
        return schedule_gc.converge(context, desired, wait=gc.wait)
    return None


def _show(reporter: Reporter, result: ScheduleView, gc: GcOptions, options: WriteOptions) -> None:
    from mlflow_ae5_deploy.render.schedule_gc import show_departures, show_done, show_job

    if result.done is None:
        return
    show_done(reporter, result.done)
    if result.done.job is not None and gc.verb != "pause":
        show_job(reporter, result)
        show_departures(reporter, result.departures, profile=options.profile)
    if gc.verb == "remove":
        hint = "The next `install` makes it again. To keep it from running, `--pause` it: install leaves that."
        reporter.hanging("", hint)


def _run(gc: GcOptions, context: Context, desired: JobSpec, reporter: Reporter) -> JobResult | None:
    from mlflow_ae5_deploy.jobs.logs import WithoutSettings
    from mlflow_ae5_deploy.operations import schedule_gc

    show = WithoutSettings(lambda line: reporter.foreign(line, "  | "))
    if gc.verb == "rehearse":
        reporter.line("One dry run, as a job of its own; the schedule is not touched")
        return schedule_gc.rehearse(context, desired, show, seconds=gc.wait)
    if gc.verb == "run":
        schedule_gc.required_jobs(context, desired)  # before anything is announced
        reporter.line("One run, now")
        return schedule_gc.run_now(context, desired, show, seconds=gc.wait)
    return None


def _prune(gc: GcOptions, context: Context, desired: JobSpec, reporter: Reporter) -> int:
    from mlflow_ae5_deploy.jobs import one_off

    if gc.verb not in ("set", "run"):
        return 0
    pruned = one_off.prune(context, desired.name, keep=gc.keep_runs)
    if pruned:
        reporter.line(f"{counted(pruned, 'old run records')} deleted, the newest {gc.keep_runs} kept")
    return pruned
