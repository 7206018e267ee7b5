"""errors.py, redaction.py and clock.py as tables."""

from __future__ import annotations

import ast
import base64
import copy
import dataclasses
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from mlflow_ae5_deploy.common import errors, redaction
from mlflow_ae5_deploy.common.clock import Deadline, SystemClock, poll_until
from mlflow_ae5_deploy.common.errors import DeadlineExceeded, DeployError
from mlflow_ae5_deploy.common.redaction import MASK, Secret, register, scrub
from tests.manual_clock import ManualClock

# --- errors


def error_classes() -> dict[str, type[DeployError]]:
    return {c.__name__: c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, DeployError)}


def test_the_table_in_the_docstring_is_the_tree():
    """Name, parent and exit code of every class, as drawn."""
    drawn: dict[str, tuple[str | None, int | None]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"(?P<art>[ |`-]*)(?P<name>[A-Z][A-Za-z]+) {2,}(?P<code>\d+)? *(?P<text>\S.*)", line)
        if not found:
            continue
        depth = len(found["art"])
        while above and above[-1][0] >= depth:
            above.pop()
        parent = above[-1][1] if above else None
        drawn[found["name"]] = (parent, int(found["code"]) if found["code"] else None)
        above.append((depth, found["name"]))
    actual = {
        name: (None if c is DeployError else c.__base__.__name__, c.exit_code) for name, c in error_classes().items()
    }
    assert set(drawn) == set(actual)
    for name, (parent, code) in drawn.items():
        assert actual[name][0] == parent, name
        assert code is None or actual[name][1] == code, name


def test_exit_codes_that_are_no_errors_are_in_the_docstring():
    text = errors.__doc__ or ""
    for name in [name for name in vars(errors) if name.startswith("EXIT_")]:
        assert re.search(rf"\b{getattr(errors, name)}\b", text)
    special = {errors.EXIT_DONE, errors.EXIT_CHANGES_PENDING, errors.EXIT_NOT_INSTALLED, errors.EXIT_INTERRUPTED}
    assert special.isdisjoint(c.exit_code for c in error_classes().values())


@pytest.mark.parametrize("cls", error_classes().values(), ids=error_classes().keys())
def test_every_error_says_what_where_and_what_to_do(cls):
    more = {"stage": 3} if cls is errors.StageFailed else {}
    error = cls("It broke.", where="there", remedy="Fix it.", detail="log", **more)
    assert (error.what, error.where, error.remedy, error.detail) == ("It broke.", "there", "Fix it.", "log")
    assert str(error) == "It broke."
    assert error.kind == cls.__name__
    assert cls("It broke.", **more).remedy == cls.usual_remedy


# --- Secret

VALUE = "corr3ct-h0rse"


@pytest.fixture(autouse=True)
def _forget():
    """Each test begins with nothing registered, and leaves to others what they registered."""
    before, shown = set(redaction._registered), set(redaction._shown)
    redaction._registered.clear()
    redaction._shown.clear()
    yield
    redaction._registered.clear()
    redaction._shown.clear()
    redaction._registered.update(before)
    redaction._shown.update(shown)


