"""Looking at names, certificates and clocks before anybody signs in."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta

import pytest

from mlflow_ae5_deploy.ae5 import probe
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.common.errors import UnexpectedAnswer, Unreachable
from tests.manual_clock import ManualClock

from .stub import Reply, running

NOW = datetime.now(UTC)


def test_a_handshake_returns_the_certificate_chain(stub, options):
    seen = probe.handshake(stub.address, options)
    assert seen.version.startswith("TLSv1.")
    assert "localhost" in seen.chain[0].names
    assert len(seen.chain) == 2  # this Python tells the authority's too
    assert all(item.not_after > NOW for item in seen.chain)


def test_an_expired_certificate_is_refused_and_still_says_when_it_ended(ca, ca_file):
    ended = NOW.replace(microsecond=0) - timedelta(days=3)
    with running(ca.issue_cert("localhost", not_before=ended - timedelta(days=9), not_after=ended)) as stub:
        options = ConnectionOptions(stub.address, ca_file=ca_file)
        with pytest.raises(Unreachable, match="expired"):
            probe.handshake(stub.address, options)
        assert probe.handshake(stub.address, options, verify=False).chain[0].not_after == ended


def test_the_environments_bundle_counts_as_it_does_for_requests(stub, ca_file, monkeypatch):
    options = ConnectionOptions(stub.address)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises(Unreachable, match="unknown authority"):
        probe.handshake(stub.address, options)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_file))
    assert probe.handshake(stub.address, options).chain


def test_nobody_listens_and_nobody_knows_the_name(options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="nothing listens"):
            probe.connect(f"localhost:{free.getsockname()[1]}", options)
    with pytest.raises(Unreachable, match="does not resolve"):
        probe.addresses("no-such-host.invalid")
    assert "127.0.0.1" in probe.addresses("localhost:1")


@pytest.mark.parametrize(("stated", "skew"), [("12:00:00", 0.5), ("12:05:00", 300.5), ("11:00:00", -3599.5)])
def test_clock_skew_is_measured_from_the_date_header(stub, options, stated, skew):
    stub.on("GET", "/", Reply(200, headers=(("Date", f"Sun, 01 Mar 2026 {stated} GMT"),)))
    assert probe.clock_skew(options, ManualClock(start=datetime(2026, 3, 1, 12, tzinfo=UTC))) == skew
    (call,) = stub.calls
    assert "cookie" not in call.headers


@pytest.mark.parametrize("headers", [(), (("Date", "yesterday"),)])
def test_an_answer_without_a_date_is_unexpected(stub, options, headers):
    stub.on("GET", "/", Reply(200, headers=headers))
    with pytest.raises(UnexpectedAnswer, match="no date"):
        probe.clock_skew(options, ManualClock())


@pytest.mark.parametrize(
    ("variable", "host", "proxy"),
    [
        ("https://user:secret@proxy.example:3128", "ae5.example.com", "proxy.example:3128"),
        ("", "ae5.example.com", None),
        ("http://proxy.example:3128", "inside.example.org:8443", None),
    ],
)
def test_a_proxy_on_the_way_is_named_without_its_password(variable, host, proxy, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", variable)
    monkeypatch.setenv("no_proxy", "example.org")
    assert probe.proxy_for(host) == proxy


def test_host_and_port_are_split():
    assert probe.split_host("ae5.example.com") == ("ae5.example.com", 443)
    assert probe.split_host("ae5.example.com:8443") == ("ae5.example.com", 8443)
    assert probe.split_host("[::1]:8443") == ("::1", 8443)
