"""The pages for a browser: what is on them, who sees what, and what they never do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mlflow_ae5_deploy.sandbox.pages import html
from tests.sandbox.support import Admin, Client, make_project_archive, new_session, password_of

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = '<script>alert("1")<!--\u202e'
SECRET = "value-5b1c9e0d"


class Page(HTMLParser):
    """What a screen reader would find: headings, links, labels, tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def colleague(sandbox):
    Admin(sandbox.info).create("colleague", "pw")
    return Client(sandbox.info, "colleague", "pw")


@pytest.fixture(scope="module")
def site(sandbox, client, tmp_path_factory):
    """One of everything: the address of each page, by what it shows."""
    archive = make_project_archive(tmp_path_factory.mktemp("archive") / "p.tar.gz")
    client.post("credentials/user", {"key": "DATABASE_PASSWORD", "value": SECRET})
    project = client.upload(archive, HOSTILE).json()
    deployment = client.deploy(project["id"], name="served")
    job = client.post(f"projects/{project['id']}/jobs", client.job_body(project["id"], "collect", schedule="5 4 * * *"))
    run = client.finished(client.post(f"jobs/{job['id']}/runs")["id"])
    client.token(deployment["id"])
    return {
        "overview": "/",
        "project": f"/projects/detail/{project['id']}",
        "deployment": f"/deployments/detail/{deployment['id']}",
        "view": f"/deployments/detail/{deployment['id']}/view",
        "job": f"/jobs/detail/{job['id']}",
        "run": f"/runs/detail/{run['id']}",
    } | {"url": deployment["url"], "id": deployment["id"]}


KINDS = ("overview", "project", "deployment", "view", "job", "run")


def read(client: Client, path: str) -> Any:
    answer = client.call("GET", path, headers=BROWSER)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    return answer


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("overview", ["Open MLflow", "served", "started", "collect", "5 4 * * *", "completed", "DATABASE_PASSWORD"]),
        ("project", ["TrackingServer", "exec python -IS app.py", "served", "collect", "nobody"]),
        ("deployment", ["served", "Valid tokens1", "The project is ready to run commands.", "Ready", "operational"]),
        ("view", ["served", "started", "Open in a new tab"]),
        ("job", ["collect", "5 4 * * *", "GarbageCollection", "completed"]),
        ("run", ["collect", "completed", "collecting older than 30d0h0m0s"]),
    ],
)
def test_a_page_shows(client, site, kind, shown):
    text = " ".join(Page(read(client, site[kind]).text).text.split())
    assert [words for words in shown if words not in text] == []


@pytest.mark.parametrize("kind", [*KINDS, "login", "error", "signed out"])
def test_every_page_is_accessible_and_says_that_it_is_a_sandbox(sandbox, client, site, kind):
    outside = Client(sandbox.info)
    answer = {
        "login": lambda: outside.open_login(),
        "error": lambda: client.call("GET", "/nothing", headers=BROWSER),
        "signed out": lambda: outside.call("GET", "/"),
    }.get(kind, lambda: read(client, site[kind]))()
    page = Page(answer.text)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("title")) == len(page.all("main")) == 1
    assert {a["id"] for a in page.all("input")} == {a["for"] for a in page.all("label")}
    assert all(frame["title"] for frame in page.all("iframe"))
    assert all(cell["scope"] for cell in page.all("th"))
    assert "This is a sandbox, not Anaconda Enterprise" in page.text
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(headings)), headings


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_runs_scripts_loads_anything_or_shows_a_secret(sandbox, client, site, kind):
    answer = read(client, site[kind])
    page = Page(answer.text)
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
    assert "script-src" not in policy
    assert page.all("script") == []
    assert [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)] == []
    loaded = [a.get("src") or a.get("href", "") for tag in ("img", "iframe", "link") for a in page.all(tag)]
    own = {sandbox.info.hostname, urlsplit(site["url"]).netloc, ""}
    assert {urlsplit(address).netloc for address in loaded} <= own
    assert SECRET not in answer.text
    assert "\u202e" not in answer.text


def test_a_name_with_markup_stays_text(client, site):
    assert "&lt;script&gt;" in read(client, site["overview"]).text
    assert "\\u202e" in read(client, site["project"]).text


def test_a_failed_deployment_is_not_framed_and_its_log_is_a_link_away(client, site):
    failed = client.deploy(site["project"].rpartition("/")[2], name="broken", command="Crash")
    page = Page(read(client, f"/deployments/detail/{failed['id']}/view").text)
    assert page.all("iframe") == []
    assert "failed: App failed to run" in page.text
    assert f"/deployments/detail/{failed['id']}" in {link["href"] for link in page.all("a")}
    assert "something is broken" in read(client, f"/deployments/detail/{failed['id']}").text
    client.call("DELETE", f"deployments/{failed['id']}")


# -- who sees what ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_page_of_somebody_else_is_not_found(colleague, site, kind):
    answer = colleague.call("GET", site[kind], headers=BROWSER)
    assert (answer.status_code, "Not found" in answer.text) == (404, True)


