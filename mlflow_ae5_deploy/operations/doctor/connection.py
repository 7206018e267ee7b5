"""This machine and its connection to the platform: software, DNS, certificates, clocks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from mlflow_ae5_deploy.ae5 import probe
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.probe import Handshake
from mlflow_ae5_deploy.common.errors import Configuration, DeployError, PlatformError, UnexpectedAnswer
from mlflow_ae5_deploy.common.optional_packages import (
    OLDEST_AE5_TOOLS,
    ae5_tools_version,
    install_ae5_tools,
    too_old,
    update_ae5_tools,
)
from mlflow_ae5_deploy.config.state_dir import check_writable
from mlflow_ae5_deploy.engine.context import Context
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

ENDPOINT_CHECKS = ("endpoint-dns", "endpoint-tls")
_SOON = 30  # days before a certificate's end
_SLOW_CLOCK, _WRONG_CLOCK = 30.0, 300.0  # seconds; Keycloak's tokens live for a minute


def machine(context: Context) -> Iterator[Finding]:
    yield ok("python", platform.python_version())
    target = context.access.target
    yield _state_folder(context)
    yield ae5_tools(ae5_tools_version(), needed=not target.is_sandbox or target.provider == "ae5-tools")


def ae5_tools(installed: str | None, *, needed: bool) -> Finding:
    """needed: whether the platform is reached through it."""
    check = "ae5-tools"
    if installed is None:
        if not needed:
            return info(check, "not installed, and not needed for the sandbox")
        return error(check, "not installed; it is required for AE5 clusters", install_ae5_tools())
    if too_old(installed):
        problem = f"{installed} is older than {OLDEST_AE5_TOOLS}"
        if not needed:
            return info(check, f"{problem}; not needed for the sandbox")
        return error(check, f"{problem}, and is not used", update_ae5_tools())
    return ok(check, installed)


def _state_folder(context: Context) -> Finding:
    """Where journal, state and keys are kept: for all installations, and for this one. Test files are deleted."""
    root = context.folders.state.parent
    try:
        there = check_writable(root)
        check_writable(context.folders.state)
    except Configuration as trouble:
        return of_error("state-folder", trouble)
    return ok("state-folder", f"{root} is writable" if there == root else f"{root} can be created")


def network(context: Context) -> Iterator[Finding]:
    options = context.access.target.options
    found = _dns("dns", options.hostname)
    yield found
    if found.severity != ERROR:
        found = _reachable(options)
        yield found
    if found.severity == ERROR:
        yield skipped("tls", "no connection")
        yield skipped("clock", "no connection")
        return
    yield _tls("tls", options.hostname, context)
    try:
        yield clock(probe.clock_skew(options, context.clock))
    except UnexpectedAnswer as trouble:
        yield info("clock", f"unknown: {trouble.what}")
    except PlatformError as trouble:
        yield of_error("clock", trouble)


def endpoint(context: Context, url: str | None) -> Iterator[Finding]:
    """url: the deployment's; None while there is none: then the name it will have is checked."""
    host = urlsplit(url).netloc if url else expected_host(context)
    if host is None:
        yield from all_skipped(ENDPOINT_CHECKS, "the sandbox assigns the endpoint's address with the first deployment")
        return
    dns, tls = ENDPOINT_CHECKS
    found = _dns(dns, host)
    yield found
    yield skipped(tls, "its name does not resolve") if found.severity == ERROR else _tls(tls, host, context)


def expected_host(context: Context) -> str | None:
    """Where the static endpoint will be; None on a sandbox that gives every endpoint a port of its own."""
    hostname = context.access.target.options.hostname
    name, colon, port = hostname.partition(":")
    if context.access.target.is_sandbox and name == "localhost":
        return None
    return f"{context.settings.deployment.endpoint}.{name}{colon}{port}"


def _dns(check: str, host: str) -> Finding:
    proxy = probe.proxy_for(host)
    if proxy is not None:
        return skipped(check, f"the proxy {proxy} looks up {host}")
    try:
        return ok(check, f"{probe.split_host(host)[0]} is {', '.join(probe.addresses(host))}")
    except PlatformError as trouble:
        if check == "dns":
            return of_error(check, trouble)
        return error(
            check,
            trouble.what,
            "AE5 serves endpoints below the platform's name: ask for a wildcard DNS record (*.<platform>).",
        )


def _reachable(options: ConnectionOptions) -> Finding:
    proxy = probe.proxy_for(options.hostname)
    if proxy is not None:
        return skipped("reachable", f"connections use the proxy {proxy}")
    try:
        probe.connect(options.hostname, options)
    except PlatformError as trouble:
        return of_error("reachable", trouble)
    return ok("reachable", f"{options.hostname} accepts connections")


def _tls(check: str, host: str, context: Context) -> Finding:
    options = context.access.target.options
    proxy = probe.proxy_for(host)
    if proxy is not None:
        return skipped(check, f"connections to {host} use the proxy {proxy}")
    try:
        seen = probe.handshake(host, options)
    except DeployError as trouble:
        return _refused(check, host, context, trouble)
    if not options.verify_tls:
        return warning(
            check,
            f"platform.verify_tls is off, although the certificate is valid ({_in_words(seen)})",
            "Remove platform.verify_tls: false.",
        )
    return certificate(check, seen, context.clock.now())


def _refused(check: str, host: str, context: Context, trouble: DeployError) -> Finding:
    """With the certificate's own text, where one is presented."""
    try:
        shown = f" It says: {_in_words(probe.handshake(host, context.access.target.options, verify=False))}."
    except DeployError:
        shown = ""
    if shown and not context.access.target.options.verify_tls:
        return warning(check, f"{trouble.what}{shown} platform.verify_tls is off, so it is accepted.", trouble.remedy)
    return error(check, f"{trouble.what}{shown}", trouble.remedy)


def certificate(check: str, seen: Handshake, now: datetime) -> Finding:
    """Pure: how long the chain lasts. The first of it to end counts."""
    if not seen.chain:
        return info(check, f"{seen.version}, trusted; this Python does not show when the certificate expires")
    first = min(seen.chain, key=lambda item: item.not_after)
    left = (first.not_after - now).days
    if left < _SOON:
        return warning(
            check,
            f"the certificate {first.subject} expires in {left} days, on {first.not_after:%Y-%m-%d}",
            "Have it renewed: connections fail once it has expired.",
        )
    return ok(check, f"{seen.version}, trusted: {_in_words(seen)}")


def _in_words(seen: Handshake) -> str:
    if not seen.chain:
        return seen.version
    leaf = seen.chain[0]
    end = min(item.not_after for item in seen.chain)
    names = ", ".join(leaf.names[:4]) or leaf.subject
    return f"for {names}, signed by {leaf.issuer}, chain of {len(seen.chain)}, expires {end:%Y-%m-%d}"


def clock(skew: float) -> Finding:
    """skew: seconds by which the platform is ahead."""
    message = f"the platform's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) < _SLOW_CLOCK:
        return ok("clock", message if abs(skew) >= 2 else "within 2 s of the platform's")
    remedy = "Synchronize both clocks (NTP): logins and tokens depend on them."
    return (error if abs(skew) >= _WRONG_CLOCK else warning)("clock", message, remedy)
