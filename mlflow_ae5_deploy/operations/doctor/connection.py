"""The way to the platform: this machine's software, names, certificates, clocks."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from mlflow_ae5_deploy.ae5 import probe
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.probe import Handshake
from mlflow_ae5_deploy.common.errors import Configuration, DeployError, PlatformError, UnexpectedAnswer
from mlflow_ae5_deploy.common.parts import ae5_tools_version
from mlflow_ae5_deploy.config.state_dir import check_writable
from mlflow_ae5_deploy.engine.context import Context
from mlflow_ae5_deploy.operations.doctor import versions
from mlflow_ae5_deploy.operations.doctor.findings import ERROR, Finding, error, info, of_error, ok, skipped, warning

_SOON = 30  # days before a certificate's end
_SLOW_CLOCK, _WRONG_CLOCK = 30.0, 300.0  # seconds; Keycloak's tokens live for a minute


def machine(context: Context) -> Iterator[Finding]:
    yield ok("python", platform.python_version())
    target = context.access.target
    yield _state_folder(context)
    yield versions.ae5_tools(ae5_tools_version(), needed=not target.is_sandbox or target.provider == "ae5-tools")


def _state_folder(context: Context) -> Finding:
    """Where journal, state and keys are kept: for all installations, and for this one. Nothing of it stays."""
    root = context.folder.parent
    try:
        there = check_writable(root)
        check_writable(context.folder)
    except Configuration as trouble:
        return of_error("state-folder", trouble)
    return ok("state-folder", f"{root} can be written to" if there == root else f"{root} can be made")


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
        yield info("clock", f"not known: {trouble.what}")
    except PlatformError as trouble:
        yield of_error("clock", trouble)


def endpoint(context: Context, url: str | None) -> Iterator[Finding]:
    """url: the deployment's, or None while there is none; then the name that it will have is looked at."""
    host = urlsplit(url).netloc if url else expected_host(context)
    if host is None:
        for check in ("endpoint-dns", "endpoint-tls"):
            yield skipped(check, "the sandbox tells the endpoint's address once something is deployed")
        return
    yield _dns("endpoint-dns", host)
    yield _tls("endpoint-tls", host, context)


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
            "AE5 serves endpoints below the platform's name: have a wildcard name (*.<platform>) put into DNS.",
        )


def _reachable(options: ConnectionOptions) -> Finding:
    proxy = probe.proxy_for(options.hostname)
    if proxy is not None:
        return skipped("reachable", f"the way leads through the proxy {proxy}")
    try:
        probe.connect(options.hostname, options)
    except PlatformError as trouble:
        return of_error("reachable", trouble)
    return ok("reachable", f"{options.hostname} takes connections")


def _tls(check: str, host: str, context: Context) -> Finding:
    options = context.access.target.options
    proxy = probe.proxy_for(host)
    if proxy is not None:
        return skipped(check, f"the way to {host} leads through the proxy {proxy}")
    try:
        seen = probe.handshake(host, options)
    except DeployError as trouble:
        return _refused(check, host, context, trouble)
    if not options.verify_tls:
        return warning(
            check,
            f"platform.verify_tls is off, but the certificate would be accepted ({_in_words(seen)})",
            "Remove platform.verify_tls: false.",
        )
    return certificate(check, seen, context.clock.now())


def _refused(check: str, host: str, context: Context, trouble: DeployError) -> Finding:
    """With what the certificate itself says, where one is shown at all."""
    try:
        shown = f" It says: {_in_words(probe.handshake(host, context.access.target.options, verify=False))}."
    except DeployError:
        shown = ""
    if shown and not context.access.target.options.verify_tls:
        return warning(check, f"{trouble.what}{shown} platform.verify_tls is off, so it is taken.", trouble.remedy)
    return error(check, f"{trouble.what}{shown}", trouble.remedy)


def certificate(check: str, seen: Handshake, now: datetime) -> Finding:
    """Pure: how long the chain lasts. The first of it to end counts."""
    if not seen.chain:
        return info(check, f"{seen.version}, trusted; this Python does not tell the certificate's end")
    first = min(seen.chain, key=lambda item: item.not_after)
    left = (first.not_after - now).days
    if left < _SOON:
        return warning(
            check,
            f"the certificate {first.subject} ends in {left} days, {first.not_after:%Y-%m-%d}",
            "Have it renewed in time: after that, nothing and nobody gets in.",
        )
    return ok(check, f"{seen.version}, trusted: {_in_words(seen)}")


def _in_words(seen: Handshake) -> str:
    if not seen.chain:
        return seen.version
    leaf = seen.chain[0]
    end = min(item.not_after for item in seen.chain)
    names = ", ".join(leaf.names[:4]) or leaf.subject
    return f"for {names}, signed by {leaf.issuer}, a chain of {len(seen.chain)} that ends {end:%Y-%m-%d}"


def clock(skew: float) -> Finding:
    """skew: seconds by which the platform is ahead."""
    message = f"the platform's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) < _SLOW_CLOCK:
        return ok("clock", message if abs(skew) >= 2 else "the same as the platform's, to a second or two")
    remedy = "Set this machine's clock (NTP), or have the platform's set: logins and tokens go by it."
    return (error if abs(skew) >= _WRONG_CLOCK else warning)("clock", message, remedy)
