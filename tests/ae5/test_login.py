"""Signing in: as whom, how it fails, what is sent where, and that nobody is asked for anything."""

from __future__ import annotations

import io
import sys

import pytest
import requests

from mlflow_ae5_deploy.ae5.connect import PlatformTarget, choose_provider, open_session
from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.ae5.providers.provider import AccountLogin
from mlflow_ae5_deploy.ae5.transport import guard
from mlflow_ae5_deploy.common.errors import (
    Configuration,
    Conflict,
    Denied,
    LoginFailed,
    PlatformError,
    UnexpectedAnswer,
    Unreachable,
    WriteForbidden,
)
from mlflow_ae5_deploy.common.redaction import Secret
from tests.manual_clock import ManualClock

from .conftest import HAS_AE5_TOOLS, leaks
from .stub import FORM, Reply, answer, page, redirect

AUTH = "/auth/realms/AnacondaPlatform/protocol/openid-connect/auth"
AUTHENTICATE = "/auth/realms/AnacondaPlatform/login-actions/authenticate"
TOKEN = "/auth/realms/master/protocol/openid-connect/token"
ADMIN = "/auth/admin/realms/AnacondaPlatform"


def test_a_session_is_signed_in_and_sends_the_xsrf_token(opener, stub):
    session = opener.user()
    assert session.call("GET", "projects") == []
    (call,) = stub.sent("GET", "projects")
    assert call.headers["x-xsrftoken"] == "x1"
    assert (session.username, session.hostname) == ("svc", stub.address)


def test_requests_are_counted_as_the_platform_counts_them(opener, stub):
    stub.on("POST", "credentials/user", Reply(200))
    session = opener.user()
    session.call("GET", "projects")
    session.call("POST", "credentials/user", json={"key": "A", "value": "b"})
    assert session.requests_made == len(stub.calls)
    assert session.writes_made == 1


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(None, "rejected the name or the password", id="wrong password"),
        pytest.param(FORM + "Account is disabled, contact your administrator.", "svc is disabled", id="disabled"),
        pytest.param(FORM + "Account is temporarily disabled; try later.", "for a while", id="locked for a while"),
        pytest.param('<form id="kc-otp-login-form">', "one-time code", id="one-time code"),
        pytest.param('<form id="kc-passwd-update-form">', "complete the account", id="required action"),
        pytest.param('<form id="kc-terms-text">', "accept terms", id="terms"),
        pytest.param(FORM, "without saying why", id="silent"),
    ],
)
def test_a_failed_login_states_its_reason(opener, stub, shown, expected):
    if shown is not None:
        stub.on("POST", AUTHENTICATE, page(shown.format(origin=stub.origin)))
    with pytest.raises(LoginFailed, match=expected) as caught:
        opener.user(password="wrong-password")
    assert leaks(caught.value, "wrong-password") == []
    assert len(stub.sent("POST", AUTHENTICATE)) == 1  # no second try: accounts get locked


def test_an_unknown_login_page_is_not_taken_for_being_signed_in(opener, stub):
    stub.on("GET", AUTH, page("<html><title>Corporate SSO</title></html>"))
    with pytest.raises(LoginFailed, match=r"unknown form.*Corporate SSO"):
        opener.user()


def test_a_busy_platform_at_login_is_not_called_a_wrong_password(opener, stub):
    stub.on("POST", AUTHENTICATE, Reply(503, "Service Unavailable"))
    with pytest.raises(Unreachable):
        opener.user()


def test_the_password_goes_to_no_other_host(opener, stub):
    elsewhere = FORM.format(origin=f"https://127.0.0.1:{stub.address.split(':')[1]}")
    stub.on("GET", AUTH, page(elsewhere))
    with pytest.raises(UnexpectedAnswer, match="another host"):
        opener.user()
    assert not any(call.method == "POST" for call in stub.calls)


def test_plain_http_is_never_spoken(opener, stub):
    stub.on("GET", AUTH, redirect(f"http://{stub.address}/login"))
    with pytest.raises(UnexpectedAnswer, match="plain http"):
        opener.user()


