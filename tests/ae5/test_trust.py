"""Nothing is sent over a connection that was not verified, and each reason has its own words."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.common.errors import Configuration, DeployError, Unreachable

from .conftest import Opener
from .stub import running

LONG_AGO = datetime.now(UTC) - timedelta(days=30)


@pytest.fixture(scope="module")
def wrong_certificates(ca):
    return {
        "expired": ca.issue_cert("localhost", not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1)),
        "not valid yet": ca.issue_cert("localhost", not_before=datetime.now(UTC) + timedelta(days=1)),
        "unknown authority": trustme.CA().issue_cert("localhost"),
        "another name": ca.issue_cert("ae5.example"),
    }


@pytest.fixture(params=["expired", "not valid yet", "unknown authority", "another name"])
def untrusted(request, wrong_certificates):
    with running(wrong_certificates[request.param]) as stub:
        yield stub, request.param


def test_an_untrusted_certificate_stops_everything(untrusted, ca_file, provider, clock):
    stub, words = untrusted
    opener = Opener(ConnectionOptions(stub.address, ca_file=ca_file), provider, clock)
    for act in (opener.user, opener.admin):
        with pytest.raises(Unreachable, match=words) as caught:
            act()
        assert caught.value.remedy
    assert stub.calls == []
    assert clock.naps == []  # nothing to be gained by trying again


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_does_not_replace_the_configured_authority(
    untrusted, ca_file, provider, clock, name, monkeypatch, tmp_path
):
    """requests lets REQUESTS_CA_BUNDLE win over session.verify; a wrong one must neither help nor hurt."""
    stub, words = untrusted
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv(name, str(other))
    monkeypatch.setenv("AE5_TLS_VERIFY", "false")
    with pytest.raises(Unreachable, match=words):
        Opener(ConnectionOptions(stub.address, ca_file=ca_file), provider, clock).user()
    assert stub.calls == []


def test_the_configured_authority_works_against_the_environment(opener, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    assert opener.user().call("GET", "projects") == []


def test_without_a_configured_authority_the_environment_may_name_one(opener, ca_file, monkeypatch):
    with pytest.raises(Unreachable, match="unknown authority"):
        opener.user(ca_file=None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    assert opener.user(ca_file=None).call("GET", "projects") == []


@pytest.mark.filterwarnings("error")
def test_verification_is_off_only_when_switched_off_by_name(untrusted, provider, clock):
    stub, _ = untrusted
    session = Opener(ConnectionOptions(stub.address, verify_tls=False), provider, clock).user()
    assert session.call("GET", "projects") == []
    session.close()


def test_browsing_is_verified_too(opener, wrong_certificates):
    session = opener.user()
    with running(wrong_certificates["expired"]) as endpoint, pytest.raises(Unreachable, match="expired"):
        session.browse(f"{endpoint.origin}/health")


@pytest.mark.parametrize(
    ("hostname", "words"),
    [("localhost:{free}", "refuses the connection"), ("no-such-host.invalid", "does not resolve")],
)
def test_an_unreachable_platform_is_reported_by_its_cause(provider, clock, hostname, words):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else gets it
        opener = Opener(ConnectionOptions(hostname.format(free=taken.getsockname()[1])), provider, clock)
        with pytest.raises(Unreachable, match=words):
            opener.user()
        with pytest.raises(Unreachable, match=words):
            opener.admin()


def test_a_port_that_does_not_speak_tls(provider, clock):
    with socket.create_server(("127.0.0.1", 0)) as server:
        opener = Opener(
            ConnectionOptions(f"localhost:{server.getsockname()[1]}", read_timeout=0.3, connect_timeout=0.3),
            provider,
            clock,
        )
        with pytest.raises(DeployError):
            opener.user()


# files


def _pem(tmp_path: Path, leaf: trustme.LeafCert, *, passphrase: bytes | None = None) -> Path:
    key = leaf.private_key_pem.bytes()
    if passphrase:
        loaded = load_pem_private_key(key, None)
        key = loaded.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(passphrase))
    path = tmp_path / "client.pem"
    path.write_bytes(key + b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    return path


def test_a_client_certificate_is_presented(certificate, ca, ca_file, provider, clock, tmp_path):
    pem = _pem(tmp_path, ca.issue_cert("client"))
    with running(certificate, client_ca=ca) as stub:
        with pytest.raises(Unreachable):
            Opener(ConnectionOptions(stub.address, ca_file=ca_file, retries=0), provider, clock).user()
        session = Opener(ConnectionOptions(stub.address, ca_file=ca_file, client_cert=pem), provider, clock).user()
        assert session.call("GET", "projects") == []


@pytest.mark.parametrize("kind", ["missing", "not a certificate"])
@pytest.mark.parametrize("setting", ["ca_file", "client_cert"])
def test_an_unusable_file_is_a_configuration_error(opener, tmp_path, setting, kind):
    path = tmp_path / "file.pem"
    if kind == "not a certificate":
        path.write_text("hello")
    with pytest.raises(Configuration, match=f"platform.{setting}"):
        opener.user(**{setting: path})


def test_an_encrypted_client_key_is_refused_without_a_prompt(opener, ca, tmp_path):
    pem = _pem(tmp_path, ca.issue_cert("client"), passphrase=b"secret")
    with pytest.raises(Configuration, match="encrypted"):
        opener.user(client_cert=pem)
