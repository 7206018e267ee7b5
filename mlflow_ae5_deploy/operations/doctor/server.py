"""The server that runs now, as far as it can be seen from outside: health, version, host names, token, collection."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.common.mlflow_api import PROBE, Health, judge
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations import status
from mlflow_ae5_deploy.operations.doctor import versions
from mlflow_ae5_deploy.operations.doctor.findings import Finding, error, info, of_error, ok, skipped, warning
from mlflow_ae5_deploy.operations.doctor.release import proxied
from mlflow_ae5_deploy.operations.status_report import Observed, look_at
from mlflow_ae5_deploy.release.packages import PackageEnvironment, exact_version
from mlflow_ae5_deploy.resources import token_expiry

CHECKS = ("server", "mlflow-running", "allowed-hosts", "token", "gc-job")


def server(context: Context, environment: PackageEnvironment | None, token: Secret | None) -> Iterator[Finding]:
    """token: given from outside, to be tried at the endpoint; may be None."""
    seen = look_at(context, token)
    if seen.project is None or seen.deployment is None:
        why = "nothing is installed" if seen.project is None else "no server runs"
        for check in CHECKS:
            yield skipped(check, why)
        return
    problems = status.about_server(seen)
    if problems:
        remedy = "Run `install`: it starts or corrects the deployment. Its log: `logs`."
        yield error("server", " ".join(problems), remedy)
    else:
        yield ok("server", f"{seen.deployment.name} is started, and {seen.health.message if seen.health else ''}")
    yield _version(context, environment, seen)
    yield hosts(context, seen)
    yield _token(context, seen, token)
    yield _collection(seen)


def _version(context: Context, environment: PackageEnvironment | None, seen: Observed) -> Finding:
    if seen.version is None:
        return skipped("mlflow-running", seen.version_unknown)
    pinned = exact_version(environment.packages.get("mlflow", "")) if environment else None
    return versions.mlflow_running(seen.version, pinned, proxied=proxied(context))


# host names -------------------------------------------------------------------------------------------------------


def hosts(context: Context, seen: Observed) -> Finding:
    """Ask the endpoint with each form of its name; what the pod is asked with inside the platform is not seen here."""
    url = seen.deployment.url if seen.deployment else None
    if not url or seen.health is None:
        return skipped("allowed-hosts", "no server runs")
    return judge_hosts({name: _asked_as(context, url, name) for name in variants(url)})


def variants(url: str) -> list[str]:
    """The endpoint's name without and with its port: MLflow compares the Host header to the letter."""
    parts = urlsplit(url)
    return list(dict.fromkeys([parts.hostname or "", f"{parts.hostname}:{parts.port or 443}"]))


def _asked_as(context: Context, url: str, name: str) -> Health:
    try:
        answer = context.platform.session.browse(f"{url.rstrip('/')}/{PROBE}", host=name)
    except PlatformError as trouble:
        return Health("unhealthy", trouble.what)
    return judge(answer.status, answer.content_type, answer.text.encode(), f"{answer.status} at {answer.url}")


def judge_hosts(answers: dict[str, Health]) -> Finding:
    """Pure. Only MLflow's own refusal counts; anything else may be the platform's ingress."""
    check = "allowed-hosts"
    refused = [name for name, health in answers.items() if "host name" in health.message and not health.healthy]
    if refused:
        return error(
            check,
            f"MLflow rejects the host name {', '.join(refused)} with 403, as a browser or a client may send it",
            "Add it to the variable MLFLOW_SERVER_ALLOWED_HOSTS (slipstream.variables), without the port.",
        )
    good = [name for name, health in answers.items() if health.healthy]
    unseen = [f"{name} ({health.message})" for name, health in answers.items() if not health.healthy]
    inside = "names used inside the platform are not seen from here"
    if not good:
        return skipped(check, f"the API did not answer: {', '.join(unseen)}")
    if unseen:
        return info(check, f"answers to {', '.join(good)}; not known: {', '.join(unseen)}; {inside}")
    return ok(check, f"answers to {', '.join(good)}; {inside}")


# token and collection ---------------------------------------------------------------------------------------------

_NEW_TOKEN = "Run `rotate-token`: it issues, proves and stores a new one."  # noqa: S105 - prose


_SURE = "Run `rotate-token --if-needed`: it stores one that is known to be of this deployment."


def _token(context: Context, seen: Observed, given: Secret | None) -> Finding:
    now = context.clock.now()
    if given is not None and seen.deployment is not None and seen.deployment.url:
        api = context.server(seen.deployment.url, given)
        try:
            health = api.health()
        finally:
            api.close()
        if health.healthy:
            return ok("token", "the token of the environment (MLFLOW_TRACKING_TOKEN) opens the endpoint")
        if health.status == "unauthorised":
            return error(
                "token", f"the token of the environment does not open the endpoint: {health.message}", _NEW_TOKEN
            )
        return skipped("token", f"the server did not answer to the token of the environment: {health.message}")
    if not seen.token.listed:
        return error("token", "MLFLOW_TRACKING_TOKEN is not a secret of the account", "Run `install`.")
    if not seen.token.stored and not seen.token.previous:
        return info(
            "token",
            "stored, but not from this machine; its value cannot be read back, so it was not tried",
            "Set MLFLOW_TRACKING_TOKEN in the environment to have it tried, or use --from-platform.",
        )
    unfinished = [] if seen.unfinished.at_work else status.about_unfinished(seen)
    if problems := status.about_token(seen, now) + unfinished:
        return error("token", " ".join(problems), _NEW_TOKEN)
    if unsure := status.about_records(seen):
        return warning("token", " ".join(unsure), _SURE)
    for known in seen.token.stored:
        if (text := token_expiry.warning(known.expires, now)) is not None:
            return warning("token", f"{text} ({known.account})", _NEW_TOKEN)
    accounts = ", ".join(known.account for known in seen.token.stored)
    return ok("token", f"stored for {accounts}, of this deployment; its value cannot be read back, so it was not tried")


def _collection(seen: Observed) -> Finding:
    found = seen.collection
    if problems := status.about_collection(found):
        return error("gc-job", " ".join(problems), "Run `schedule-gc`, then `schedule-gc --run-now`.")
    if found.outdated and found.last is not None:
        return warning("gc-job", status.outdated(found, found.last), "Wait for it, or run `schedule-gc --run-now`.")
    if found.paused:
        return warning("gc-job", f"job `{found.name}` is paused: nothing is collected", "Run `schedule-gc --resume`.")
    if found.missed is not None:
        tell = error if found.missed.again else warning
        return tell(
            "gc-job",
            found.missed.message[:1].lower() + found.missed.message[1:].rstrip("."),
            "Run `schedule-gc --run-now`, and ask the platform's administrator about its scheduler.",
        )
    last = f"the last run: {found.last.message}" if found.last else "no run of it is on record"
    return ok("gc-job", f"job `{found.name}`, {found.words}; {last}")


def of_trouble(trouble: PlatformError) -> list[Finding]:
    """When the look at the server ended in an error of the platform's."""
    return [of_error("server", trouble), *(skipped(check, "the server was not looked at") for check in CHECKS[1:])]
