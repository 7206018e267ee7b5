"""What keeps a restore from being begun, found out before anything is stopped or replaced for it."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_ae5_deploy.config.store_uri import parse_store_uri
from mlflow_ae5_deploy.errors import StageFailed, TargetInUse, TargetNotEmpty
from mlflow_ae5_deploy.platform.records import Deployment
from mlflow_ae5_deploy.redaction import scrub
from mlflow_ae5_deploy.runbook import job_run, maintenance
from mlflow_ae5_deploy.runbook.context import Context, Recovery
from mlflow_ae5_deploy.runbook.current import chosen_of
from mlflow_ae5_deploy.runbook.job_run import Verdict
from mlflow_ae5_deploy.runbook.secret_facts import SecretFact

DATABASE = "MLFLOW_BACKEND_STORE_URI"
_TOO = " Unless database and artifacts are empty, add --replace, too: it keeps aside what they hold."
IN_USE = 18  # exit code of the project's Restore where a server works on the target


def servers_of(context: Context) -> tuple[Deployment, ...]:
    """Deployments of the project, in whatever state: the platform may start a failed one again."""
    chosen = chosen_of(context)
    return tuple(item for item in (chosen.current, *chosen.duplicates) if item is not None)


def refuse_in_use(wanted: Recovery, servers: Sequence[Deployment]) -> None:
    if not servers or wanted.stop_server:
        return
    names = ", ".join(f"`{item.name}` ({item.id}, {item.state})" for item in servers)
    raise TargetInUse(
        f"A server of this installation runs on the data that would be restored: deployment {names}.",
        where="stage 7 (recovery)",
        remedy="Nothing was changed. Add --stop-server to have it stopped first; what it has written since the "
        "snapshot is then not served any more." + ("" if wanted.replace or wanted.undo else _TOO),
    )


def refuse_occupied(wanted: Recovery, servers: Sequence[Deployment], secrets: Sequence[SecretFact]) -> None:
    """A database that is being served holds something: no need to stop the server to find that out."""
    served = any(fact.name == DATABASE and fact.state == "same" for fact in secrets)
    if servers and served and not wanted.replace and not wanted.undo:
        raise TargetNotEmpty(
            "The server that runs uses the database that would be restored, so that is not empty.",
            where=f"deployment {servers[0].name}",
            remedy="Nothing was changed. `--replace` keeps what is there aside; `restore --undo` brings it back.",
        )


def refuse_what_the_job_would(verdict: Verdict) -> None:
    """The server is not stopped for a restore that would then be refused, but for the reason that it runs."""
    found = verdict.facts.get("would_refuse")
    refusals = [item for item in (found if isinstance(found, list) else []) if isinstance(item, dict)]
    others = [item for item in refusals if item.get("exit_code") != IN_USE]
    if others:
        raise TargetNotEmpty(
            f"The restore would be refused: {'; '.join(scrub(str(item.get('error'))) for item in others)}.",
            where=f"run {verdict.run_id}",
            remedy=scrub(str(others[0].get("hint") or "")) or "Mend that first. Nothing was changed.",
        )


def require_place(context: Context, verdict: Verdict) -> None:
    """The job must have worked on the database that is configured, and not on one whose secret it still had."""
    dialects = verdict.facts.get("dialect")
    used = dialects.get("to") if isinstance(dialects, dict) else None
    wanted = parse_store_uri(context.values.store_uri(context.settings.server.backend_store_uri).reveal()).dialect
    if used is not None and used != wanted:
        raise StageFailed(
            f"The job restored into {used}, and {wanted} is configured: it did not see the new {DATABASE} yet.",
            stage=7,
            where=DATABASE,
            remedy="AE5 may take minutes to hand a changed secret to jobs. Wait, then run this again. What is in "
            f"{used} now, the next restore there leaves alone or keeps aside.",
        )


def conclude(context: Context) -> None:
    """The restore was proved, so it is over. A job's record that a run which was cut off has left is of no use now, and
    must not be taken for the answer to a later request."""
    known = context.memory.recovery()
    project = context.look.project(context.settings.project.name)
    if known is None or project is None:
        return
    context.memory.note_recovery({**known, "ended": True})
    job_run.clear(context, project, maintenance.wanted_once(context, maintenance.restore()).name)
