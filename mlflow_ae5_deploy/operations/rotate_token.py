"""Rotate the token: issue, test, store it for all accounts, test the gc job.

A token's value is never saved, so the rest of an interrupted rotation gets a token of its own, and the others keep
theirs. AE5 does not document whether issuing a token invalidates the earlier ones of a deployment (on the sandbox it
does not); if it does, the dry run of the gc job shows it, and everybody gets the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.errors import DeployError, StageFailed, VerificationFailed
from mlflow_ae5_deploy.common.variable_names import TOKEN
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.executor import applying, recorded, require_consent
from mlflow_ae5_deploy.engine.records import InterruptedRotation
from mlflow_ae5_deploy.operations.downtime_probe import DowntimeProbe
from mlflow_ae5_deploy.operations.gc_check import GcCheck, check_gc
from mlflow_ae5_deploy.operations.restart_as_it_was import (
    RestartResult,
    restart_as_it_was,
    restarting,
    resume,
)
from mlflow_ae5_deploy.operations.rotate_token_plan import RotationOptions, RotationState, decide
from mlflow_ae5_deploy.operations.rotate_token_result import (
    RecipientResult,
    Rotation,
    RotationContext,
    result_of,
    unchanged,
)
from mlflow_ae5_deploy.resources import token_file
from mlflow_ae5_deploy.resources.current_deployment import match_deployment, required_deployment
from mlflow_ae5_deploy.resources.deployment import await_serving
from mlflow_ae5_deploy.resources.health import await_health
from mlflow_ae5_deploy.resources.token import (
    IssueToken,
    StoreToken,
    expired,
    recipients,
    sign_in,
    store_token,
    stored_tokens,
)
from mlflow_ae5_deploy.resources.token_expiry import is_due

_TEST = 60.0  # seconds until a new token must open the endpoint of a running server

OnStep = Callable[[str], None]


def rotate(context: Context, options: RotationOptions, on_step: OnStep = lambda _name: None) -> Rotation:
    """Rotate. An error before the first token is stored is raised; a later one is in the result.

    Where nothing has to be done, nothing is written, not even to the journal: cron runs this often.
    """
    on_step("observe")
    if nothing_to_do := _unneeded(context, options):
        return nothing_to_do
    result: Rotation | None = None
    try:
        with recorded(context), DowntimeProbe(context.clock).stopped_at_the_end() as probe:
            restarted = _restarted(context, options, on_step, probe)
            result = _issue_and_store(context, _rotation(context, options, restarted), on_step, probe)
            if result.error is not None:
                raise result.error
    except DeployError:
        if result is None:
            raise
    return result


# observe ------------------------------------------------------------------------------------------------------------


def _unneeded(context: Context, options: RotationOptions) -> Rotation | None:
    current = match_deployment(context).current
    if not options.if_needed or current is None or not current.is_started or context.state.restart is not None:
        return None
    rotation = _rotation(context, options, None)
    return unchanged(context, rotation) if rotation.decision.nothing else None


def _restarted(
    context: Context, options: RotationOptions, on_step: OnStep, probe: DowntimeProbe
) -> RestartResult | None:
    """Restart if requested; resume an interrupted restart in any case."""
    current, pending = match_deployment(context).current, context.state.restart
    if pending is not None and (current is None or current.id != pending.deployment_id):
        on_step("finish the restart")
        return resume(context, pending, current)
    if not options.restart:
        return None
    current = required_deployment(context)
    change = restarting(current, "--restart was given")
    require_consent(context, [change], where=f"deployment {current.name}")
    on_step("restart")
    return restart_as_it_was(context, current, lambda: _start_probe(context, current, probe))


def _start_probe(context: Context, current: Deployment, probe: DowntimeProbe) -> None:
    """With a token of its own, because the values of stored ones are not kept. A restart does not fail for it."""
    if not current.is_started or not current.url:
        return
    try:
        token = context.token_for(current.id)
    except DeployError as error:
        context.journal.write("note", action="measure the downtime", what=error.what)
        return
    probe.start(context.server(current.url, token))


def _rotation(context: Context, options: RotationOptions, restarted: RestartResult | None) -> RotationContext:
    deployment = restarted.deployment if restarted else _running(context)
    url = (deployment.url or "").rstrip("/")
    if urlsplit(url).scheme != "https":
        raise StageFailed(f"The deployment has no https URL: {url or 'none'}", stage=9)
    context.outputs.deployment, context.outputs.url = deployment, url
    unfinished = context.state.rotation
    if unfinished is not None and unfinished.deployment_id != deployment.id:
        unfinished = None
    decision = decide(replace(options, restart=restarted is not None), _situation(context, deployment, unfinished))
    invalid_since = _invalid_since(context, deployment, restarted, unfinished)
    earlier_valid = restarted is None and unfinished is None and _recorded_are_valid(context, deployment)
    return RotationContext(deployment, url, decision, invalid_since, earlier_valid, restarted, unfinished)


def _running(context: Context) -> Deployment:
    current = required_deployment(context)
    if current.is_starting:
        return await_serving(context, current)
    if not current.is_started:
        raise StageFailed(
            f"The deployment {current.name} is {current.state} ({current.status_text or 'no reason given'}).",
            stage=8,
            where=current.id,
            remedy="`rotate-token --restart` restarts it as it was, `install` as configured.",
        )
    return current


def _situation(context: Context, deployment: Deployment, unfinished: InterruptedRotation | None) -> RotationState:
    tokens = stored_tokens(context)
    own = tokens.get(context.account)
    return RotationState(
        deployment_id=deployment.id,
        recipients=tuple(recipients(context)),
        stored={name: token.deployment_id for name, token in tokens.items()},
        listed=TOKEN in context.cached.secret_names(),
        due=own is not None and is_due(own.issued, own.expires, context.clock.now()),
        left=unfinished.remaining if unfinished else None,
        gc_tested=unfinished.gc_tested if unfinished else False,
    )


def _invalid_since(
    context: Context, deployment: Deployment, restarted: RestartResult | None, unfinished: InterruptedRotation | None
) -> datetime | None:
    """None where the previous token works, or its end was not observed."""
    if restarted is not None:
        return restarted.since
    if unfinished is not None:
        return unfinished.invalid_since
    own = context.state.tokens.get(context.account)
    if own is None or own.deployment_id != deployment.id or own.expires is None:
        return None
    return own.expires if own.expires <= context.clock.now() else None


def _recorded_are_valid(context: Context, deployment: Deployment) -> bool:
    """Whether the recorded tokens are of this deployment and have not expired; False without one of its account."""
    tokens = context.state.tokens
    deployments = {tokens[name].deployment_id for name in recipients(context) if name in tokens}
    return context.account in tokens and deployments == {deployment.id} and not expired(context, deployment.id)


# rotate -------------------------------------------------------------------------------------------------------------


def _issue_and_store(context: Context, rotation: RotationContext, on_step: OnStep, probe: DowntimeProbe) -> Rotation:
    decision = rotation.decision
    served: dict[str, RecipientResult] = {}
    if clients := _sign_in(context, decision.accounts, served, on_step):
        # A token cannot be revoked, so none is issued before it can be stored somewhere.
        on_step("test the token")
        _test(context, rotation.deployment, decision.reason)
        _start_rotation(context, rotation, decision.accounts)
        _store(context, rotation, clients, served, on_step)
        if not _any_failed(served):
            probe.use_stored(context.server(rotation.url, context.outputs.token))
    gc, broken, rotation = _gc(context, rotation, served, on_step)
    if not broken and not _any_failed(served):
        context.state.rotation = None
        context.state.save()
    return result_of(context, rotation, served, gc, broken, probe.seconds())


def _any_failed(served: Mapping[str, RecipientResult]) -> bool:
    return any(item.outcome == "failed" for item in served.values())


def _start_rotation(context: Context, rotation: RotationContext, accounts: tuple[str, ...]) -> None:
    context.state.rotation = InterruptedRotation(rotation.deployment.id, accounts, rotation.invalid_since)
    context.state.save()


def _test(context: Context, deployment: Deployment, reason: str) -> None:
    """Issue a token and call the endpoint with it, database included."""
    seconds = min(_TEST, context.settings.platform.deployment_deadline)
    problem: StageFailed | None = None
    try:
        with applying(IssueToken(id=deployment.id, reason=reason), context.journal):
            await_health(context, deployment, seconds)
    except StageFailed as error:
        problem = error
    if problem is not None:
        raise VerificationFailed(
            f"The test of the new token failed, so it was not stored: {problem.what}",
            where=problem.where,
            remedy="The stored tokens are unchanged. Fix the cause (the server's log is below), then run this again. "
            "`rotate-token --restart` restarts the server.",
            detail=problem.detail,
        )


def _sign_in(
    context: Context, accounts: tuple[str, ...], served: dict[str, RecipientResult], on_step: OnStep
) -> dict[str, Client | None]:
    """The platform as each account, None for a file; record those that cannot get the token."""
    clients: dict[str, Client | None] = {}
    for account in accounts:
        file = token_file.of(context, account)
        try:
            if file is not None:
                token_file.check(file)
                clients[account] = None
                continue
            on_step(f"sign in as {account}")
            clients[account] = sign_in(context, account)
        except DeployError as error:
            _failed(context, account, error, served)
    return clients


def _failed(context: Context, account: str, error: DeployError, served: dict[str, RecipientResult]) -> None:
    context.journal.write("failed", account=account, kind=error.kind, what=error.what)
    served[account] = RecipientResult(account, "failed", error=error)


def _store(
    context: Context,
    rotation: RotationContext,
    clients: Mapping[str, Client | None],
    served: dict[str, RecipientResult],
    on_step: OnStep,
) -> None:
    """Store the token for each account, also after a failure."""
    for account, platform in clients.items():
        on_step(f"store for {account}")
        try:
            with applying(StoreToken(name=account, reason=rotation.decision.reason), context.journal):
                store_token(context, account, rotation.deployment, platform)
        except DeployError as error:
            _failed(context, account, error, served)
            continue
        served[account] = RecipientResult(account, "stored", stored=context.clock.now())


def _gc(
    context: Context, rotation: RotationContext, served: dict[str, RecipientResult], on_step: OnStep
) -> tuple[GcCheck | None, DeployError | None, RotationContext]:
    """Test the gc job with the stored token; returns the rotation, updated."""
    own = served.get(context.account)
    if own is not None and own.outcome == "failed":
        return None, None, rotation
    issued = any(item.outcome == "stored" for item in served.values())
    if rotation.decision.accounts and not issued and (rotation.unfinished is None or rotation.unfinished.gc_tested):
        return None, None, rotation  # nothing has changed since the job was last tested
    on_step("test the gc job")
    try:
        tested = check_gc(context, context.outputs.token if own else None)
        if tested.state == "rejected":
            # The earlier tokens are invalid after all: everybody needs the new one.
            rotation = replace(rotation, invalid_since=None, earlier_valid=False)
            if not issued:
                _test(context, rotation.deployment, "the earlier tokens are invalid")
            everyone = tuple(recipients(context))
            _start_rotation(context, rotation, everyone)
            _store(context, rotation, _sign_in(context, everyone, served, on_step), served, on_step)
            tested = check_gc(context, context.outputs.token)
    except DeployError as error:
        context.journal.write("failed", action="test gc job", kind=error.kind, what=error.what)
        return None, error, rotation
    if context.state.rotation is not None:
        context.state.rotation = replace(context.state.rotation, gc_tested=True)
    if tested.state == "passed":
        context.state.gc_tested = context.clock.now()
    context.state.save()
    context.journal.write("note", action="test gc job", outcome=tested.state, what=tested.message)
    return tested, None, rotation