def test_the_overview_shows_what_is_shared_and_no_more(client, colleague, site):
    assert "served" not in read(colleague, "/").text
    path = f"deployments/{site['id']}/collaborators"
    client.call("PUT", path, json=[{"id": "everyone", "type": "group", "permission": "r"}])
    try:
        text = read(colleague, "/").text
        assert f'href="{site["view"]}"' in text
        assert "everyone (group)" in read(colleague, site["deployment"]).text
        assert site["project"] not in read(colleague, site["deployment"]).text
        assert "DATABASE_PASSWORD" not in text
        assert "collect" not in text
        assert colleague.call("GET", site["job"]).status_code == 404
    finally:
        client.call("PUT", path, json=[])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_page_leads_through_the_login_and_back(sandbox, client, site, kind):
    fresh = Client(sandbox.info)
    form = fresh.session.get(fresh.url(site[kind])).text
    action = form.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    arrived = fresh.session.post(
        action, data={"username": "dev-user", "password": password_of(sandbox.info, "dev-user")}
    )
    assert (arrived.status_code, urlsplit(arrived.url).path) == (200, site[kind])


@pytest.mark.parametrize("odd", ["%0d%0aX", "%00", "%0aSet-Cookie:%20a=b"])
def test_no_control_character_reaches_the_address_of_a_redirect(sandbox, odd):
    fresh = Client(sandbox.info)
    first = fresh.session.get(fresh.url("/projects/detail/") + odd, allow_redirects=False)
    assert first.status_code == 302
    form = fresh.session.get(first.headers["Location"]).text
    action = form.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
    given = {"username": "dev-user", "password": password_of(sandbox.info, "dev-user")}
    assert fresh.session.post(action, data=given, allow_redirects=False).status_code == 302


def test_signing_out_ends_on_a_page_without_a_form(sandbox):
    """ae5-tools follows the redirects of a logout, and would sign in again at a form."""
    client = Client(sandbox.info, "dev-user")
    answer = client.session.get(client.url("/logout"))
    assert (answer.status_code, urlsplit(answer.url).path) == (200, "/")
    assert "You are not signed in" in answer.text
    assert "<form" not in answer.text


def test_a_wrong_password_is_announced_and_the_name_is_kept(sandbox):
    page = Page(Client(sandbox.info).sign_in(HOSTILE, "wrong").text)
    name, password = page.all("input")
    assert next(a for _, a in page.tags if a.get("role") == "alert")["id"] == "error"
    assert name["aria-describedby"] == password["aria-describedby"] == "error"
    assert name["value"].startswith('<script>alert("1")')
    assert ("autofocus" in name, "autofocus" in password) == (False, True)


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status", "kind"),
    [
        ("/nothing", BROWSER, 501, "text/html"),
        ("/nothing", {}, 501, "application/json"),
        ("/?x=1", BROWSER, 400, "text/html"),
        ("/api/v2/nothing", BROWSER, 501, "application/json"),
        ("/api/v2/deployments/a2-00", BROWSER, 404, "application/json"),
        ("/platform/nothing", BROWSER, 501, "application/json"),
        ("/auth/admin/realms/AnacondaPlatform/users", BROWSER, 401, "application/json"),
    ],
)
def test_errors_are_pages_for_a_browser_only(client, path, headers, status, kind):
    answer = client.call("GET", path, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (status, kind)
    assert answer.reason in answer.text


def test_an_endpoint_s_errors_may_stand_in_the_frame_of_the_platform(sandbox, colleague, site):
    answer = colleague.session.get(site["url"], headers=BROWSER)
    assert (answer.status_code, answer.reason) == (403, "The deployment is not shared with you")
    assert "You may not open this" in answer.text
    assert f"frame-ancestors https://{sandbox.info.hostname};" in answer.headers["Content-Security-Policy"]
    plain = colleague.session.get(site["url"])
    assert plain.json() == {"message": "The deployment is not shared with you"}
    assert new_session(sandbox.info).get(site["url"], allow_redirects=False).status_code == 302


# -- colours ----------------------------------------------------------------------------------

STYLE = (Path(html.__file__).parent / "templates" / "style.css").read_text()
READ_ON = {
    "page": ("text", "soft", "link", "ok", "bad", "busy"),
    "raised": ("text", "soft", "link"),
    "notice": ("notice-text",),
    "link": ("page",),  # a button
}


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of `#rgb` or `#rrggbb`."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(scheme):
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", STYLE.split(":root")[1 if scheme == "light" else 2]))
    ratios = {}
    for background, texts in READ_ON.items():
        for text in texts:
            dark, light = sorted((luminance(colours[text]), luminance(colours[background])))
            ratios[f"{text} on {background}"] = (light + 0.05) / (dark + 0.05)
    assert {pair: round(ratio, 1) for pair, ratio in ratios.items() if ratio < 4.5} == {}
