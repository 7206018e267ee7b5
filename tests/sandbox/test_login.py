"""Signing in, staying in, and what is answered to those who are not."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sandbox.support import Admin, Client, credentials, new_session

AUTH = "/auth/realms/AnacondaPlatform/protocol/openid-connect/auth"


def test_the_form_is_written_as_ae5_tools_reads_it(sandbox):
    page = Client(sandbox.info).open_login()
    assert page.headers["Content-Type"].startswith("text/html")
    assert re.search(r'<form id="kc-form-login".*?action="([^"]*)"', page.text)


def test_a_wrong_password_says_so_and_gives_no_session(sandbox):
    client = Client(sandbox.info)
    answer = client.sign_in("dev-user", "wrong")
    assert "Invalid username or password." in answer.text
    assert not client.session.cookies


def test_a_disabled_account_cannot_sign_in(sandbox):
    Admin(sandbox.info).create("retired", "pw", enabled=False)
    client = Client(sandbox.info)
    assert "Account is disabled" in client.sign_in("retired", "pw").text
    assert "_xsrf" not in client.session.cookies


def test_disabling_an_account_ends_its_sessions(sandbox):
    admin = Admin(sandbox.info)
    user_id = admin.create("leaver", "pw")
    client = Client(sandbox.info, "leaver", "pw")
    assert admin.call("PUT", f"users/{user_id}", json={"enabled": False}).status_code == 204
    assert client.call("GET", "projects").status_code == 401
    assert admin.call("POST", f"users/{user_id}/impersonation").status_code == 400


def test_who_is_signed_in_gets_no_form(client):
    assert 'id="kc-form-login"' not in client.open_login().text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"client_id": "other"}, "Client not found"),
        ({"redirect_uri": "https://elsewhere.example/login"}, "Invalid parameter: redirect_uri"),
        ({"response_type": "token"}, "Invalid parameter: response_type"),
        ({"surprise": "1"}, "Sandbox: unknown query parameter surprise"),
    ],
)
def test_the_login_address_is_checked(client, change, reason):
    query = {"client_id": "anaconda-platform", "scope": "openid", "response_type": "code"}
    query["redirect_uri"] = client.url("/login")
    answer = new_session(client.info).get(client.url(AUTH), params=query | change)
    assert (answer.status_code, answer.reason) == (400, reason)


@pytest.mark.parametrize(("mode", "status"), [("401", 401), ("302", 302)])
def test_a_call_without_a_session_is_answered_as_set(sandbox, mode, status):
    sandbox.control.change_settings(unauthenticated=mode)
    try:
        answer = Client(sandbox.info).call("GET", "projects")
    finally:
        sandbox.control.change_settings(unauthenticated="401")
    assert answer.status_code == status
    assert (status == 302) == (urlsplit(answer.headers.get("Location", "")).path == AUTH)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"x-xsrftoken": ""}, 403), ({"x-xsrftoken": "made up"}, 403), ({}, 200)],
)
def test_writes_need_the_xsrf_token(client, headers, status):
    answer = client.call("POST", "credentials/user", json={"key": "X", "value": "y"}, headers=headers)
    assert answer.status_code == status


def test_an_xsrf_token_of_ones_own_making_is_refused(sandbox):
    client = Client(sandbox.info, "dev-user")
    domain = next(c.domain for c in client.session.cookies if c.name == "_xsrf")
    client.session.cookies.set("_xsrf", "invented", domain=domain, path="/")
    answer = client.call(
        "POST", "credentials/user", json={"key": "X", "value": "y"}, headers={"x-xsrftoken": "invented"}
    )
    assert answer.status_code == 403


def test_logging_out_ends_session_and_sso(sandbox):
    client = Client(sandbox.info, "dev-user")
    kept = list(client.session.cookies)
    client.session.get(client.url("/logout"))
    thief = new_session(sandbox.info)
    for cookie in kept:
        thief.cookies.set_cookie(cookie)
    assert thief.get(client.url("projects"), allow_redirects=False).status_code == 401
    client.session = thief
    assert 'id="kc-form-login"' in client.open_login().text


def test_a_session_ends_by_itself(sandbox):
    sandbox.control.change_settings(session_seconds=0)
    try:
        client = Client(sandbox.info, "dev-user")
        assert client.call("GET", "projects").status_code == 401
        assert 'id="kc-form-login"' in client.open_login().text
    finally:
        sandbox.control.change_settings(session_seconds=3600)


def test_a_code_works_once(sandbox):
    client = Client(sandbox.info, "dev-user")
    query: dict[str, Any] = {"client_id": "anaconda-platform", "response_type": "code", "scope": "openid"}
    query["redirect_uri"] = client.url("/login")
    answer = client.session.get(client.url(AUTH), params=query, allow_redirects=False)
    address = answer.headers["Location"]
    assert "_xsrf" in new_session(sandbox.info).get(address, allow_redirects=False).cookies
    assert "_xsrf" not in new_session(sandbox.info).get(address, allow_redirects=False).cookies


def test_login_leads_back_only_to_addresses_of_the_sandbox(sandbox):
    client = Client(sandbox.info, "dev-user")
    query = {"client_id": "anaconda-platform", "response_type": "code", "scope": "openid"}
    query |= {"redirect_uri": client.url("/login"), "state": "https://elsewhere.example/"}
    answer = client.session.get(client.url(AUTH), params=query)
    assert [urlsplit(r.headers["Location"]).netloc for r in answer.history] == [sandbox.info.hostname] * 2
    assert "state" in parse_qs(urlsplit(answer.history[0].headers["Location"]).query)


# -- the administrator ------------------------------------------------------------------------


def test_the_admin_api_needs_the_admin_token(sandbox, client):
    path = "/auth/admin/realms/AnacondaPlatform/users"
    assert client.call("GET", path).status_code == 401
    assert client.call("GET", path, headers={"Authorization": "Bearer made-up"}).status_code == 401


def test_a_refresh_token_works_once_and_ends_with_logout(sandbox):
    admin = Admin(sandbox.info)
    base = f"https://{sandbox.info.hostname}/auth/realms/master/protocol/openid-connect"
    form = {"grant_type": "refresh_token", "client_id": "admin-cli"}
    second = admin.session.post(f"{base}/token", data=form | {"refresh_token": admin.tokens["refresh_token"]}).json()
    again = admin.session.post(f"{base}/token", data=form | {"refresh_token": admin.tokens["refresh_token"]})
    assert again.status_code == 400
    bye = {"client_id": "admin-cli", "refresh_token": second["refresh_token"]}
    assert admin.session.post(f"{base}/logout", data=bye).status_code == 204
    assert (
        admin.session.post(f"{base}/token", data=form | {"refresh_token": second["refresh_token"]}).status_code == 400
    )


def test_lists_of_the_admin_api_come_in_pages(sandbox):
    admin = Admin(sandbox.info)
    for number in range(3):
        admin.create(f"page-{number}", "pw")
    everybody = [u["username"] for u in admin.call("GET", "users").json()]
    pages = [admin.call("GET", "users", params={"first": f, "max": 2}).json() for f in range(0, len(everybody), 2)]
    assert [u["username"] for page in pages for u in page] == everybody
    assert {len(page) for page in pages[:-1]} == {2}
    exact = admin.call("GET", "users", params={"username": "page-1", "exact": "true"}).json()
    assert [u["username"] for u in exact] == ["page-1"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"username": "dev-user"}, 409),
        ({"groups": ["nobody-made-this"]}, 400),
        ({"credentials": []}, 400),
        ({"attributes": {}}, 400),
        ({"enabled": "yes"}, 400),
    ],
)
def test_accounts_that_cannot_be_made(sandbox, change, status):
    body: dict[str, Any] = {"username": "someone", "groups": ["everyone"], "enabled": True}
    body["credentials"] = [{"type": "password", "temporary": False, "value": "pw"}]
    assert Admin(sandbox.info).call("POST", "users", json=body | change).status_code == status


def test_no_password_and_no_token_is_kept_in_clear(sandbox, client):
    admin = Admin(sandbox.info)
    accounts = credentials(sandbox.info)
    secrets = [
        accounts["admin"]["password"],
        *accounts["users"].values(),
        *accounts["reserved"].values(),
        *admin.tokens.values(),
    ]
    secrets += [c.value for c in client.session.cookies]
    state = (sandbox.info.state_dir / "state.json").read_text()
    assert [s for s in secrets if isinstance(s, str) and len(s) > 10 and s in state] == []
