"""Fixtures of the platform tests: certificates, the scripted server, and both session providers."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from mlflow_ae5_deploy.ae5.accounts import AdminSession
from mlflow_ae5_deploy.ae5.client import Client
from mlflow_ae5_deploy.ae5.connect import PlatformTarget, open_admin, open_session
from mlflow_ae5_deploy.ae5.options import ConnectionOptions
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin
from mlflow_ae5_deploy.ae5.resource_api import WaitTimeouts
from mlflow_ae5_deploy.ae5.session import UserSession
from mlflow_ae5_deploy.common.clock import Clock, SystemClock
from mlflow_ae5_deploy.common.redaction import Secret
from tests.manual_clock import ManualClock

from .stub import running

HAS_AE5_TOOLS = importlib.util.find_spec("ae5_tools") is not None
PROVIDERS = [
    "built-in",
    pytest.param(
        "ae5-tools",
        marks=pytest.mark.skipif(not HAS_AE5_TOOLS, reason="ae5-tools is not installed here (conda channel ae5-admin)"),
    ),
]


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _no_home(tmp_path_factory):
    """Importing ae5-tools creates its configuration folder; keep that out of the real home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE5_TOOLS_CONFIG_DIR", str(tmp_path_factory.mktemp("ae5")))
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def ca():
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(ca, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def certificate(ca):
    return ca.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def stub(certificate):
    with running(certificate) as server:
        yield server


@pytest.fixture
def clock():
    return ManualClock()


class Opener:
    """Opens sessions to the stub, and closes them at the end of the test."""

    def __init__(self, options: ConnectionOptions, provider: str, clock: Clock) -> None:
        self.options = options
        self.provider = provider
        self.clock = clock
        self._opened: list[Any] = []

    def user(
        self,
        username: str = "svc",
        password: str = "right-password",  # noqa: S107
        *,
        read_only: bool = False,
        clock: Clock | None = None,
        **options: Any,
    ) -> UserSession:
        login = AccountLogin(username, Secret(password))
        return self._keep(open_session(self._target(read_only, **options), login, clock or self.clock))

    def admin(
        self,
        username: str = "root",
        password: str = "admin-password",  # noqa: S107
        *,
        read_only: bool = False,
        **options: Any,
    ) -> AdminSession:
        login = AccountLogin(username, Secret(password))
        return self._keep(open_admin(self._target(read_only, **options), login, self.clock))

    def impersonated(self, admin: AdminSession, username: str = "svc", *, read_only: bool = False) -> UserSession:
        user = admin.find_user(username)
        assert user is not None
        return self._keep(open_session(self._target(read_only), admin.login_as(user), self.clock))

    def _target(self, read_only: bool, **options: Any) -> PlatformTarget:
        return PlatformTarget(replace(self.options, **options), self.provider, is_sandbox=True, read_only=read_only)

    def _keep(self, opened: Any) -> Any:
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        for opened in reversed(self._opened):
            opened.close()


@pytest.fixture
def options(stub, ca_file):
    return ConnectionOptions(stub.address, ca_file=ca_file, connect_timeout=5, read_timeout=5)


@pytest.fixture
def opener(options, provider, clock):
    made = Opener(options, provider, clock)
    yield made
    made.close()


@pytest.fixture
def session(opener):
    return opener.user()


def leaks(error: BaseException, *secrets: str) -> list[str]:
    """The secrets to be found in an exception: its text, its fields, and everything it drags along."""
    waiting: list[BaseException] = [error]
    seen: list[BaseException] = []
    texts: list[str] = []
    while waiting:
        link = waiting.pop()
        if any(link is other for other in seen):
            continue
        seen.append(link)
        texts += [str(link), repr(link), repr(vars(link)), repr(link.args)]
        request = getattr(link, "request", None)
        texts += [repr(getattr(request, "body", "")), repr(getattr(request, "headers", ""))]
        waiting += [inner for inner in (link.__cause__, link.__context__) if inner is not None]
    return [secret for secret in secrets if any(secret in text for text in texts)]


class HastyClock(SystemClock):
    """Real time, for real processes, but without long pauses between probes."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.05))


SHORT = WaitTimeouts(project=20, deployment=60, stop=20, endpoint_free=20, secret=10, visible=5, lost_answer=0.3)


@dataclass
class Bench:
    """A platform over real HTTPS: the sandbox, one of its accounts, and the sandbox's control plane."""

    platform: Client
    session: UserSession
    control: Any
    archive: Path
    waits: list[str]

    def count(self, method: str, path: str) -> int:
        """Number of requests to the sandbox; path is a regular expression for the whole path below /api/v2/."""
        calls = self.control.calls("platform")
        return sum(call.method == method and bool(re.fullmatch(f"/api/v2/{path}", call.path)) for call in calls)


@pytest.fixture
def bench(sandbox, provider, project_archive):
    info = sandbox.info
    control = sandbox.control
    control.clear()
    password = json.loads(info.credentials_file.read_text())["users"]["dev-user"]
    clock = HastyClock()
    waits: list[str] = []
    target = PlatformTarget(ConnectionOptions(info.hostname, ca_file=info.ca_file), provider, is_sandbox=True)
    session = open_session(target, AccountLogin("dev-user", Secret(password)), clock)
    platform = Client(session, clock, SHORT, waits.append)
    yield Bench(platform, session, control, project_archive, waits)
    control.clear()
    session.close()


@pytest.fixture
def scripted(options, clock):
    """A platform over the scripted server, on a clock that needs no time. Which provider makes no difference here."""
    opener = Opener(options, "built-in", clock)
    yield Client(opener.user(), clock)
    opener.close()


def loss(method: str, path: str, how: str) -> dict[str, Any]:
    """A fault of the sandbox: the answer to a write gets lost, before or after it took effect."""
    fault: dict[str, Any] = {"method": method, "path": path}
    if how.startswith("dropped"):
        return fault | {"drop": how.split()[-1]}
    return fault | {"status": int(how.split()[0]), "after": how.endswith("after")}


LOSSES = ["dropped before", "dropped after", "503 before", "504 after"]
