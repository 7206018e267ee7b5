"""Foreign exceptions, and the error that each becomes.

`FOREIGN` maps every exception that requests and urllib3 can raise (a test keeps it complete), and those of ssl,
socket and json below them. ae5-tools' own are recognised by their module, so that it need not be importable.
The text of a foreign exception is never quoted: it may hold a request's body.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import requests.exceptions as rq
import urllib3.exceptions as u3

from mlflow_ae5_deploy.common.errors import (
    AnswerLost,
    DeadlineExceeded,
    DeployError,
    PlatformError,
    UnexpectedAnswer,
    Unreachable,
    chain,
)

T = TypeVar("T")


@dataclass(frozen=True)
class MappedError:
    """One way for a request to fail."""

    what: str
    remedy: str
    error: type[PlatformError] = Unreachable
    weight: int = 3  # how much it explains; of a chain of exceptions the weightiest is reported
    transient: bool = False  # a GET may be worth repeating
    sent: bool = False  # a write may have reached the platform

    def as_error(self, host: str, *, write: bool, where: str = "", seconds: float | None = None) -> PlatformError:
        """where: the request, if it is known, as METHOD host/path. seconds: for which an answer was awaited."""
        limit = "the time allowed" if seconds is None else f"{seconds:g} s"
        what = self.what.format(host=host, limit=limit)
        if write and self.sent:
            return AnswerLost(
                f"The answer to a change was lost. {what}",
                where=where or host,
                remedy="Run the command again: it checks what was done before it repeats anything.",
            )
        return self.error(what, where=where or host, remedy=self.remedy)


_CA_REMEDY = (
    "Set platform.ca_file to the PEM file of the authority that signed it. "
    "(platform.verify_tls: false switches the check off; do that only on a network you trust.)"
)
_NET_REMEDY = "Check platform.hostname, the network or VPN, and that the platform is up."
_SLOW_NET = f"{_NET_REMEDY} On a slow network, raise platform.connect_timeout."

NAME_UNKNOWN = MappedError("The name {host} does not resolve.", "Check platform.hostname, DNS and VPN.", weight=8)
NOBODY_LISTENS = MappedError(
    "{host} refuses the connection: nothing listens there.", _NET_REMEDY, weight=8, transient=True
)
NO_ROUTE = MappedError("No connection to {host} could be made.", _NET_REMEDY, weight=6, transient=True)
CONNECT_TIMEOUT = MappedError("No connection to {host} within {limit}.", _SLOW_NET, weight=7, transient=True)
READ_TIMEOUT = MappedError(
    "{host} did not answer within {limit}.",
    "Try again later. For a slow platform, raise platform.read_timeout (for uploads: platform.upload_timeout).",
    error=DeadlineExceeded,
    weight=5,
    sent=True,
)
STALLED = MappedError(READ_TIMEOUT.what, READ_TIMEOUT.remedy, error=DeadlineExceeded, weight=2, sent=True)
CERT_EXPIRED = MappedError(
    "The certificate of {host} has expired.", "Have it renewed, and check this machine's clock.", weight=9
)
CERT_NOT_YET = MappedError(
    "The certificate of {host} is not valid yet.", "Check this machine's clock, and the certificate.", weight=9
)
CERT_UNKNOWN_CA = MappedError("The certificate of {host} is signed by an unknown authority.", _CA_REMEDY, weight=9)
CERT_WRONG_HOST = MappedError(
    "The certificate presented by {host} is for another name.",
    "Set platform.hostname to the name in the certificate, and check that it is the right machine.",
    weight=9,
)
CERT_BAD = MappedError("The certificate of {host} cannot be trusted.", _CA_REMEDY, weight=8)
TLS_BROKEN = MappedError(
    "The TLS connection to {host} failed.",
    "Check that platform.hostname and its port speak HTTPS, and the client certificate if one is required.",
    weight=4,
    sent=True,
)
PROXY = MappedError(
    "The proxy on the way to {host} failed.", "Check HTTPS_PROXY and NO_PROXY in the environment.", weight=10
)
REDIRECTS = MappedError(
    "{host} redirects without end.", "Check platform.hostname, and the platform's login settings.", UnexpectedAnswer
)
BROKEN = MappedError("The connection to {host} broke off.", _NET_REMEDY, weight=4, transient=True, sent=True)
BAD_ADDRESS = MappedError("No request can be made to {host}.", "Check platform.hostname; it is a host name, not a URL.")
BAD_ANSWER = MappedError(
    "{host} sent an answer that cannot be read.", "Check that platform.hostname is an AE5 platform.", UnexpectedAnswer
)
NOT_REPEATABLE = MappedError("A request to {host} could not be repeated.", "Run the command again.", sent=True)
VAGUE = MappedError("A request to {host} failed.", _NET_REMEDY, weight=1, sent=True)

FOREIGN: dict[type[BaseException], MappedError] = {
    # requests
    rq.RequestException: VAGUE,
    rq.HTTPError: VAGUE,
    rq.ConnectionError: MappedError(BROKEN.what, BROKEN.remedy, weight=2, transient=True, sent=True),
    rq.ProxyError: PROXY,
    rq.SSLError: TLS_BROKEN,
    rq.Timeout: STALLED,
    rq.ConnectTimeout: CONNECT_TIMEOUT,
    rq.ReadTimeout: READ_TIMEOUT,
    rq.URLRequired: BAD_ADDRESS,
    rq.MissingSchema: BAD_ADDRESS,
    rq.InvalidSchema: BAD_ADDRESS,
    rq.InvalidURL: BAD_ADDRESS,
    rq.InvalidHeader: BAD_ADDRESS,
    rq.InvalidProxyURL: PROXY,
    rq.TooManyRedirects: REDIRECTS,
    rq.ChunkedEncodingError: BROKEN,
    rq.ContentDecodingError: BAD_ANSWER,
    rq.StreamConsumedError: BAD_ANSWER,
    rq.InvalidJSONError: BAD_ANSWER,
    rq.JSONDecodeError: BAD_ANSWER,
    rq.RetryError: VAGUE,
    rq.UnrewindableBodyError: NOT_REPEATABLE,
    # urllib3
    u3.HTTPError: VAGUE,
    u3.PoolError: VAGUE,
    u3.RequestError: VAGUE,
    u3.MaxRetryError: VAGUE,
    u3.HostChangedError: VAGUE,
    u3.EmptyPoolError: VAGUE,
    u3.FullPoolError: VAGUE,
    u3.ClosedPoolError: VAGUE,
    u3.ResponseError: VAGUE,
    u3.SSLError: TLS_BROKEN,
    u3.ProxyError: PROXY,
    u3.ProxySchemeUnknown: PROXY,
    u3.ProxySchemeUnsupported: PROXY,
    u3.DecodeError: BAD_ANSWER,
    u3.ProtocolError: BROKEN,
    u3.IncompleteRead: BROKEN,
    u3.InvalidChunkLength: BROKEN,
    u3.ResponseNotChunked: BROKEN,
    u3.BodyNotHttplibCompatible: BAD_ANSWER,
    u3.HeaderParsingError: BAD_ANSWER,
    u3.InvalidHeader: BAD_ANSWER,
    u3.TimeoutError: STALLED,
    u3.TimeoutStateError: STALLED,
    u3.ReadTimeoutError: READ_TIMEOUT,
    u3.ConnectTimeoutError: CONNECT_TIMEOUT,
    u3.NewConnectionError: NO_ROUTE,
    u3.NameResolutionError: NAME_UNKNOWN,
    u3.LocationValueError: BAD_ADDRESS,
    u3.LocationParseError: BAD_ADDRESS,
    u3.URLSchemeUnknown: BAD_ADDRESS,
    u3.UnrewindableBodyError: NOT_REPEATABLE,
    # below urllib3
    socket.gaierror: NAME_UNKNOWN,
    ConnectionRefusedError: NOBODY_LISTENS,
    ConnectionError: BROKEN,
    TimeoutError: STALLED,
    ssl.SSLCertVerificationError: CERT_BAD,
    ssl.CertificateError: CERT_BAD,
    ssl.SSLError: TLS_BROKEN,
    OSError: VAGUE,
    json.JSONDecodeError: BAD_ANSWER,
    UnicodeError: BAD_ANSWER,
    KeyError: BAD_ANSWER,  # ae5-tools on an answer without Content-Type
}

# OpenSSL's X509_V_ERR_* numbers
_CERTIFICATE_TROUBLE: dict[int, MappedError] = {
    2: CERT_UNKNOWN_CA,
    9: CERT_NOT_YET,
    10: CERT_EXPIRED,
    18: CERT_UNKNOWN_CA,
    19: CERT_UNKNOWN_CA,
    20: CERT_UNKNOWN_CA,
    21: CERT_UNKNOWN_CA,
    62: CERT_WRONG_HOST,
    64: CERT_WRONG_HOST,
}


def diagnose(error: BaseException) -> MappedError | None:
    """The weightiest entry for an exception's chain; None if none of it is foreign."""
    found = [trouble for link in chain(error) if (trouble := _single(link)) is not None]
    return max(found, key=lambda trouble: trouble.weight, default=None)


def translate(error: BaseException, *, host: str, write: bool) -> PlatformError | None:
    """Our error for a foreign one, or None. To be raised outside of `except`."""
    if isinstance(error, PlatformError):
        return error
    trouble = diagnose(error)
    return None if trouble is None else trouble.as_error(host, write=write)


def shielded(action: Callable[[], T], *, host: str) -> T:
    """Run `action`; raise our error for a foreign one, without the foreign one.

    Not a context manager: an error raised from one keeps the foreign exception, and the request in it, as context.
    """
    try:
        return action()
    except DeployError:
        raise
    except Exception as error:
        ours = translate(error, host=host, write=False)
        if ours is None:
            raise
    raise ours


def _single(error: BaseException) -> MappedError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_TROUBLE.get(getattr(error, "verify_code", -1), CERT_BAD)
    for cls in type(error).__mro__:
        if cls.__module__.split(".")[0] == "ae5_tools":
            return VAGUE
        if cls.__name__ == "CertificateError" and cls.__module__.startswith("urllib3"):
            return CERT_WRONG_HOST
        if cls in FOREIGN:
            return FOREIGN[cls]
    return None