def test_endless_redirects_at_login_end(opener, stub):
    stub.on("GET", AUTH, redirect(f"{stub.origin}{AUTH}"), always=True)
    with pytest.raises(UnexpectedAnswer, match="redirects without end"):
        opener.user()


def test_a_failed_login_prompts_for_nothing_and_prints_nothing(opener, stub, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("API_DEBUG", "1")
    with pytest.raises(LoginFailed):
        opener.user(password="")
    with pytest.raises(LoginFailed):
        opener.admin(password="not-the-password")
    stub.on("POST", TOKEN, page("<html>boom</html>", 500))
    with pytest.raises(PlatformError):
        opener.admin()
    opener.user().close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("how", ["401", "302", "page"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_lost_session_is_renewed_once_and_the_call_repeated(opener, stub, how, method):
    """POST included: a platform that did not know who asks has not acted."""
    session = opener.user()
    stub.unauthenticated = how
    stub.forget_sessions()
    done = []

    def act(call):
        done.append(call)
        return answer({"ok": True})

    def unless_signed_in(call):
        stub.on(method, "things", act)
        return stub._not_signed_in()

    stub.on(method, "things", unless_signed_in)
    assert session.call(method, "things") == {"ok": True}
    assert len(done) == 1
    assert len(stub.sent("POST", AUTHENTICATE)) == 2


@pytest.mark.parametrize("how", ["401", "302", "page"])
def test_a_session_that_is_refused_again_is_a_failed_login(opener, stub, how):
    session = opener.user()
    stub.unauthenticated = how
    stub.on("GET", "things", lambda _: stub._not_signed_in(), always=True)
    with pytest.raises(LoginFailed):
        session.call("GET", "things")
    assert len(stub.sent("GET", "things")) == 2


def test_a_failed_renewal_is_not_hidden_by_old_cookies(opener, stub):
    session = opener.user()
    stub.forget_sessions()
    stub.on("POST", AUTHENTICATE, page('<form id="kc-otp-login-form">'))
    with pytest.raises(LoginFailed, match="one-time code"):
        session.call("GET", "projects")


def test_close_signs_out_once(opener, stub):
    session = opener.user()
    session.close()
    session.close()
    assert len(stub.sent("GET", "/logout")) == 1
    assert not stub.sessions


def test_close_does_not_raise(opener, stub):
    session = opener.user()
    stub.on("GET", "/logout", Reply(drop=True), always=True)
    session.close()
    assert stub.sent("GET", "/logout")


def test_a_netrc_entry_does_not_replace_our_headers(opener, stub, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine localhost login x password y\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    admin = opener.admin()
    assert admin.find_user("svc") is not None
    opener.user()
    assert not any(call.headers.get("authorization", "").startswith("Basic") for call in stub.calls)


def test_cloudflare_headers_are_sent_to_the_platform(opener, stub, monkeypatch):
    monkeypatch.setenv("CF_ACCESS_CLIENT_ID", "cf-id")
    monkeypatch.setenv("CF_ACCESS_CLIENT_SECRET", "cf-secret")
    opener.user().call("GET", "projects")
    assert all(call.headers.get("cf-access-client-secret") == "cf-secret" for call in stub.calls)


def test_a_redirect_elsewhere_takes_no_header_of_ours_along(opener, stub, monkeypatch):
    monkeypatch.setenv("CF_ACCESS_CLIENT_ID", "cf-id")
    monkeypatch.setenv("CF_ACCESS_CLIENT_SECRET", "cf-secret")
    session = opener.user()
    session.call("GET", "projects")
    stub.forget_sessions()
    stub.on("GET", AUTH, redirect(f"https://127.0.0.1:{stub.address.split(':')[1]}/elsewhere"))
    with pytest.raises(LoginFailed):
        session.call("GET", "projects")
    (call,) = stub.sent("GET", "/elsewhere")
    assert {"x-xsrftoken", "cf-access-client-id", "cf-access-client-secret", "cookie"} & set(call.headers) == set()


def test_a_new_xsrf_token_is_taken_up(session, stub):
    stub.on("GET", "things", Reply(body=b"1", headers=(("Set-Cookie", "_xsrf=newer; Path=/"),)))
    session.call("GET", "things")
    session.call("GET", "projects")
    assert stub.sent("GET", "projects")[-1].headers["x-xsrftoken"] == "newer"


@pytest.mark.parametrize("hostname", ["", "https://localhost", "localhost/", "a b", "u@localhost", "localhost:x"])
def test_what_is_no_host_name_is_a_configuration_error(opener, hostname):
    for act in (opener.user, opener.admin):
        with pytest.raises(Configuration, match="host name"):
            act(hostname=hostname)


# impersonation and administrators


def test_impersonation_goes_by_id_with_one_list_of_users(opener, stub):
    stub.accounts.append({"id": "u-2", "username": "svc*", "enabled": True})
    admin = opener.admin()
    session = opener.impersonated(admin)
    assert session.call("GET", "projects") == []
    assert session.username == "svc"
    assert len(stub.sent("GET", f"{ADMIN}/users")) == 1
    assert len(stub.sent("POST", f"{ADMIN}/users/u-1/impersonation")) == 1
    assert not stub.sent("POST", AUTHENTICATE)
    assert admin.requests_made + session.requests_made == len(stub.calls)
    assert admin.writes_made + session.writes_made == 0


def test_an_impersonated_session_is_renewed_through_the_administrator(opener, stub):
    session = opener.impersonated(opener.admin())
    stub.forget_sessions()
    stub.on("POST", f"{ADMIN}/users/u-1/impersonation", Reply(401, "Unauthorized"))  # its token lives a minute
    assert session.call("GET", "projects") == []
    assert len(stub.sent("POST", TOKEN)) == 2


def test_impersonation_that_leads_to_a_login_form_sends_no_password(opener, stub):
    stub.on("GET", AUTH, page(FORM.format(origin=stub.origin)))
    with pytest.raises(LoginFailed):
        opener.impersonated(opener.admin())
    assert not stub.sent("POST", AUTHENTICATE)


def test_a_disabled_account_is_not_impersonated(opener, stub):
    stub.accounts[0]["enabled"] = False
    with pytest.raises(LoginFailed, match="svc is disabled"):
        opener.impersonated(opener.admin())


def test_refused_impersonation_names_both_accounts(opener, stub):
    stub.on("POST", f"{ADMIN}/users/u-1/impersonation", answer({"errorMessage": "User is disabled"}, 400))
    with pytest.raises(LoginFailed, match=r"root act as svc.*User is disabled"):
        opener.impersonated(opener.admin())


def test_an_administrator_without_rights_is_denied(opener, stub):
    stub.on("GET", f"{ADMIN}/users", Reply(403, "Forbidden"), always=True)
    with pytest.raises(Denied):
        opener.admin().users()
    assert len(stub.sent("GET", f"{ADMIN}/users")) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer({"error": "invalid_grant"}, 401), "name or the password of the administrator root"),
        (answer({"error": "invalid_grant", "error_description": "Account disabled"}, 400), "root is disabled"),
        (page("<html>odd</html>"), "no field access_token"),
        (answer({"error": "x"}, 500), "500"),
        (Reply(503), "503"),
    ],
)
def test_an_administrator_who_cannot_sign_in(opener, stub, reply, expected):
    stub.on("POST", TOKEN, reply, always=True)
    with pytest.raises(PlatformError, match=expected) as caught:
        opener.admin(password="admin-secret-word")
    assert leaks(caught.value, "admin-secret-word") == []


def test_users_are_found_by_name_without_patterns(opener, stub):
    admin = opener.admin()
    assert admin.find_user("SVC") == User("u-1", "svc", True, "svc@x")
    assert admin.find_user("sv*") is None


def test_an_account_is_created_with_its_role(opener, stub):
    def create(call):
        stub.accounts.append({"id": "u-9", "username": "new", "enabled": True, "email": "n@x"})
        return Reply(201, kind=None)

    stub.on("POST", f"{ADMIN}/users", create)
    stub.on("GET", f"{ADMIN}/roles", answer([{"id": "r-1", "name": "default-roles-anacondaplatform"}]))
    stub.on("POST", f"{ADMIN}/users/u-9/role-mappings/realm", Reply(204, kind=None))
    user = opener.admin().create_user("new", "n@x", "New", "One", Secret("new-password"))
    assert user.id == "u-9"
    (mapping,) = stub.sent("POST", f"{ADMIN}/users/u-9/role-mappings/realm")
    assert mapping.json == [{"id": "r-1", "name": "default-roles-anacondaplatform"}]
    (created,) = stub.sent("POST", f"{ADMIN}/users")
    assert created.json["groups"] == ["everyone"]


@pytest.mark.parametrize(
    ("status", "kind"), [(409, Conflict), (400, PlatformError), (403, Denied), (503, PlatformError)]
)
def test_a_refused_account_shows_no_password(opener, stub, status, kind):
    stub.on("POST", f"{ADMIN}/users", lambda call: Reply(status, "no: pw1", call.body, "text/plain"))
    with pytest.raises(kind) as caught:
        opener.admin().create_user("new", "n@x", "New", "One", Secret("pw1"))
    assert leaks(caught.value, "pw1") == []
    assert len(stub.sent("POST", f"{ADMIN}/users")) == 1


# reading only


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["credentials/user", "/platform/deploy/x", "/anything"])
def test_a_plan_sends_no_write(opener, stub, method, path):
    session = opener.user(read_only=True)
    before = len(stub.calls)
    with pytest.raises(WriteForbidden):
        session.call(method, path, json={})
    assert len(stub.calls) == before
    assert session.writes_made == 0


