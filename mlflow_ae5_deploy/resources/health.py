"""Whether a deployment is healthy; wait until it is, or raise an error with its log."""

from __future__ import annotations

from mlflow_ae5_deploy.ae5.models import Deployment
from mlflow_ae5_deploy.common.clock import Deadline, poll_until
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, DeployError, PlatformError, StageFailed
from mlflow_ae5_deploy.common.mlflow_api import PROBE, Health, health_of
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.engine.context import Context

_TAIL_LINES = 25
PATIENCE = 5.0  # seconds that a run that only reads waits for the server
_LONGEST_PROBE = 30.0  # seconds, however long the platform may take
_STATE_EVERY = 4  # probes between two requests for the deployment's own state


def health_at(context: Context, url: str, *, host: str | None = None) -> Health:
    """Ask the MLflow API at an endpoint as the signed-in owner, which needs no token.

    host: the name to send, where it is not that of the URL. A run that only reads waits for a few seconds at most:
    monitoring starts such runs, and a server may hang.
    """
    seconds = min(PATIENCE, context.access.target.options.read_timeout) if context.options.dry else None
    try:
        answer = context.platform.session.browse(f"{url.rstrip('/')}/{PROBE}", timeout=seconds, host=host)
    except PlatformError as error:
        return Health("unhealthy", error.what.rstrip("."), answered=False)
    return health_of(answer.status, answer.content_type, answer.text.encode(), f"{answer.status} at {answer.url}")


def health_once(context: Context, url: str) -> Health:
    """As `health_at`, but a run that only reads asks once: `status`, and stage 8 for the drift."""
    if not context.options.dry:
        return health_at(context, url)
    if url not in context.outputs.health:
        context.progress.waiting(f"the MLflow API at {url}")
        context.outputs.health[url] = health_at(context, url)
    return context.outputs.health[url]


def await_health(context: Context, deployment: Deployment, seconds: float | None = None) -> Health:
    """Probe the public URL with a token until the API is healthy, database included.

    seconds: the deadline; None for that of a deployment's start.
    Raises StageFailed with the tail of the deployment's log when it fails meanwhile or the deadline passes.
    """
    if not deployment.url:
        raise failure(context, deployment, "The platform gives no URL for the started deployment")
    token = context.token_for(deployment.id)
    server = context.server(deployment.url, token)
    deadline = Deadline(context.clock, seconds or context.settings.platform.deployment_deadline)
    patience = min(_LONGEST_PROBE, context.settings.platform.read_timeout)
    seen = [Health("unhealthy", "no answer yet")]
    probes = 0

    def probe() -> Health | None:
        nonlocal probes
        probes += 1
        seen[0] = server.health(timeout=max(1.0, min(patience, deadline.remaining())))
        if seen[0].healthy:
            return seen[0]
        if probes % _STATE_EVERY == 0:
            now = context.platform.deployment(deployment.id)
            if now is None:
                raise failure(context, deployment, "The deployment disappeared while starting")
            if not now.is_started and not now.is_starting:
                raise failure(context, deployment, f"The deployment is {now.state} ({now.status_text})")
        return None

    try:
        return poll_until(
            probe,
            waiting_for="the MLflow API at the endpoint",
            deadline=deadline,
            longest=3.0,
            on_wait=context.progress.waiting,
        )
    except DeadlineExceeded:
        raise failure(
            context,
            deployment,
            f"Timed out after {deadline.seconds:.0f} s waiting for a healthy server; last answer: {seen[0].message}",
        ) from None
    finally:
        server.close()


def failure(context: Context, deployment: Deployment, what: str) -> StageFailed:
    """StageFailed for stage 8, with the end of the deployment's log."""
    try:
        logs = context.platform.logs(deployment.id)
        lines = [line for line in (logs.app or logs.events).splitlines() if line.strip()][-_TAIL_LINES:]
        detail = scrub("\n".join(lines)) or "(the deployment's log is empty)"
    except DeployError as error:
        detail = f"(its log could not be read: {error.what})"
    return StageFailed(
        f"{what.rstrip('.')}.",
        stage=8,
        where=f"deployment {deployment.name} ({deployment.id})",
        remedy="The end of its log is below. Fix the cause, then run this again: it continues here.",
        detail=detail,
    )
