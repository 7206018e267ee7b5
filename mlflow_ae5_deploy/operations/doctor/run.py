"""The whole examination, in the order of the way: this machine, the network, the account, the release, the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mlflow_ae5_deploy.common.errors import PlatformError
from mlflow_ae5_deploy.common.redaction import Secret
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage
from mlflow_ae5_deploy.operations.doctor import account, backups, connection, from_platform, server
from mlflow_ae5_deploy.operations.doctor import release as of_release
from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding, skipped, warning
from mlflow_ae5_deploy.resources.current_deployment import chosen_of

OnFinding = Callable[[Finding], None]


def examine(
    context: Context,
    stages: Sequence[AnyStage],
    *,
    advice: Sequence[str] = (),
    token: Secret | None = None,
    job: bool = False,
    on_finding: OnFinding = lambda _finding: None,
    on_log: Callable[[str], None] = lambda _line: None,
) -> list[Finding]:
    """Every finding; on_finding is given each as soon as it is made.

    advice: what loading the configuration had to say. token: tried at the endpoint, if given. job: run a job on the
    platform for what only that can tell; on_log is given its log.
    """
    found: list[Finding] = []

    def note(findings: Iterable[Finding]) -> list[Finding]:
        begun = len(found)
        for finding in findings:
            found.append(finding)
            on_finding(finding)
        return found[begun:]

    note(connection.machine(context))
    note(
        warning("configuration", text, "The file that `mlflow-ae5-deploy init` writes explains every setting.")
        for text in advice
    )
    lacking = account.CREDENTIALS in _failed(note(account.references(context)))
    away = _failed(note(connection.network(context))) & {"dns", "reachable", "tls"}
    release, environment = of_release.release(context, [s for s in stages if s.number in (4, 5)])
    note(release)
    note(of_release.database(context, environment))
    note(backups.backups(context))
    if away:
        note(skipped(check, "the platform cannot be reached") for check in (*account.CHECKS, *server.CHECKS))
        note(connection.endpoint(context, None))
        note(skipped(check, "the platform cannot be reached") for check in from_platform.CHECKS)
        return found
    if lacking:
        why = "there are no credentials to sign in with"
        note(skipped(check, why) for check in account.CHECKS)
        note(connection.endpoint(context, None))
        note(skipped(check, why) for check in (*server.CHECKS, *from_platform.CHECKS))
        return found
    refused = "login" in _failed(note(account.login(context, next(s for s in stages if s.number == 1))))
    if refused or context.access.missing:
        why = "nobody is signed in" if refused else "the account does not exist yet"
        note(connection.endpoint(context, None))
        note(skipped(check, why) for check in (*server.CHECKS, *from_platform.CHECKS))
        return found
    try:
        current = chosen_of(context).current
        note(connection.endpoint(context, current.url if current else None))
        note(server.server(context, environment, token))
    except PlatformError as trouble:
        note(server.of_trouble(trouble))
    note(from_platform.from_platform(context, on_log) if job else from_platform.not_asked())
    return found


def _failed(findings: Iterable[Finding]) -> set[str]:
    return {finding.check for finding in findings if finding.severity == ERROR}
