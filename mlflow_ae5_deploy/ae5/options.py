"""Connection options: address, trust and timeouts."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from mlflow_ae5_deploy.common.errors import Configuration

_HOST = re.compile(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class ConnectionOptions:
    """Address, trust and timeouts. Times are in seconds."""

    hostname: str  # may have a port
    verify_tls: bool = True
    ca_file: Path | None = None  # PEM file of the trusted authorities, instead of the usual ones
    client_cert: Path | None = None  # PEM file with a certificate and its unencrypted key
    connect_timeout: float = 10
    read_timeout: float = 60  # longest silence within an answer
    upload_timeout: float = 1800  # longest time for a whole answer or upload
    retries: int = 3  # by the transport, of GET, HEAD and OPTIONS

    def trust(self) -> str | bool:
        """The argument `verify` of `requests`.

        The configured file wins. Only without one may the environment name another (REQUESTS_CA_BUNDLE is what
        ae5-tools users know); it can never switch the check off.
        """
        if not self.verify_tls:
            return False
        if self.ca_file is not None:
            return str(self.ca_file)
        return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def check(self) -> None:
        """Raise Configuration for an unusable host name or file."""
        if not _HOST.fullmatch(self.hostname):
            raise Configuration(
                f"{self.hostname!r} is not a host name." if self.hostname else "No host name is given.",
                where="platform.hostname",
                remedy="Give the platform's name without https:// and path, with :port if it needs one.",
            )
        trust = self.trust()
        if isinstance(trust, str) and not Path(trust).is_dir():
            _load(trust, "platform.ca_file", "the PEM file of the authority that signed the platform's certificate")
        if self.client_cert is not None:
            _load(str(self.client_cert), "platform.client_cert", "a PEM file with certificate and unencrypted key")


def _load(path: str, setting: str, desired: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    problem = ""
    try:
        if setting == "platform.ca_file":
            context.load_verify_locations(cafile=path)
        else:
            context.load_cert_chain(path, password=_no_passphrase)
    except OSError as error:  # ssl.SSLError is one too
        problem = error.strerror or type(error).__name__
    except _Encrypted:
        problem = "its key is encrypted, and this tool does not prompt for a passphrase"
    if problem:
        raise Configuration(
            f"{setting}: {path} cannot be used ({problem}).", where=setting, remedy=f"Give the path of {desired}."
        )


class _Encrypted(Exception):
    pass


def _no_passphrase() -> str:
    """Called by OpenSSL instead of prompting on the terminal."""
    raise _Encrypted