def test_a_plan_reads_and_impersonates(opener, stub):
    admin = opener.admin(read_only=True)
    session = opener.impersonated(admin, read_only=True)
    assert session.call("GET", "projects") == []
    with pytest.raises(WriteForbidden):
        admin.create_user("a", "b@c", "d", "e", Secret("some-password"))


def test_a_refused_write_does_not_even_sign_in(opener, stub):
    session = opener.user(read_only=True)
    session.close()
    before = len(stub.calls)
    with pytest.raises(WriteForbidden):
        session.call("POST", "credentials/user", json={})
    assert len(stub.calls) == before


def test_a_plan_cannot_write_around_the_session_either(options, stub):
    http = requests.Session()
    guard(http, options, ManualClock(), read_only=True)
    with pytest.raises(WriteForbidden):
        http.post(f"{stub.origin}/api/v2/credentials/user", json={})
    assert stub.calls == []


# which provider


def test_a_real_platform_is_not_reached_through_the_built_in_provider():
    with pytest.raises(Configuration, match="sandbox only"):
        choose_provider("built-in", is_sandbox=False)


@pytest.mark.parametrize(
    ("provider", "is_sandbox", "chosen"),
    [
        ("auto", True, "built-in"),
        ("auto", False, "ae5-tools"),
        ("ae5-tools", True, "ae5-tools"),
        ("ae5-tools", False, "ae5-tools"),
        ("built-in", True, "built-in"),
    ],
)
def test_each_provider_setting_gives_its_provider(provider, is_sandbox, chosen):
    assert choose_provider(provider, is_sandbox=is_sandbox) == chosen


@pytest.mark.skipif(HAS_AE5_TOOLS, reason="ae5-tools is installed here")
def test_without_ae5_tools_a_real_platform_is_an_error_that_says_how_to_get_it(options, stub):
    target = PlatformTarget(options, "auto", is_sandbox=False)
    with pytest.raises(Configuration) as caught:
        open_session(target, AccountLogin("svc", Secret("right-password")), ManualClock())
    assert "conda create --name mlflow-ae5-deploy" in caught.value.remedy
    assert "ae5-admin" in caught.value.remedy
    assert stub.calls == []