@dataclasses.dataclass
class Holder:
    secret: Secret


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        lambda s: f"{s}",
        lambda s: f"{s!r:>20}",
        lambda s: f"{s:>20}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031 - this way of formatting is in the table on purpose
        lambda s: format(s),
        lambda s: str([s]) + str({"a": s}) + str((s,)),
        lambda s: repr(Holder(s)),
        lambda s: json.dumps(s, default=str),
        lambda s: str(dir(s)),
        lambda s: str(ValueError(s)),
    ],
)
def test_a_secret_shows_a_mask(show):
    assert VALUE not in show(Secret(VALUE))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda s: "a" + s,
        lambda s: s + "a",
        lambda s: "".join([s]),
        lambda s: json.dumps(s),
        lambda s: pickle.dumps(s),
        lambda s: copy.copy(s),
        lambda s: copy.deepcopy(s),
        lambda s: dataclasses.asdict(Holder(s)),
        lambda s: s.__getstate__(),
        lambda s: vars(s),
        lambda s: list(s),
        lambda s: len(s),
        lambda s: s[0],
        lambda s: s.encode(),
        lambda s: setattr(s, "_value", "x"),
    ],
)
def test_a_secret_used_as_a_text_fails_without_showing_it(misuse):
    with pytest.raises((TypeError, AttributeError)) as caught:
        misuse(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_a_secret_is_comparable_and_its_fingerprint_does_not_reveal_it():
    one, same, other = Secret(VALUE), Secret(VALUE), Secret("another")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != VALUE
    assert (bool(one), bool(Secret(""))) == (True, False)
    assert one.reveal() == VALUE
    assert one.fingerprint(b"salt") == same.fingerprint(b"salt")
    assert one.fingerprint(b"salt") != one.fingerprint(b"pepper")
    assert VALUE not in one.fingerprint(b"salt")


# --- scrub: registered values

NASTY = "p@ss/w:rd&<'\"é\\ 1%+=~"


@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda v: quote(v, safe=""),
        quote,
        quote_plus,
        lambda v: quote(v, safe="").lower(),
        lambda v: quote(v, safe=" +"),  # SQLAlchemy
        lambda v: quote(v, safe="!'()*~"),  # JavaScript's encodeURIComponent
        lambda v: json.dumps({"x": v}),
        lambda v: json.dumps({"x": v}, ensure_ascii=False),
        repr,
        lambda v: repr(v.encode()),
        lambda v: __import__("shlex").quote(v),
        lambda v: __import__("html").escape(v),
        lambda v: v.replace("&", "&amp;").replace("<", "&lt;"),
        lambda v: base64.b64encode(v.encode()).decode(),
        lambda v: base64.b64encode(v.encode()).decode().rstrip("="),
        lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
    ],
)
def test_registered_values_go_in_every_encoding(encode):
    register(NASTY)
    written = encode(NASTY)
    scrubbed = scrub(f"said <<{written}>> and no more")
    assert MASK in scrubbed
    assert "rd" not in scrubbed.replace("and", "")
    assert written not in scrubbed


def test_surrounding_whitespace_and_single_lines_are_registered_too():
    register("first-line-of-key\nsecond-line-of-key\nshort\n")
    assert scrub("it had second-line-of-key in it") == f"it had {MASK} in it"
    register("trailing-newline\n")
    assert scrub("x trailing-newline y") == f"x {MASK} y"


def test_overlapping_secrets_leave_nothing():
    register("abcdefgh")
    register("efghijkl")
    register("cdef")
    assert scrub("-abcdefghijkl-abcdefgh-efghijkl-") == f"-{MASK}-{MASK}-{MASK}-"


def test_short_values_do_not_blot_out_texts():
    for short in ("", "a", "abc"):
        register(short)
    assert scrub("abc a b c") == "abc a b c"


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("analytics", "********"),
        ("team-analytics runs as analytics", "team-analytics runs as ********"),
        ("cd /srv/t/analytics/state/removed && ls", "cd /srv/t/analytics/state/removed && ls"),
        ("/srv/t/analytics/state.old", "/srv/t/********/state.old"),
        ("team-analytics-2", "team-********-2"),
        ("see s3cret-in-team-analytics", "see ********"),
        ("password=team-analytics", "password=********"),
        ("postgresql://team-analytics:team-analytics@db/team-analytics", "postgresql://team-analytics:********@db/team-analytics"),
        ("team-analytics/state", "team-analytics/state"),
    ],
)  # fmt: skip
def test_a_secret_that_is_a_word_does_not_eat_names_and_paths(text, scrubbed):
    register("analytics")
    register("s3cret-in-team-analytics")
    redaction.exempt("/srv/t/analytics/state")
    redaction.exempt("team-analytics")
    assert scrub(text) == scrubbed
    assert scrub(scrubbed) == scrubbed


def test_no_character_of_a_text_becomes_a_name():
    """Stand-ins for names are characters of private use, which a text may have itself."""
    redaction.exempt("/srv/t/analytics/state")
    register("analytics")
    private = "".join(map(chr, range(0xF0000, 0xF0100)))
    assert scrub(f"{private} /srv/t/analytics/state analytics") == f"{private} /srv/t/analytics/state {MASK}"
    every = "".join(map(chr, range(0xF0000, 0x110000)))
    assert scrub(f"{every} /srv/t/analytics/state") == f"{every} {MASK}"


@pytest.mark.parametrize(
    ("shown", "secrets", "text", "scrubbed"),
    [
        (["/a/state", "state/removed"], ["removed"], "/a/state/removed", "/a/state/removed"),
        (["/a/state"], ["state/removed"], "/a/state/removed", MASK),
        (["team one"], ["one two"], "team one two", MASK),
        (["/a/token=1 2"], [], "cd /a/token=1 2/b", "cd /a/token=1 2/b"),
        (["team-x"], ["team-x"], "team-x=team-x;team-xy", f"team-x=team-x;{MASK}y"),
    ],
)
def test_a_secret_that_sticks_out_of_a_name(shown, secrets, text, scrubbed):
    for name in shown:
        redaction.exempt(name)
    for secret in secrets:
        register(secret)
    assert scrub(text) == scrubbed


