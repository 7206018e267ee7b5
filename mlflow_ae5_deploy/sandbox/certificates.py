"""The sandbox's certificate authority, stored in its state folder."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from mlflow_ae5_deploy.sandbox.store import write_private

NAMES = ("localhost", "127.0.0.1", "ae5.localhost", "*.ae5.localhost")


def authority(state_dir: Path) -> trustme.CA:
    """The CA of this state folder, made on first use. `ca.pem` is its certificate."""
    certificate, key = state_dir / "ca.pem", state_dir / "ca-key.pem"
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    ca = trustme.CA(organization_name="mlflow-ae5-deploy", organization_unit_name="AE5 sandbox")
    write_private(key, ca.private_key_pem.bytes().decode())
    write_private(certificate, ca.cert_pem.bytes().decode())
    return ca


def server_context(ca: trustme.CA, *, expired: bool = False) -> ssl.SSLContext:
    not_after = datetime.now(UTC) - timedelta(days=1) if expired else None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*NAMES, not_after=not_after).configure_cert(context)
    return context


def write_bundle(state_dir: Path) -> Path:
    """Write the bundle that commands trust: the public authorities and ours."""
    import certifi

    bundle = state_dir / "ca-bundle.pem"
    public = Path(certifi.where()).read_text(encoding="utf-8")
    write_private(bundle, public + "\n" + (state_dir / "ca.pem").read_text(encoding="utf-8"))
    return bundle
