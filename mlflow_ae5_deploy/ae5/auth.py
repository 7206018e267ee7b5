"""Sign in and out in both providers, and explain a failed login."""

from __future__ import annotations

import html
import os
import re
from functools import partial
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from mlflow_ae5_deploy.ae5.error_map import shielded
from mlflow_ae5_deploy.ae5.responses import LOGIN_FORM
from mlflow_ae5_deploy.ae5.transport import TransportAdapter
from mlflow_ae5_deploy.common import json_input
from mlflow_ae5_deploy.common.errors import LoginFailed, Refused, UnexpectedAnswer
from mlflow_ae5_deploy.common.redaction import Secret, register

XSRF_COOKIE = "_xsrf"  # its presence is the platform's only sign of a successful login
_MOST_LOGOUT_STEPS = 4
_MOST_LOGIN_STEPS = 15

# text of Keycloak's page -> message and remedy; the first match wins
_LOGIN_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        r"account is (temporarily )?disabled",
        "The account {user} is disabled{0}.",
        "Have an administrator enable it.",
    ),
    (
        r"invalid username or password|invalid user credentials",
        "The platform rejected the name or the password of {user}.",
        "Check account and password. Keycloak's answer is the same for an account that does not exist.",
    ),
    (
        r"kc-otp-login-form|one-time code|authenticator",
        "The platform asks {user} for a one-time code.",
        "A service account must be able to sign in with a password alone.",
    ),
    (
        r"kc-passwd-update-form|update password|kc-update-profile-form|update account information|verify email",
        "The platform requires {user} to complete the account (new password, profile or e-mail) first.",
        "Sign in once in a browser, complete the request, and try again.",
    ),
    (
        r"kc-terms-text|terms and conditions|kc-oauth|grant access",
        "The platform requires {user} to accept terms or a grant first.",
        "Sign in once in a browser, complete the request, and try again.",
    ),
)


def login_request(hostname: str) -> tuple[str, dict[str, str]]:
    """Address and parameters that start a browser login."""
    return f"https://{hostname}/auth/realms/AnacondaPlatform/protocol/openid-connect/auth", {
        "client_id": "anaconda-platform",
        "scope": "openid",
        "response_type": "code",
        "redirect_uri": f"https://{hostname}/login",
    }


def start_login(http: requests.Session, hostname: str) -> requests.Response:
    """Open the login page and follow it until signed in, or until it is a page.

    An account that is signed in at the identity provider is sent through /login to the front page. /login is where
    the code is exchanged for a session; once that has happened the front page is not fetched.
    """
    url, params = login_request(hostname)
    response = http.get(url, params=params, allow_redirects=False)
    for _ in range(_MOST_LOGIN_STEPS):
        following = response.next
        arrived = urlsplit(response.url).path == "/login" and is_signed_in(http.cookies)
        if following is None or arrived:
            return response
        response = http.send(following, allow_redirects=False)
    raise requests.exceptions.TooManyRedirects(response=response)


def find_login_form(page: str, url: str) -> str | None:
    """The absolute address that the login form of a page is sent to."""
    finder = _FormFinder()
    finder.feed(page)
    return urljoin(url, finder.action) if finder.action is not None else None


def is_signed_in(cookies: CookieJar) -> bool:
    return any(cookie.name == XSRF_COOKIE for cookie in cookies)


def explain_failed_login(adapter: TransportAdapter, hostname: str, username: str) -> LoginFailed:
    """The reason for a failed login, from the last page; ae5-tools has only one."""
    page = html.unescape(adapter.last_page)
    for pattern, what, remedy in _LOGIN_WORDS:
        if match := re.search(pattern, page, re.I):
            extra = " for a while" if match.groups() and match.group(1) else ""
            return LoginFailed(what.format(extra, user=username), where=hostname, remedy=remedy)
    if LOGIN_FORM.search(page):
        return LoginFailed(
            f"The platform shows its login form again to {username}, without saying why.",
            where=hostname,
            remedy="Check account and password by signing in with a browser.",
        )
    title = re.search(r"<title[^>]*>([^<]{1,80})", page, re.I)
    seen = f' It is titled "{title.group(1).strip()}".' if title else ""
    return LoginFailed(
        f"The login page of the platform has an unknown form.{seen}",
        where=hostname,
        remedy="Check platform.hostname. Behind another identity provider an administrator has to impersonate.",
    )


def fetch_admin_token(http: requests.Session, hostname: str, username: str, password: Secret | None) -> dict[str, Any]:
    """Keycloak's token answer for an administrator of the master realm."""
    form = {
        "username": username,
        "password": password.reveal() if password is not None else "",
        "grant_type": "password",
        "client_id": "admin-cli",
    }
    response = shielded(lambda: http.post(_admin_address(hostname, "token"), data=form), host=hostname)
    if response.status_code in (400, 401):
        # 400 invalid_grant is what Keycloak says of a disabled account or a pending required action
        disabled = "disabled" in response.text.lower()
        raise LoginFailed(
            f"The administrator account {username} is disabled."
            if disabled
            else f"The platform rejected the name or the password of the administrator {username}.",
            where=hostname,
            remedy="Check AE5_ADMIN_USERNAME and AE5_ADMIN_PASSWORD (an account of the realm `master`).",
            status=response.status_code,
        )
    if response.status_code != 200:
        raise Refused(
            f"The administrator's login was answered with {response.status_code}.",
            where=hostname,
            status=response.status_code,
        )
    try:
        answer = json_input.parse(response.content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
        raise UnexpectedAnswer("The answer to the administrator's login has no field access_token.", where=hostname)
    for name in ("access_token", "refresh_token"):
        register(str(answer.get(name) or ""))
    return answer


def end_admin_session(http: requests.Session, hostname: str, token: dict[str, Any]) -> None:
    if not token.get("refresh_token"):
        return
    form = {"refresh_token": token["refresh_token"], "client_id": "admin-cli"}
    shielded(lambda: http.post(_admin_address(hostname, "logout"), data=form), host=hostname)


def end_user_session(http: requests.Session, hostname: str) -> None:
    """GET /logout and its redirects, except the one back to the front page."""
    url = f"https://{hostname}/logout"
    for _ in range(_MOST_LOGOUT_STEPS):
        at = url
        response = shielded(partial(http.get, at, allow_redirects=False), host=hostname)
        location = response.headers.get("location", "").strip()
        if not 300 <= response.status_code < 400 or not location:
            return
        url = urljoin(url, location)
        if "logout" not in urlsplit(url).path or urlsplit(url).netloc != urlsplit(at).netloc:
            return


def adopt_cookies(http: requests.Session, jar: CookieJar) -> None:
    """Become the session that impersonation made: its cookies and no others."""
    http.cookies.clear()
    for cookie in jar:
        http.cookies.set_cookie(cookie)


def cloudflare_headers() -> dict[str, str]:
    """Headers for Cloudflare Access, from the same variables as ae5-tools."""
    client, secret = os.environ.get("CF_ACCESS_CLIENT_ID"), os.environ.get("CF_ACCESS_CLIENT_SECRET")
    if not client or not secret:
        return {}
    register(secret)
    return {"CF-Access-Client-Id": client, "CF-Access-Client-Secret": secret}


def _admin_address(hostname: str, verb: str) -> str:
    return f"https://{hostname}/auth/realms/master/protocol/openid-connect/{verb}"


class _FormFinder(HTMLParser):
    """Finds the login form whatever the order of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form" and given.get("id") == "kc-form-login" and given.get("action"):
            self.action = given["action"]