# --- scrub: what looks like a credential

LEAKS = [
    "postgresql://user:hunter2@db/x",
    "Error performing GET http://127.0.0.1:9000/AKIAX:hunter2@bucket?list-type=2",
    "postgresql+psycopg2://:hunter2@db",
    "postgresql://svc@server:hunter2@server.example.com/db",
    "postgresql://user:1@hunter2@db/x",
    "postgresql://user:a/hunter2@db/x",
    "HTTPS://U:hunter2@HOST",
    "postgresql://[user:hunter2@h/db",
    "postgresql://user:hunter2@[::1]:5432/db",
    f"postgresql://user:{'a/b' * 200}hunter2@db/x",
    "postgresql://user:a://hunter2@db/x",
    "https://a:8443/x,postgresql://user:a/b@db/x,postgresql://user:hunter2@db/x",
    "https://user:a/b@conda.example.com/t/hunter2-abc",
    "https://store.example.com/1/2/3/4/5/6/7/8/9/10/11/12/AKIAX:hunter2@bucket?list-type=2",
    f"https://conda.example.com/{'a' * 300}/1/2/3/4/5/6/7/8/9/10/11/t/hunter2-abc/main",
    "Max retries exceeded with url: /v2/someone:hunter2@bucket/x",
    "connecting to 'mysql://u:hunter2@h/d' failed",
    '{"uri": "mysql://u:hunter2@h/d"}',
    "https://hunter2hunter2hunter2@github.com/x",
    "https://conda.example.com/t/hunter2-abc/main",
    "https://conda.example.com/t/hunter2-abc",
    "Max retries exceeded with url: /someone:hunter2@bucket/x",
    "https://conda.example.com:8080/repository/t/hunter2-abc/main/",
    "Authorization: Bearer hunter2abcdef",
    "{'Authorization': 'Bearer hunter2abcdef'}",
    '{"authorization": "Basic aHVudGVyMg=="}',
    "Authorization: Basic aHVudGVyMg==",
    "Authorization: Token hunter2",
    "authorization=hunter2",
    "curl -H 'Authorization: Bearer hunter2abcdef' https://x",
    "got bearer hunter2abcdef back",
    "Bearer%20hunter2abcdef",
    "PRIVATE-TOKEN: hunter2",
    "X-Api-Key: hunter2",
    "x-xsrftoken: hunter2",
    "_xsrf=hunter2; path=/",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2-sig_",
    "eyJhbGciOiJSU0EifQ.hunter2.hunter2.hunter2.hunter2",
    "ghp_hunter2hunter2hunter2",
    "password=hunter2",
    "password = hunter2",
    "password: hunter2",
    "password:\n  hunter2",
    "PGPASSWORD=hunter2 psql",
    "DB_PASSWORD='hunter2'",
    "MLFLOW_TRACKING_TOKEN: hunter2",
    "AWS_SECRET_ACCESS_KEY=hunter2",
    "client_secret=hunter2&grant_type=x",
    "grant_type=password&username=u&password=hunter2",
    "AccountKey=hunter2==;EndpointSuffix=x",
    "DRIVER=x;UID=u;PWD=hunter2;",
    "PWD={hun;ter;hunter2};x",
    "https://a.blob.core.windows.net/c?sv=1&sig=hunter2",
    "https://x/?token=hunter2#frag",
    "{'password': 'hunter2'}",
    "{'password': b'hunter2'}",
    "{b'password': b'hunter2'}",
    "{'password': ['hunter2']}",
    "{'password': ('x', 'y')} password=hunter2",
    '{"password": "hun\\"hunter2"}',
    '{"key": "X", "value": "hunter2"}',
    '{"password": "hunter2 and then it was truncated',
    '{"password": "hunter2\\\\", "a": "b"}',
    '"{\\"password\\": \\"hunter2\\"}"',
    "Secret(value='hunter2')",
    "login(user=u, password=hunter2)",
    "password=a,hunter2",
    "password=a)hunter2",
    "PASSWORD => hunter2",
    "password := hunter2",
    "mlflow --token hunter2 run",
    "psql --db-password hunter2",
    "<password>hunter2</password>",
    '<input name="password" value="hunter2"/>',
    "Cookie: a=1; session=hunter2",
    "Set-Cookie: AUTH=hunter2; Path=/",
    "{'Cookie': 'a=\"1\"; b=hunter2'}",
    'cookie: a="1"; b=hunter2',
    "<RequestsCookieJar[<Cookie AUTH_SESSION=hunter2 for x/>]>",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nhunter2 (truncated",
    # what stands beside the tool's own words
    "rotate-token: password=hunter2",
    "rotate-token: token: hunter2",
    "rotate-token: the answer was Bearer hunter2abcdef",
    "rotate-token=hunter2",
    "rotate-token:hunter2",
    "x-rotate-token: hunter2",
    '{"rotate-token": "hunter2"}',
    "value: hunter2",
    "Expecting value: hunter2",
    "Expecting value: line1hunter2 column 1 (char 0)",
    "value: 'line 1 column 1 (char 0) hunter2'",
    "token: prove-hunter2",
]


@pytest.mark.parametrize("text", LEAKS)
def test_what_looks_like_a_credential_goes(text):
    once = scrub(text)
    assert "hunter2" not in once
    assert "aHVudGVyMg" not in once
    assert MASK in once
    assert scrub(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "https://host.example.com:8443/path/@user?x=1",
        "https://localhost:8443",
        "postgresql://user@db:5432/x",
        "mail to user@example.com: see https://x/y",
        "sqlite:////data/a@b/x.db",
        "basic authentication is off; the bearer of bad news",
        "token: a token is on record",
        "token: none",
        "password: not given",
        '{"token": null, "secret": true, "password": ""}',
        "3 secrets: MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI",
        "tokens=5 token_count=7",
        "the secret MLFLOW_TRACKING_TOKEN is stored for 2 accounts",
        "2026-01-01T00:00:00 INFO keyboard layout: de",
        "HTTP 401: Invalid username or password.",
        "cookies: 3",
        "mlflow-ae5-deploy env --show-token   # what a client needs",
        "rotate-token: prove the token",
        "rotate-token: store for mlflow-service",
        "Expecting value: line 1 column 1 (char 0)",
        # paths and names that a person copies
        "export MLFLOW_TRACKING_SERVER_CERT_PATH=/srv/t/analytics/state/ca.pem",
        "/srv/t/analytics2026/venv/bin/mlflow-ae5-deploy install --config '/home/t/analyst-7/x y.yml'",
        '{"kept_archive": "/t/analytics/removed/20261129T160000Z-a0-0123456789abcdef.tar.gz"}',
        "sqlite:////mnt/t/analytics-2026/mlflow.db",
        "file:///t/analytics-2026/release.tar.gz",
        "s3://bucket/t/analytics-2026/backups",
        "https://files.example.com/t/analytics/release.tar.gz",
        "/srv/12:30@site/state/journal.jsonl",
        "https://[::1]:8443/o/user@example.com",
        "https://a.example.com:8443,https://b.example.com:8443/x",
        "https://a.example.com:8443/x,user@example.com",
        "s3://bucket/a/12:30@site",
        "file:///srv/12:30@site/a",
        "password: file:/srv/t/analytics/password",
        "admin.password=env:AE5_ADMIN_PASSWORD",
    ],
)
def test_ordinary_text_is_not_scrubbed(text):
    assert scrub(text) == text


