"""All checks of `doctor`, in the order of its report: this machine, network, release, account, server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.operations.doctor import account, connection, from_platform, release, server, storage
from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding, all_skipped, warning
from mlflow_ae5_deploy.resources.current_deployment import match_deployment

OnFinding = Callable[[Finding], None]
# Checks, and why those that need the platform are skipped when one of them fails
_NETWORK = frozenset({"dns", "reachable", "tls"})
_BLOCKING = (
    (_NETWORK, "the platform cannot be reached"),
    ({account.CREDENTIALS}, "there are no credentials to sign in with"),
    ({"login"}, "nobody is signed in"),
)


def run_checks(
    context: Context,
    stages: Sequence[AnyStage],
    *,
    advice: Sequence[str],
    token: Secret | None,
    job: bool,
    on_finding: OnFinding,
) -> list[Finding]:
    """Every finding; on_finding is called with each as soon as it is made.

    advice: warnings of the configuration. token: tried at the endpoint, if given. job: run a job on the platform for
    the checks from there.
    """
    findings: list[Finding] = []

    def add(more: Iterable[Finding]) -> None:
        for finding in more:
            findings.append(finding)
            on_finding(finding)

    see_init = "The file that `mlflow-ae5-deploy init` writes explains every setting."
    add(connection.machine(context))
    add(warning("configuration", text, see_init) for text in advice)
    add(account.references(context))
    add(account.notified(context))
    add(connection.network(context))
    of_release, environment = release.check_release(context, [stage for stage in stages if stage.number in (4, 5)])
    add(of_release)
    add(storage.database(context, environment))
    add(storage.backups(context))
    if blocked := _blocked(findings):
        add(all_skipped(account.CHECKS, blocked))
    else:
        add(account.login(context, next(stage for stage in stages if stage.number == 1)))
        blocked = _blocked(findings) or ("the account does not exist yet" if context.access.account_missing else "")
    if blocked:
        add(
            all_skipped(connection.ENDPOINT_CHECKS, blocked)
            if _NETWORK & _failed(findings)
            else connection.endpoint(context, None)
        )
        add(all_skipped((*server.CHECKS, *from_platform.CHECKS), blocked))
        return findings
    try:
        current = match_deployment(context).current
        add(connection.endpoint(context, current.url if current else None))
        add(server.server(context, environment, token))
    except PlatformError as error:
        add(server.not_checked(error))
    add(from_platform.from_platform(context) if job else from_platform.not_run())
    return findings


def _blocked(findings: Iterable[Finding]) -> str:
    failed = _failed(findings)
    return next((why for checks, why in _BLOCKING if failed & checks), "")


def _failed(findings: Iterable[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.severity == ERROR}
