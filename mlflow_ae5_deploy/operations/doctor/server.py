"""The running server, observed from outside: health, version, host names, token, garbage collection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.common.mlflow_api import Health
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations import missed
from mlflow_ae5_deploy.operations.doctor.findings import (
    ERROR,
    Finding,
    all_skipped,
    error,
    info,
    of_error,
    ok,
    skipped,
    warning,
)
from mlflow_ae5_deploy.operations.doctor.release import mlflow_running, proxied
from mlflow_ae5_deploy.operations.health_problem import HealthProblem
from mlflow_ae5_deploy.operations.status.observe import observe
from mlflow_ae5_deploy.operations.status.problems import (
    expiring_tokens,
    gc_problems,
    outdated_failure,
    paused_gc,
    server_problems,
    token_problems,
    unfinished_problems,
    unverified_tokens,
)
from mlflow_ae5_deploy.operations.status.problems import (
    problems as status_problems,
)
from mlflow_ae5_deploy.operations.status.state import InstallationState
from mlflow_ae5_deploy.release.packages import PackageEnvironment, exact_version
from mlflow_ae5_deploy.resources.health import health_at

CHECKS = ("server", "mlflow-running", "allowed-hosts", "token", "gc-job", "status")


def server(context: Context, environment: PackageEnvironment | None, token: Secret | None) -> Iterator[Finding]:
    """token: of the environment, to be tried at the endpoint; may be None."""
    state = observe(context, token)
    if state.project is None or state.deployment is None:
        why = "nothing is installed" if state.project is None else "no server runs"
        yield from all_skipped(CHECKS[:-1], why)
        yield from _others(state, (), context.clock.now()) if state.installed else [skipped(CHECKS[-1], why)]
        return
    if of_server := server_problems(state):
        yield _of_problems("server", of_server)
    else:
        yield ok("server", f"{state.deployment.name} is started; {state.health.message if state.health else ''}")
    if state.version is None:
        yield skipped("mlflow-running", state.version_unknown)
    else:
        pinned = exact_version(environment.packages.get("mlflow", "")) if environment else None
        yield mlflow_running(state.version, pinned, proxied=proxied(context))
    yield hosts(context, state)
    of_token, token_shown = _token(context, state, token)
    of_gc, gc_shown = _gc(state, context.clock.now())
    yield from (of_token, of_gc)
    yield from _others(state, (*of_server, *token_shown, *gc_shown), context.clock.now())


def _others(state: InstallationState, shown: Sequence[HealthProblem], now: datetime) -> Iterator[Finding]:
    """The problems that `status` finds and no other check has shown. A remedy depends on what else is found."""
    texts = {(problem.code, problem.message) for problem in shown}
    found = [problem for problem in status_problems(state, [], now) if (problem.code, problem.message) not in texts]
    yield from (_of_problems("status", [problem]) for problem in found)
    if not found:
        yield ok("status", "finds no other problem")


# host names -------------------------------------------------------------------------------------------------------


def hosts(context: Context, state: InstallationState) -> Finding:
    """Ask the endpoint with each form of its name; what the pod is asked with inside the platform is not seen here."""
    url = state.deployment.url if state.deployment else None
    if not url or state.health is None:
        return skipped("allowed-hosts", "no server runs")
    if not state.health.answered:  # each question would wait as long
        return skipped("allowed-hosts", f"the API did not answer: {state.health.message}")
    return judge_hosts({name: health_at(context, url, host=name) for name in variants(url)})


def variants(url: str) -> list[str]:
    """The endpoint's name without and with its port: MLflow compares the Host header to the letter."""
    parts = urlsplit(url)
    return list(dict.fromkeys([parts.hostname or "", f"{parts.hostname}:{parts.port or 443}"]))


def judge_hosts(answers: dict[str, Health]) -> Finding:
    """Pure. Only MLflow's own refusal counts; anything else may be the platform's ingress."""
    check = "allowed-hosts"
    refused = [name for name, health in answers.items() if "host name" in health.message and not health.healthy]
    if refused:
        return error(
            check,
            f"MLflow rejects the host name {', '.join(refused)} with 403",
            "Add it to the variable MLFLOW_SERVER_ALLOWED_HOSTS (slipstream.variables), without the port.",
        )
    good = [name for name, health in answers.items() if health.healthy]
    unseen = [f"{name} ({health.message})" for name, health in answers.items() if not health.healthy]
    if not good:
        return skipped(check, f"the API did not answer: {', '.join(unseen)}")
    if unseen:
        return info(check, f"answers to {', '.join(good)}, asked from here; not known: {', '.join(unseen)}")
    return ok(check, f"answers to {', '.join(good)}, asked from here")


# token and collection ---------------------------------------------------------------------------------------------

_NEW_TOKEN = "Run `rotate-token`: it issues, tests and stores a new one."  # noqa: S105 - prose


def _token(context: Context, state: InstallationState, given: Secret | None) -> tuple[Finding, list[HealthProblem]]:
    """(the finding, the problems that it shows)"""
    now = context.clock.now()
    if given is not None and state.deployment is not None and state.deployment.url:
        return _given_token(context, state.deployment.url, given), []
    if not state.token.listed:
        return error("token", "MLFLOW_TRACKING_TOKEN is not a secret of the account", "Run `install`."), []
    unsure = unverified_tokens(state, now)
    if not state.token.stored and not state.token.previous:
        not_tested = info(
            "token",
            "stored from another machine; not tested: the platform does not return its value",
            "Run `doctor --from-platform` to test it.",
        )
        return not_tested, unsure
    found = token_problems(state, now) + unfinished_problems(state, now)
    if problems := found or unsure or expiring_tokens(state, now):
        return _of_problems("token", problems), problems
    accounts = ", ".join(stored.account for stored in state.token.stored)
    message = f"stored for {accounts}, of this deployment; not tested: the platform does not return its value"
    return info("token", message), []


def _given_token(context: Context, url: str, given: Secret) -> Finding:
    api = context.server(url, given)
    try:
        health = api.health()
    finally:
        api.close()
    if health.healthy:
        return ok("token", "the token of the environment (MLFLOW_TRACKING_TOKEN) opens the endpoint")
    if health.status == "unauthorised":
        return error("token", f"the token of the environment does not open the endpoint: {health.message}", _NEW_TOKEN)
    return skipped("token", f"the server did not answer to the token of the environment: {health.message}")


def _gc(state: InstallationState, now: datetime) -> tuple[Finding, list[HealthProblem]]:
    """(the finding, the problems that it shows)"""
    gc = state.gc
    outdated = [outdated_failure(gc, gc.last, now)] if gc.outdated and gc.last is not None else []
    late = missed.problems([gc.missed]) if gc.missed else []
    if problems := gc_problems(gc, now) or outdated or paused_gc(gc) or late:
        return _of_problems("gc-job", problems), problems
    last = f"the last run: {gc.last.message}" if gc.last else "no run on record"
    return ok("gc-job", f"{gc.words}; {last}"), []


def _of_problems(check: str, problems: Sequence[HealthProblem]) -> Finding:
    """One finding for all of them, with the remedy of the first."""
    form = error if problems[0].severity == ERROR else warning
    return form(check, " ".join(problem.message for problem in problems), problems[0].remedy)


def not_checked(error: PlatformError) -> list[Finding]:
    """When observing the server ended in an error of the platform."""
    return [of_error("server", error), *all_skipped(CHECKS[1:], "the server was not checked")]