# Examples of addresses with a password, and of a configuration file; and what is printed without the scrubber.
MASKED_IN_OUR_TEXTS = ("://", "#", "by reference: AWS_", "prove: add --show-token ")


def test_the_tool_does_not_mask_its_own_words():
    """Every constant text of the program, f-strings with a word in the place of what is filled in."""
    folder = Path(errors.__file__).parents[1]
    files = [f for f in sorted(folder.rglob("*.py")) if f.parts[-2] != "sandbox" and f.name != "redaction.py"]
    texts = [(file.name, text) for file in files if "sandbox" not in file.parts for text in texts_of(file)]
    assert len(texts) > 1000
    wrong = [(n, t) for n, t in texts if scrub(t) != t and not any(sign in t for sign in MASKED_IN_OUR_TEXTS)]
    assert wrong == []


def texts_of(file: Path) -> list[str]:
    tree = ast.parse(file.read_text())
    inner: set[int] = set()
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))  # a docstring
        elif isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node)}
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "prove" for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


@pytest.mark.parametrize(
    "document",
    [
        {"password": "hunter2", "token": None, "n": 5, "list": [{"value": "x"}]},
        {"uri": "postgresql://u:hunter2@h/d", "headers": {"Authorization": "Bearer abc.def-123456"}},
        {"text": 'password="hunter2", and \\ "quotes"', "cookie": 'a="b"; c'},
        {"nested": json.dumps({"password": "hunter2", "twice": json.dumps({"token": "hunter2"})})},
    ],
)
def test_a_scrubbed_json_document_is_still_json(document):
    scrubbed = scrub(json.dumps(document))
    assert "hunter2" not in scrubbed
    assert json.loads(scrubbed).keys() == document.keys()


