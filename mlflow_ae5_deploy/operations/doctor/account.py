"""The service account: login, rights, resource profiles, endpoint name, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mlflow_ae5_deploy.common.errors import Configuration, Conflict, Denied, DeployError, LoginFailed, PlatformError
from mlflow_ae5_deploy.common.text import counted
from mlflow_ae5_deploy.config.secret_refs import SecretRef
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.engine.stage import AnyStage, NoChange, compare
from mlflow_ae5_deploy.jobs.spec import check_profile
from mlflow_ae5_deploy.operations.doctor.findings import (
    WARNING,
    Finding,
    all_skipped,
    error,
    info,
    of_error,
    ok,
    skipped,
    warning,
)
from mlflow_ae5_deploy.resources import encryption_keys, receivers, token_file
from mlflow_ae5_deploy.resources.current_deployment import match_deployment
from mlflow_ae5_deploy.resources.deployment import claim_on, refuse_rival
from mlflow_ae5_deploy.resources.job_specs import scheduled_jobs

CHECKS = ("login", "service-account", "rights", "resource-profiles", "endpoint-name", "keys")


CREDENTIALS = "credentials"


def references(context: Context) -> Iterator[Finding]:
    """Whether credentials are configured, and every referenced secret exists. Shows no value, prompts for none."""
    yield from _configured(context)
    settings = context.settings
    signing_in: list[tuple[str, SecretRef | None]] = [
        ("account.password", None if context.access.impersonates else settings.account.password),
        ("admin.password", settings.admin.password),
    ]
    others: list[tuple[str, SecretRef | str | None]] = [
        ("server.backend_store_uri", settings.server.backend_store_uri),
        *((f"server.secrets.{name}", ref) for name, ref in settings.server.secrets.items()),
        *((f"consumers: {username}", password) for username, password in settings.consumer_accounts.items()),
        *((f"notify.urls.{number}", ref) for number, ref in enumerate(settings.notify.urls)),
    ]
    prompts, resolved, failed = [], 0, False
    for setting, ref in (*signing_in, *others):
        if not isinstance(ref, SecretRef):
            continue
        if ref.kind == "prompt":
            prompts.append(setting)
            continue
        try:
            if setting == "server.backend_store_uri":
                context.values.store_uri(ref)
            else:
                context.values.secret(ref, setting)
            resolved += 1
        except DeployError as trouble:
            failed = True
            yield of_error(CREDENTIALS if (setting, ref) in signing_in else "secret-references", trouble)
    if prompts:
        message = f"{resolved} found; {', '.join(prompts)} is prompted for, which fails in a scheduled run"
        yield info("secret-references", message)
    elif not failed:
        yield ok("secret-references", f"{resolved} found" if resolved else "none is configured")


def notified(context: Context) -> Iterator[Finding]:
    """Whether every receiver of messages is one that apprise knows. Sends nothing."""
    check, urls = "notify", context.settings.notify.urls
    if any(ref.kind == "prompt" for ref in urls):
        yield skipped(check, "a URL is prompted for when it is needed", "Use env:NAME or file:PATH instead.")
        return
    try:
        receivers.check(context)
    except DeployError as trouble:
        yield of_error(check, trouble)
        return
    if not urls:
        yield info(check, "nobody is notified of a failed job: notify.urls is empty")
    elif not receivers.can_send():
        yield info(
            check, f"{counted(len(urls), 'receivers')}; only their form was checked: apprise is not installed here"
        )
    else:
        yield ok(check, f"{counted(len(urls), 'receivers')} that apprise knows")


def _configured(context: Context) -> Iterator[Finding]:
    try:
        context.access.require_credentials()
    except Configuration as trouble:
        yield of_error(CREDENTIALS, trouble)
    else:
        for username, password in context.settings.consumer_accounts.items():
            try:
                context.access.require_consumer(username, password)
            except LoginFailed as trouble:
                yield of_error("consumer-credentials", trouble)
    for file in context.settings.token_files:
        try:
            token_file.check(file)
        except Configuration as trouble:
            yield of_error("consumer-credentials", trouble)


def login(context: Context, first_stage: AnyStage) -> Iterator[Finding]:
    """Signing in, and the account's own state. first_stage: the runbook's, about the service account."""
    try:
        _, diff = compare(first_stage, context)
        name = "" if context.access.account_missing else context.platform.whoami()
    except DeployError as trouble:
        yield of_error("login", trouble)
        yield from all_skipped(CHECKS[1:], "nobody is signed in")
        return
    if not name:
        yield info("login", f"`{context.account}` does not exist yet; `install` creates it")
        yield from all_skipped(CHECKS[1:], "the account does not exist yet")
        return
    yield ok("login", f"signed in as `{name}`, {context.access.how}")
    reason = diff.reason if isinstance(diff, NoChange) else "it will be created"
    if diff.warnings:
        yield warning("service-account", " ".join(diff.warnings), "Use an account that has no other purpose.")
    else:
        yield ok("service-account", f"{reason}; it owns no other project")
    yield _rights(context)
    try:
        yield from _profiles(context)
        yield _endpoint_name(context)
        yield _keys(context)
    except PlatformError as trouble:
        yield of_error("platform", trouble)


def _rights(context: Context) -> Finding:
    reads: list[tuple[str, Callable[[], Any]]] = [
        ("projects", context.cached.projects),
        ("deployments", context.cached.deployments),
        ("jobs", context.cached.jobs),
        ("runs", lambda: context.platform.runs()),
        ("secrets", context.cached.secret_names),
        ("static endpoints", context.cached.static_endpoints),
        ("resource profiles", context.cached.resource_profiles),
    ]
    denied = []
    for name, read in reads:
        try:
            read()
        except Denied:
            denied.append(name)
    seen = ", ".join(name for name, _ in reads if name not in denied)
    if denied:
        return error(
            "rights",
            f"the account cannot read: {', '.join(denied)}",
            "Ask an administrator to give it the role of an ordinary user.",
        )
    return ok("rights", f"can read {seen}")


def _profiles(context: Context) -> Iterator[Finding]:
    settings = {name: getattr(context.settings, name).resource_profile for name in ("deployment", "gc", "backup")}
    needed = {job.section for job in scheduled_jobs(context.settings)} | {"deployment"}
    troubles = []
    for name, profile in settings.items():
        try:
            check_profile(context, profile, f"{name}.resource_profile")
        except Configuration as trouble:
            found = of_error("resource-profiles", trouble)
            if name not in needed:
                message = f"{found.message} `backup`, `restore`, `drill` and `upgrade` need it."
                found = replace(found, severity=WARNING, message=message)
            troubles.append(found)
    yield from troubles or [ok("resource-profiles", ", ".join(sorted(set(settings.values()))))]


def _keys(context: Context) -> Finding:
    """Of MLflow: whether they are set, and whether a copy of them is here."""
    if encryption_keys.are_prompted(context):
        return skipped("keys", "a key is prompted for when it is needed", "Use env:NAME or file:PATH instead.")
    try:
        report = encryption_keys.observe(context)
    except DeployError as trouble:
        return of_error("keys", trouble)
    notes = [secret.note for secret in report if secret.note]
    absent = [secret.name for secret in report if not secret.right]
    if notes:
        return warning("keys", " ".join(notes), "See runbooks/explanation/security.md, Keys.")
    if absent and context.cached.project(context.settings.project.name) is None:
        return info("keys", f"{', '.join(absent)}: `install` sets them")
    if absent:
        return warning("keys", f"not set: {', '.join(absent)}", "Run `install`, which sets them.")
    return ok("keys", "set, and the same as on this machine")


def _endpoint_name(context: Context) -> Finding:
    name = context.settings.deployment.endpoint
    try:
        refuse_rival(context, name, match_deployment(context).rival)
        claim = claim_on(context, name)
    except Conflict as trouble:
        return of_error("endpoint-name", trouble)
    return ok("endpoint-name", f"`{name}` is {'claimed by this project' if claim else 'free'}")
