"""What `install` and `restore` share: all stages under the lock, then the proof if one is wanted, then the telling."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_ae5_deploy.cli.context import SharedOptions, opened
from mlflow_ae5_deploy.cli.locked_run import asking
from mlflow_ae5_deploy.common.errors import EXIT_DONE, DeployError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_ae5_deploy.config.load import LoadedSettings
    from mlflow_ae5_deploy.engine.context import Context, RestoreRequest, RunOptions
    from mlflow_ae5_deploy.engine.plan import RunResult
    from mlflow_ae5_deploy.engine.stage import Stage
    from mlflow_ae5_deploy.operations.verify import Verification
    from mlflow_ae5_deploy.render.console import Reporter


_REPORT = '{"command": '  # how the last line of a job's log begins


def run_all(
    verb: str,
    choices: SharedOptions,
    reporter: Reporter,
    *,
    create: bool,
    agreed: bool,
    lock_wait: float,
    agreed_to: Collection[str] = (),
    recovery: RestoreRequest | None = None,
    replace_keys: bool = False,
) -> int:
    """With a recovery, `verify` follows the last stage, and a restore that was proved so is over.

    agreed, agreed_to: see `asking`.
    """
    from mlflow_ae5_deploy.engine.context import RunOptions
    from mlflow_ae5_deploy.engine.executor import run
    from mlflow_ae5_deploy.engine.lock import InstallationLock
    from mlflow_ae5_deploy.operations.restore import refuse_empty_undo
    from mlflow_ae5_deploy.runbook.stages.registry import STAGES

    def wishes(loaded: LoadedSettings) -> RunOptions:
        return RunOptions(
            create_account=create or loaded.settings.account.create,
            consent=asking(reporter, agreed=agreed, to=agreed_to),
            recovery=recovery,
            replace_keys=replace_keys,
        )

    proof: Verification | None = None
    with opened(choices, reporter, verb=verb, wishes=wishes) as context:
        follow(context, reporter)
        lock = InstallationLock(context.folder, context.clock, verb=verb)
        with lock.held(lock_wait):
            context.memory.refresh()  # whoever held the lock before may have remembered something
            if recovery is not None:
                refuse_empty_undo(context, recovery)

            def begins(stage: Stage) -> None:
                lock.at_stage(f"{stage.number} {stage.name}")
                reporter.stage_begins(stage)

            result = run(STAGES, context, on_stage=begins, on_result=reporter.stage_ends)
            if result.error is None and recovery is not None:
                lock.at_stage("verify")
                proof = _prove(choices, reporter, context)
        return finish(verb, choices, reporter, context, result, proof)


def follow(context: Context, reporter: Reporter) -> None:
    """Show the logs of jobs as they grow. In JSON mode nobody reads them."""

    def show(line: str) -> None:
        if not line.startswith(_REPORT):  # what that says is told in words
            reporter.foreign(line, "  | ")

    if not reporter.json_mode:
        context.on_line = show


def _prove(choices: SharedOptions, reporter: Reporter, context: Context) -> Verification:
    from mlflow_ae5_deploy.cli.commands.verify import prove
    from mlflow_ae5_deploy.resources.restore import conclude

    reporter.line()
    proof = prove(choices, reporter, context)
    if proof.passed:
        conclude(context)
    return proof


def finish(
    verb: str,
    choices: SharedOptions,
    reporter: Reporter,
    context: Context,
    result: RunResult,
    proof: Verification | None = None,
    *,
    create: bool = False,
) -> int:
    """Summary, or the error; as text or JSON."""
    from mlflow_ae5_deploy.cli.next_steps import installed_state, next_steps
    from mlflow_ae5_deploy.render.install import error_data, run_data

    failed = result.error or failure_of(proof)
    installed = installed_state(context)
    keys = installed.key_file if context.outputs.keys_made else None
    steps = next_steps(verb, choices, result, create=create, keys=keys)
    if choices.json_mode:
        document = run_data(verb, result, installed, steps)
        if context.options.recovery is not None:
            document |= recovery_data(context, proof)
        if failed is not None:
            document |= {"outcome": "failed", "error": error_data(failed)}
        reporter.data(document)
    reporter.run_ends(verb, result, installed, steps)
    if result.error is not None:
        last = result.stages[-1]
        reporter.error(result.error, stage=f"stage {last.number} ({last.name})")
    elif failed is not None:
        reporter.error(failed)
    return failed.exit_code if failed else EXIT_DONE


def recovery_data(context: Context, proof: Verification | None) -> dict[str, Any]:
    """recovery: the job's own report; null where nothing had to be restored any more."""
    job_result = context.outputs.recovered
    return {
        "recovery": {"message": job_result.message, "report": dict(job_result.report)} if job_result else None,
        "verification": proof_data(proof),
    }


def proof_data(proof: Verification | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    return {"passed": proof.passed, "url": proof.url, "checks": [asdict(check) for check in proof.checks]}


def failure_of(proof: Verification | None) -> DeployError | None:
    from mlflow_ae5_deploy.operations.verify import require

    if proof is not None:
        try:
            require(proof)
        except DeployError as error:
            return error
    return None