def test_no_more_of_an_address_goes_than_must():
    assert scrub("see https://u:hunter2@host/p/@x now") == f"see https://u:{MASK}@host/p/@x now"


TRAPS = ["https://", "https://a/", "://a:b@", "://a:b/", "x://[", "http://a/t/", "url: /", "a@", "a", "ab.", "eyJ"]
TRAPS += ["password", "://", "a:/", "'", '"', "\\", "=", ")", "{"]
TRAPS += ["token=", 'password="', "password='x\n", '\\"', "-----BEGIN PRIVATE KEY-----", "<password>"]


@pytest.mark.parametrize("piece", TRAPS)
def test_long_texts_are_scrubbed_in_little_time(piece):
    """A pattern that backtracks would run here until the suite's time limit."""
    scrub(piece * (300_000 // len(piece)))


def test_tracebacks_are_scrubbed():
    register(VALUE)
    with pytest.raises(ValueError, match="cannot connect") as caught:
        int("cannot connect with " + VALUE)
    text = "".join(traceback.format_exception(caught.value))
    assert VALUE in text
    assert VALUE not in scrub(text)


# --- clock


def probe_after(times: int) -> Callable[[], str | None]:
    calls = iter([None] * times + ["found"])
    return lambda: next(calls)


@pytest.mark.parametrize(
    ("empty_answers", "naps"),
    [(0, []), (1, [0.2]), (4, [0.2, 0.3, 0.45, 0.675])],
)
def test_poll_until_waits_longer_and_longer(empty_answers, naps):
    clock = ManualClock()
    assert poll_until(probe_after(empty_answers), waiting_for="it", deadline=Deadline(clock, 60)) == "found"
    assert clock.naps == pytest.approx(naps)


def test_poll_until_has_a_longest_pause_and_reports_progress(caplog):
    clock = ManualClock()
    waits: list[str] = []
    with caplog.at_level(logging.INFO, logger="mlflow_ae5_deploy"):
        poll_until(probe_after(20), waiting_for="it", deadline=Deadline(clock, 600), longest=2, on_wait=waits.append)
    logged = [record.args for record in caplog.records]
    assert max(clock.naps) == 2
    assert waits == ["it"] * 20
    assert len(logged) == 20
    assert logged[0] == ("it", 0.0)
    assert logged[-1][1] == pytest.approx(clock.elapsed - clock.naps[-1])


def test_poll_until_ends_at_the_deadline_with_a_last_probe():
    clock = ManualClock()
    looks: list[float] = []
    with pytest.raises(DeadlineExceeded) as caught:
        poll_until(
            lambda: looks.append(clock.elapsed),
            waiting_for="the server",
            deadline=Deadline(clock, 7),
            remedy="Look at its log.",
        )
    assert clock.elapsed == pytest.approx(7)
    assert looks[-1] == pytest.approx(7)
    assert (caught.value.what, caught.value.remedy) == (
        "Timed out after 7 s waiting for the server.",
        "Look at its log.",
    )


@pytest.mark.parametrize("falsy", [0, "", False, [], ()])
def test_poll_until_takes_anything_but_none_for_an_answer(falsy):
    assert poll_until(lambda: falsy, waiting_for="it", deadline=Deadline(ManualClock(), 0)) == falsy


def test_poll_until_looks_once_even_when_time_is_up():
    assert poll_until(lambda: "there", waiting_for="it", deadline=Deadline(ManualClock(), 0)) == "there"


def test_deadline_counts_down_and_never_below_zero():
    clock = ManualClock()
    deadline = Deadline(clock, 5)
    assert (deadline.remaining(), deadline.expired()) == (5, False)
    clock.sleep(3)
    assert deadline.remaining() == 2
    clock.sleep(3)
    assert (deadline.remaining(), deadline.expired()) == (0, True)


def test_clocks_return_utc():
    clock = ManualClock()
    clock.sleep(90)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    system = SystemClock()
    assert system.now().tzinfo is UTC
    before = system.monotonic()
    system.sleep(-1)  # a pause of what remains of nothing
    assert system.monotonic() >= before


@pytest.mark.parametrize("text", ["url: /t/{}/main/noarch", "GET /t/{}/main HTTP/1.1", "conda.example.com/t/{}/main"])
@pytest.mark.parametrize("token", ["tk-1234567890ab", "aa-12345678-1234-abcd"])
def test_a_channel_token_is_masked_also_where_the_path_stands_alone(text, token):
    assert scrub(text.format(token)) == text.format(MASK)
