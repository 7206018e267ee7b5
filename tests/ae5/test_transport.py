"""What goes wrong on the wire: repeated, refused, redirected, lost, slow, and malformed."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.common.clock import SystemClock
from mlflow_ae5_deploy.common.errors import (
    AnswerLost,
    Conflict,
    DeadlineExceeded,
    Denied,
    NotFound,
    PlatformError,
    Refused,
    UnexpectedAnswer,
    Unreachable,
)
from tests.json_bombs import BOMBS

from .conftest import leaks
from .stub import FORM, Reply, answer, page, redirect, running

WRITES = ["POST", "PUT", "PATCH", "DELETE"]
BUSY = [502, 503, 504]


# repeating


@pytest.mark.parametrize("status", BUSY)
def test_a_get_is_repeated_while_the_platform_is_busy(session, stub, clock, status):
    stub.on("GET", "jobs", Reply(status), Reply(status), answer(["x"]))
    assert session.call("GET", "jobs") == ["x"]
    assert clock.naps == [0.5, 1.0]


def test_a_platform_that_stays_busy_is_unreachable(session, stub, clock):
    stub.on("GET", "jobs", Reply(503), always=True)
    with pytest.raises(Unreachable, match="503 Service Unavailable") as caught:
        session.call("GET", "jobs")
    assert caught.value.status == 503
    assert len(stub.sent("GET", "jobs")) == 4


def test_retry_after_is_respected_within_bounds(session, stub, clock):
    later = [Reply(503, headers=(("Retry-After", seconds),)) for seconds in ("2", "9" * 5_000, "\u00b2")]
    stub.on("GET", "jobs", *later, answer([]))
    session.call("GET", "jobs")
    assert clock.naps == [2.0, 10.0, 2.0]


@pytest.mark.parametrize("reply", [Reply(drop=True), Reply(cut_short=True, body=b"[1")], ids=["dropped", "cut short"])
def test_a_get_is_repeated_after_a_broken_answer(session, stub, reply):
    stub.on("GET", "jobs", reply, answer([1]))
    assert session.call("GET", "jobs") == [1]


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "reply",
    [*(Reply(status) for status in BUSY), Reply(drop=True), Reply(cut_short=True, body=b"{")],
    ids=["502", "503", "504", "dropped", "cut short"],
)
def test_a_write_is_sent_once_and_its_outcome_called_unknown(session, stub, method, reply):
    """ae5-tools and urllib3 would have sent it four times."""
    stub.on(method, "things", reply, always=True)
    with pytest.raises(AnswerLost) as caught:
        session.call(method, "things", json={"value": "hunter22"})
    assert len(stub.sent(method, "things")) == 1
    assert leaks(caught.value, "hunter22") == []


def test_a_lost_answer_knows_its_status(session, stub):
    stub.on("POST", "things", Reply(504))
    with pytest.raises(AnswerLost) as caught:
        session.call("POST", "things")
    assert caught.value.status == 504


# refusals


@pytest.mark.parametrize("method", ["GET", *WRITES])
def test_403_is_a_refusal_in_the_platforms_words(session, stub, method):
    """ae5-tools repeats it three times and ends in RetryError, without the words."""
    stub.on(method, "things", Reply(403, "You do not own this project"), always=True)
    with pytest.raises(Denied, match="You do not own this project"):
        session.call(method, "things")
    assert len(stub.sent(method, "things")) == 1


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(400, "Project name is not unique"), Conflict, "Project name is not unique"),
        (Reply(409, "Conflict"), Conflict, "409 Conflict"),
        (Reply(404, "Not Found"), NotFound, "404 Not Found"),
        (Reply(400, "Bad Request", b'{"message": "cron is odd"}'), Refused, "cron is odd"),
        (Reply(422, "", b'{"error": {"message": "no such profile"}}'), Refused, "no such profile"),
        (Reply(500, "Internal Server Error", b"<html>", "text/html"), Refused, "500 Internal Server Error"),
        (Reply(418, "Teapot", b"short and stout", "text/plain"), Refused, "short and stout"),
    ],
)
def test_refusals_keep_the_platforms_words(session, stub, reply, kind, words):
    stub.on("POST", "things", reply)
    with pytest.raises(kind, match=words) as caught:
        session.call("POST", "things")
    assert type(caught.value) is kind
    assert caught.value.status == reply.status
    assert "/api/v2/things" in caught.value.where


@pytest.mark.parametrize("status", [400, 403, 404, 409, 500, 503])
@pytest.mark.parametrize("value", ["postgresql://u:geheim@h/db", "ab"])
def test_a_secret_value_is_in_no_error(session, stub, status, value):
    """Neither quoted from our request, nor from an answer that echoes it."""

    def echo(call):
        return Reply(status, f"bad {value}", call.body, "text/plain")

    stub.on("POST", "credentials/user", echo)
    with pytest.raises(PlatformError) as caught:
        session.call("POST", "credentials/user", json={"key": "K", "value": value})
    shown = f"{caught.value.what} {caught.value.remedy} {caught.value.detail}"
    assert f"bad {value}" not in shown
    assert leaks(caught.value, f"'{value}'", f'"{value}"') == []


# redirects and pages


@pytest.mark.parametrize("method", ["GET", *WRITES])
def test_a_redirect_is_not_success(session, stub, method):
    """ae5-tools follows with GET and returns the page."""
    stub.on(method, "things", redirect("/somewhere"), always=True)
    stub.on("GET", "/somewhere", answer({"looks": "fine"}))
    with pytest.raises(UnexpectedAnswer, match="redirects an API call"):
        session.call(method, "things")
    assert not stub.sent("GET", "/somewhere")


@pytest.mark.parametrize("method", ["GET", *WRITES])
@pytest.mark.parametrize("expect", ["json", "bytes", "text"])
def test_a_page_is_not_a_result(session, stub, method, expect):
    stub.on(method, "things", page("<html>Maintenance</html>"))
    with pytest.raises(UnexpectedAnswer):
        session.call(method, "things", expect=expect)


def test_a_login_page_of_another_form_is_recognised(session, stub):
    stub.on("GET", "things", page("<form class='x' id='kc-form-login' action='/a'>"), answer(1))
    assert session.call("GET", "things") == 1


@pytest.mark.parametrize(
    ("reply", "expect", "result"),
    [
        (Reply(200, body=b"", kind=None), "json", None),
        (Reply(204, kind=None), "json", None),
        (Reply(200, body=b"", kind="text/html"), "json", None),
        (Reply(200, body=b"", kind="text/html"), "text", ""),
        (Reply(200, body=b"\x1f\x8b", kind="application/gzip"), "bytes", b"\x1f\x8b"),
        (Reply(200, body=b"done", kind="text/plain"), "text", "done"),
    ],
)
def test_empty_and_untyped_answers(session, stub, reply, expect, result):
    """ae5-tools fails with KeyError on an answer without Content-Type."""
    stub.on("DELETE", "things", reply)
    assert session.call("DELETE", "things", expect=expect) == result


NOT_JSON = [Reply(body=b"{oops"), Reply(body=b"\xff\xfe"), Reply(body=b"hi", kind="text/plain")]


@pytest.mark.parametrize("reply", NOT_JSON + [Reply(body=body) for body in BOMBS.values()], ids=lambda r: r.body[:30])
def test_an_answer_that_is_not_json_is_unexpected(session, stub, reply):
    stub.on("GET", "things", reply)
    with pytest.raises(UnexpectedAnswer) as caught:
        session.call("GET", "things")
    assert caught.value.__context__ is None


# time


@pytest.mark.parametrize(("method", "kind"), [("GET", DeadlineExceeded), ("POST", AnswerLost)])
def test_a_silent_platform_ends_the_call_at_the_timeout(opener, stub, method, kind):
    stub.on(method, "things", Reply(delay=60))
    with pytest.raises(kind):
        opener.user(read_timeout=0.2).call(method, "things")
    assert len(stub.sent(method, "things")) == 1


def test_a_call_may_set_its_own_patience(opener, stub):
    stub.on("GET", "things", Reply(delay=60))
    with pytest.raises(DeadlineExceeded):
        opener.user().call("GET", "things", timeout=0.2)


@pytest.mark.parametrize(("method", "kind"), [("GET", DeadlineExceeded), ("POST", AnswerLost)])
def test_an_answer_that_trickles_for_ever_ends(opener, stub, method, kind):
    session = opener.user(clock=SystemClock(), read_timeout=0.3, upload_timeout=0.3)
    stub.on(method, "things", Reply(trickle=True))
    with pytest.raises(kind):
        session.call(method, "things")


# uploads and odd paths


def test_an_upload_states_only_the_given_file_name_and_is_complete_when_repeated(session, stub, tmp_path):
    archive = tmp_path / "project.tar.gz"
    archive.write_bytes(b"\x1f\x8b-content")
    stub.on("POST", "projects/upload", Reply(401), answer({}))
    with archive.open("rb") as file:
        session.call("POST", "projects/upload", data={"name": "n"}, files={"project_file": ("project.tar.gz", file)})
    first, second = stub.sent("POST", "projects/upload")
    assert str(tmp_path).encode() not in first.body
    assert b'filename="project.tar.gz"' in second.body
    assert b"\x1f\x8b-content" in second.body
    assert second.body.index(b'name="name"') < second.body.index(b'name="project_file"')


@pytest.mark.parametrize("path", ["https://elsewhere.example/x", "//elsewhere.example/x"])
def test_a_call_cannot_leave_the_platform(session, stub, path):
    before = len(stub.calls)
    with pytest.raises(ValueError, match="path"):
        session.call("GET", path)
    assert len(stub.calls) == before


# browsing an endpoint


def test_browsing_follows_the_login_round_and_keeps_the_xsrf_token_home(session, stub, certificate):
    with running(certificate) as endpoint:
        stub.on("GET", "/auth/go", redirect(f"{endpoint.origin}/login/callback?code=c"))
        endpoint.on(
            "GET", "/health", redirect(f"{stub.origin}/auth/go?client=a2"), Reply(body=b"OK", kind="text/plain")
        )
        endpoint.on(
            "GET", "/login/callback", Reply(302, headers=(("Location", "/health"), ("Set-Cookie", "_xsrf=bad; Path=/")))
        )
        seen = session.browse(f"{endpoint.origin}/health?x=1")
        assert (seen.status, seen.text, seen.url) == (200, "OK", f"{endpoint.origin}/health")
        assert all("x-xsrftoken" not in call.headers for call in endpoint.calls)
    session.call("GET", "projects")
    assert stub.sent("GET", "projects")[-1].headers["x-xsrftoken"] == "x1"


def test_browsing_reports_what_it_sees(session, stub, certificate):
    with running(certificate) as endpoint:
        endpoint.on("GET", "/big", Reply(503, body=b"x" * 100_000, kind="text/plain"))
        endpoint.on("GET", "/away", redirect("https://elsewhere.example/"))
        big = session.browse(f"{endpoint.origin}/big")
        assert (big.status, len(big.text), big.content_type) == (503, 64 * 1024, "text/plain")
        assert session.browse(f"{endpoint.origin}/away").status == 302
        assert len(endpoint.calls) == 2


def test_browsing_renews_a_lost_session(session, stub, certificate):
    with running(certificate) as endpoint:
        endpoint.on("GET", "/x", page(FORM.format(origin=stub.origin)), Reply(body=b"in", kind="text/plain"))
        assert session.browse(f"{endpoint.origin}/x").text == "in"


@pytest.mark.parametrize("reply", [Reply(drop=True), Reply(delay=60), Reply(302, headers=(("Location", "/x"),))])
def test_browsing_raises_nothing_but_unreachable(session, certificate, reply):
    with running(certificate) as endpoint:
        endpoint.on("GET", "/x", reply, always=True)
        with pytest.raises(Unreachable):
            session.browse(f"{endpoint.origin}/x", timeout=0.3)


@pytest.mark.parametrize("url", ["http://localhost/", "ftp://x", "nonsense", "https://"])
def test_browsing_wants_an_https_address(session, url):
    with pytest.raises(Unreachable):
        session.browse(url)
