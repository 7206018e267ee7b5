"""Endpoints as sub-domains on the platform's own port, as on a cluster.

Names below `localhost` do not resolve everywhere, so the connection is made to the address, with the name in the
Host header; cookies and redirects are the server's.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from mlflow_ae5_deploy.sandbox.sandbox import Sandbox
from tests.sandbox.support import credentials, endpoint_name, make_project_archive, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"addressing": "vhost", "stop_grace_seconds": 3}
    with Sandbox(tmp_path_factory.mktemp("vhosts"), settings) as server:
        yield server


class Browser:
    """Follows redirects and keeps cookies by name, whatever the resolver of this machine thinks of the names."""

    def __init__(self, info: Any) -> None:
        self.info = info
        self.port = info.hostname.rpartition(":")[2]
        self.cookies: dict[str, str] = {}
        self.domains: set[str] = set()

    def ask(self, url: str, method: str = "GET", follow: bool = True, **kwargs: Any) -> requests.Response:
        for _ in range(10):
            parts = urlsplit(url)
            headers = {"Host": parts.netloc, "x-xsrftoken": self.cookies.get("_xsrf", ""), **kwargs.pop("headers", {})}
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
            address = f"https://127.0.0.1:{self.port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
            with requests.Session() as session:
                session.trust_env = False
                answer = session.request(
                    method, address, headers=headers, verify=str(self.info.ca_file), allow_redirects=False, **kwargs
                )
            for cookie in answer.cookies:
                self.cookies[cookie.name] = cookie.value or ""
            for header in answer.raw.headers.getlist("Set-Cookie"):
                self.cookies |= dict([header.partition(";")[0].split("=", 1)])
                self.domains |= {p.strip() for p in header.split(";") if p.strip().lower().startswith("domain=")}
            if not follow or answer.status_code != 302:
                return answer
            url, method, kwargs = answer.headers["Location"], "GET", {}
        raise AssertionError("too many redirects")

    def sign_in_at(self, url: str) -> requests.Response:
        page = self.ask(url)
        action = page.text.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
        form = {"username": "dev-user", "password": credentials(self.info)["users"]["dev-user"]}
        return self.ask(action, "POST", data=form)


def test_endpoints_are_reached_by_sub_domain(server, tmp_path):
    info = server.info
    assert info.hostname.startswith("ae5.localhost:")
    browser = Browser(info)
    query = "client_id=anaconda-platform&scope=openid&response_type=code"
    auth = f"https://{info.hostname}/auth/realms/AnacondaPlatform/protocol/openid-connect/auth"
    browser.sign_in_at(f"{auth}?{query}&redirect_uri=https://{info.hostname}/login")
    assert browser.domains == {"Domain=ae5.localhost"}

    api = f"https://{info.hostname}/api/v2"
    with make_project_archive(tmp_path / "p.tar.gz").open("rb") as file:
        project = browser.ask(f"{api}/projects/upload", "POST", data={"name": "v"}, files={"project_file": file}).json()
    body = {"revision": "latest", "resource_profile": "default", "command": "TrackingServer", "public": False}
    body |= {"source": f"{project['url']}/archive/latest", "target": "deploy"}
    start = f"{api}/projects/{project['id']}/deployments"
    plain = browser.ask(start, "POST", json=body | {"name": "plain"}).json()
    named = browser.ask(start, "POST", json=body | {"name": "named", "static_endpoint": "My-Name"}).json()
    assert plain["url"] == f"https://{plain['id'][3:]}.{info.hostname}/"
    assert named["url"] == f"https://my-name.{info.hostname}/"
    assert "static_endpoint" not in named
    assert endpoint_name(named) == "my-name"
    for record in (plain, named):
        one = f"{api}/deployments/{record['id']}"
        wait_for(lambda one=one: browser.ask(one).json()["state"] == "started", "the start")

    token = browser.ask(f"{api}/deployments/{named['id']}/token", "POST").json()["token"]
    outside = Browser(info)
    assert outside.ask(named["url"] + "health", headers={"Authorization": f"Bearer {token}"}).text == "OK"
    assert outside.ask(plain["url"] + "health", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert outside.ask(named["url"] + "health", follow=False).status_code == 302
    assert outside.ask(f"https://other.{info.hostname}/health").status_code == 404
    assert outside.ask(f"https://other.{info.hostname}/api/v2/projects").status_code == 404
    probe = outside.ask(named["url"] + "_errors/404.html", "HEAD", follow=False)
    assert probe.status_code == 302

    # The platform's session is good for the sub-domains, and a fresh browser is led through the login and back.
    assert browser.ask(named["url"] + "health").text == "OK"
    assert Browser(info).sign_in_at(named["url"] + "version").text == "3.17.2"
    assert browser.ask(f"{api}/deployments/{named['id']}", "DELETE").status_code == 200
    assert browser.ask(f"{api}/deployments/{plain['id']}", "DELETE").status_code == 200
    assert outside.ask(named["url"] + "_errors/404.html", "HEAD", follow=False).status_code == 404
