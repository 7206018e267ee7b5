"""`mlflow_ae5_deploy.client`: which requests get the token, which are repeated, and how secret files are read.

With real clients of four MLflow versions through restarts: tests/e2e/test_client.py.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mlflow_ae5_deploy.client import FollowedToken, NoToken
from tests.project_template.stub_server import Answer, answering

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "old-token.of.the-deployment", "new-token.of.the-deployment"
LOGIN = {"Location": "https://ae5.example.com/auth/realms/AnacondaPlatform/protocol/openid-connect/auth"}
JSON = {"Content-Type": "application/json"}
API = "/api/2.0/mlflow/runs/log-metric"


class Platform:
    """A private endpoint that accepts one token, and what it has received."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accepted = OLD
        self.rejection: Answer = (401, {}, b"Unauthorized")
        self.own: Answer = (200, JSON, b"{}")
        self.executed: list[tuple[str, bytes]] = []
        self.seen: list[str] = []  # tokens
        self.url = ""
        self.elapsed = 0.0
        self.on_sleep: list[Callable[[], None]] = []  # what happens during each pause, in order

    def answer(self, request: BaseHTTPRequestHandler) -> Answer:
        token = request.headers.get("Authorization", "none").partition(" ")[2]
        self.seen.append(token)
        if token != self.accepted:
            return self.rejection
        if request.path == "/version":
            return 200, {}, b"3.17.2"
        self.executed.append((request.path, getattr(request, "body", b"")))
        return self.own

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def rotate(self, content: str | bytes = NEW) -> None:
        self.accepted = NEW
        self.write("MLFLOW_TRACKING_TOKEN", content)

    def sleep(self, seconds: float) -> None:
        self.elapsed += seconds
        if self.on_sleep:
            self.on_sleep.pop(0)()

    def auth(self, **environment: str) -> FollowedToken:
        given = {"MLFLOW_AE5_SECRETS_DIR": str(self.folder), "MLFLOW_TRACKING_URI": self.url, **environment}
        return FollowedToken(given, self.sleep, lambda: self.elapsed)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    with answering(made.answer) as made.url:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            made.write(name, made.url)
        made.write("MLFLOW_TRACKING_TOKEN", OLD)
        yield made


class Unseekable(io.BytesIO):
    def tell(self):
        raise OSError


REJECTIONS = {
    "401": (401, {}, b"Unauthorized"),
    "redirect to the login": (302, LOGIN, b""),
    "303": (303, LOGIN, b""),
    "the login page itself": (200, {"Content-Type": "text/html"}, b'<form id="kc-form-login" action="x">'),
    "403 of the proxy": (403, {}, b"<html>Forbidden</html>"),
    "no deployment at the endpoint": (404, {}, b"<html>default backend - 404</html>"),
}


class TestRejected:
    @pytest.mark.parametrize("rejection", REJECTIONS.values(), ids=REJECTIONS)
    def test_it_waits_for_the_new_token_and_repeats_the_post_once(self, platform, rejection, caplog):
        platform.accepted, platform.rejection = NEW, rejection
        platform.on_sleep = [lambda: None, lambda: None, platform.rotate]

        done = requests.post(platform.url + API, json={"key": "loss"}, auth=platform.auth(), timeout=10)

        assert done.status_code == 200
        assert platform.executed == [(API, b'{"key": "loss"}')]
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
        assert str(platform.folder / "MLFLOW_TRACKING_TOKEN") in caplog.text
        assert OLD not in caplog.text
        assert NEW not in caplog.text

    def test_a_streamed_page_is_an_artifact(self, platform):
        platform.own = REJECTIONS["the login page itself"]

        done = requests.get(platform.url + API, auth=platform.auth(), stream=True, timeout=10)

        assert (done.content, platform.elapsed) == (platform.own[2], 0)

    def test_where_the_file_is_current_already_nothing_is_logged(self, platform, caplog):
        auth = platform.auth()
        prepared = requests.Request("GET", platform.url + API, auth=auth).prepare()
        platform.rotate()

        done = requests.Session().send(prepared)

        assert done.status_code == 200
        assert platform.elapsed == 0
        assert caplog.records == []

    def test_the_wait_is_a_setting_and_ends_with_what_to_do(self, platform):
        platform.accepted = NEW

        with pytest.raises(NoToken, match="rotate the token") as failed:
            requests.get(platform.url + API, auth=platform.auth(MLFLOW_AE5_TOKEN_WAIT="42"), timeout=10)

        assert platform.elapsed == 42
        assert "(its answer was 401). Waited 42 s" in str(failed.value)
        assert OLD not in str(failed.value)

    @pytest.mark.parametrize(
        ("wait", "expected"), [("soon", 600), ("", 600), ("-1", 600), ("nan", 600), ("0", 0), ("1.5", 1.5)]
    )
    def test_a_wait_that_is_none_is_the_default(self, platform, wait, expected):
        platform.accepted = NEW

        with pytest.raises(NoToken):
            requests.get(platform.url + API, auth=platform.auth(MLFLOW_AE5_TOKEN_WAIT=wait), timeout=10)

        assert platform.elapsed == expected

    def test_a_file_is_rewound(self, platform, tmp_path):
        artifact = tmp_path / "artifact"
        artifact.write_bytes(b"0123456789")
        platform.accepted = NEW
        platform.on_sleep = [platform.rotate]

        with artifact.open("rb") as file:
            file.seek(4)
            done = requests.put(platform.url + API, data=file, auth=platform.auth(), timeout=10)

        assert done.status_code == 200
        assert platform.executed == [(API, b"456789")]

    def test_a_stream_is_not_sent_again(self, platform):
        platform.accepted = NEW
        platform.on_sleep = [platform.rotate]

        done = requests.put(platform.url + API, data=Unseekable(b"x"), auth=platform.auth(), timeout=10)

        assert done.status_code == 401
        assert platform.executed == []

    @pytest.mark.parametrize(
        ("own", "sent"),
        [
            ((404, JSON, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}'), 1),
            ((404, JSON, b'{"detail": "Not Found"}'), 1),
            ((404, {}, b"<!doctype html><title>404 Not Found</title>"), 2),  # the proxy's may look like it
            ((403, {}, b"Invalid Host header - possible DNS rebinding attack detected"), 2),
            ((403, JSON, b'{"error_code": "PERMISSION_DENIED"}'), 1),
            ((400, JSON, b'{"error_code": "INVALID_PARAMETER_VALUE"}'), 1),
            ((500, {}, b"Internal Server Error"), 1),
        ],
    )
    def test_answers_of_mlflow_are_returned_at_once(self, platform, own, sent):
        platform.own = own

        done = requests.get(platform.url + API, auth=platform.auth(), timeout=10)

        assert (done.status_code, done.content, platform.elapsed) == (own[0], own[2], 0)
        assert len(platform.executed) == sent


# What the platform answers to each request, in order, while a deployment goes away or comes up.
CALL, PROBE = API, "/version"
OPEN: Answer = (200, {}, b"3.17.2")
DONE: Answer = (200, JSON, b'{"done": true}')
REJECTED: Answer = (401, {}, b"Unauthorized")
ABSENT: Answer = (404, {}, b"<html>default backend - 404</html>")
ABSENT_JSON: Answer = (404, JSON, b'{"message": "Not Found"}')
FORBIDDEN: Answer = (403, {}, b"<html>Forbidden</html>")
BAD_GATEWAY: Answer = (502, {}, b"Bad Gateway")
MISSING: Answer = (404, JSON, b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
RESET: Answer = (0, {}, b"")  # the connection

Script = list[tuple[str, Answer]]
GOES_AWAY: Script = [(CALL, REJECTED), (PROBE, OPEN)]  # after the probe
UP: Script = [(PROBE, OPEN), (CALL, DONE)]

SCRIPTS: dict[str, tuple[Script, Answer, int]] = {  # ..., what is returned, pauses
    "away before the repeat": (
        [*GOES_AWAY, (CALL, ABSENT), (PROBE, ABSENT), (PROBE, BAD_GATEWAY), (PROBE, REJECTED), *UP], DONE, 3),
    "away before the repeat, as JSON": (
        [*GOES_AWAY, (CALL, ABSENT_JSON), (PROBE, ABSENT_JSON), *UP], DONE, 1),
    "away before the repeat, forbidden": (
        [*GOES_AWAY, (CALL, FORBIDDEN), (PROBE, FORBIDDEN), *UP], DONE, 1),
    "away before the repeat, then its connections are reset": (
        [*GOES_AWAY, (CALL, ABSENT), (PROBE, RESET), (PROBE, RESET), *UP], DONE, 2),
    "away before the repeat, rejected then": (
        [*GOES_AWAY, (CALL, REJECTED), (PROBE, ABSENT), *UP], DONE, 2),
    "away before each of two repeats": (
        [*GOES_AWAY, (CALL, ABSENT), (PROBE, ABSENT), (PROBE, OPEN), (CALL, ABSENT), (PROBE, REJECTED), *UP],
        DONE, 2),
    "up before the probe": ([(CALL, ABSENT), *UP], DONE, 0),
    "up before the probe, as JSON": ([(CALL, ABSENT_JSON), *UP], DONE, 0),
    "up before the probe, forbidden": ([(CALL, FORBIDDEN), *UP], DONE, 0),
    "up before the probe, away again": (
        [(CALL, ABSENT), (PROBE, OPEN), (CALL, ABSENT), (PROBE, ABSENT), *UP], DONE, 1),
    "up before the probe, MLflow knows no such run": (
        [(CALL, ABSENT), (PROBE, OPEN), (CALL, MISSING)], MISSING, 0),
    "up after the probe": ([(CALL, ABSENT), (PROBE, ABSENT), *UP], DONE, 1),
    "MLflow's own after a rejection": (
        [*GOES_AWAY, (CALL, ABSENT), (PROBE, OPEN)], ABSENT, 0),
    "MLflow's own": ([(CALL, ABSENT), (PROBE, OPEN), (CALL, ABSENT), (PROBE, OPEN)], ABSENT, 0),
    "the repeat gets a 502: left to the retries of MLflow": ([*GOES_AWAY, (CALL, BAD_GATEWAY)], BAD_GATEWAY, 0),
}  # fmt: skip


class TestRestarts:
    @pytest.fixture
    def scripted(self, platform: Platform) -> Iterator[tuple[Platform, Script, list[bytes]]]:
        """The platform, its script, and the bodies that it gets. A request that is not the next one: 599."""
        script: Script = []
        bodies: list[bytes] = []

        def answer(request: BaseHTTPRequestHandler) -> Answer:
            if not script or script[0][0] != request.path:
                return 599, {}, request.path.encode()
            path, given = script.pop(0)
            if path == CALL:
                bodies.append(getattr(request, "body", b""))
            if given == RESET:
                request.connection.shutdown(socket.SHUT_RDWR)
                request.wfile = io.BytesIO()
            return given

        with answering(answer) as platform.url:
            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
                platform.write(name, platform.url)
            yield platform, script, bodies

    @pytest.mark.parametrize(("steps", "expected", "pauses"), SCRIPTS.values(), ids=SCRIPTS)
    def test_a_call_waits_for_the_server_and_is_executed_once(self, scripted, tmp_path, steps, expected, pauses):
        platform, script, bodies = scripted
        script += steps
        slept: list[float] = []
        auth = FollowedToken({"MLFLOW_AE5_SECRETS_DIR": str(tmp_path)}, slept.append, lambda: 0.0)
        artifact = tmp_path / "artifact"
        artifact.write_bytes(b"0123456789")

        with artifact.open("rb") as file:
            file.seek(4)
            done = requests.post(platform.url + API, data=file, auth=auth, timeout=10)

        assert ((done.status_code, done.content), script) == ((expected[0], expected[2]), [])
        assert len(slept) == pauses
        assert set(bodies) == {b"456789"}
        assert [earlier.status_code for earlier in done.history] == [steps[0][1][0]]

    def test_a_connection_lost_during_the_repeat_is_an_error(self, scripted, tmp_path):
        """The request may have been executed: only MLflow's own retries may repeat it."""
        platform, script, bodies = scripted
        script += [*GOES_AWAY, (CALL, RESET), *UP]

        with pytest.raises(requests.exceptions.ConnectionError):
            requests.post(platform.url + API, data=b"x", auth=platform.auth(), timeout=10)

        assert (script, len(bodies), platform.elapsed) == (UP, 2, 0)

    def test_the_retries_of_the_session_hold_for_the_repeat(self, scripted):
        platform, script, bodies = scripted
        script += [*GOES_AWAY, (CALL, BAD_GATEWAY), (CALL, RESET), (CALL, DONE)]
        retries = Retry(total=2, status_forcelist=[502], allowed_methods=None, backoff_factor=0)

        with requests.Session() as session:
            session.mount(platform.url, HTTPAdapter(max_retries=retries))
            done = session.post(platform.url + API, data=b"x", auth=platform.auth(), timeout=10)

        assert (done.content, script, bodies) == (DONE[2], [], [b"x"] * 4)

    def test_a_spent_stream_gets_the_answer_of_the_proxy(self, scripted):
        platform, script, bodies = scripted
        script += [(CALL, ABSENT)]

        done = requests.post(platform.url + API, data=Unseekable(b"x"), auth=platform.auth(), timeout=10)

        assert (done.status_code, script, len(bodies)) == (404, [], 1)


class TestSecretFiles:
    HALVES: dict[str, bytes] = {  # noqa: RUF012
        "empty": b"",
        "whitespace": b" \n\t",
        "two lines": b"first\nsecond",
        "zero bytes": NEW.encode()[:8] + b"\0" * 12,
        "no text": b"\xff\xfe\x80",
    }

    @pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
    def test_a_half_written_token_is_read_again_and_not_sent(self, platform, half):
        auth = platform.auth()
        platform.rotate(half)
        platform.on_sleep = [lambda: None, platform.rotate]

        done = requests.post(platform.url + API, json={}, auth=auth, timeout=10)

        assert done.status_code == 200
        assert len(platform.executed) == 1
        assert set(platform.seen) == {NEW}

    def test_a_truncated_token_is_read_again_once_it_is_rejected(self, platform):
        auth = platform.auth()
        platform.rotate(NEW[:10])
        platform.on_sleep = [lambda: None, platform.rotate]

        done = requests.post(platform.url + API, json={}, auth=auth, timeout=10)

        assert done.status_code == 200
        assert len(platform.executed) == 1
        assert set(platform.seen) == {NEW[:10], NEW}

    def test_a_file_that_is_missing_for_a_moment_is_waited_for(self, platform):
        auth = platform.auth()
        requests.get(platform.url + API, auth=auth, timeout=10)
        (platform.folder / "MLFLOW_TRACKING_TOKEN").unlink()
        platform.on_sleep = [platform.rotate]

        assert requests.get(platform.url + API, auth=auth, timeout=10).status_code == 200

    def test_one_that_was_never_there_is_an_error_at_once(self, platform):
        (platform.folder / "MLFLOW_TRACKING_TOKEN").unlink()

        with pytest.raises(NoToken, match=r"no file .*restart the session"):
            requests.get(platform.url + API, auth=platform.auth(), timeout=10)

        assert platform.elapsed == 0

    def test_line_breaks_at_the_end_are_ignored(self, platform):
        platform.write("MLFLOW_TRACKING_TOKEN", f"{OLD}\n")

        assert requests.get(platform.url + API, auth=platform.auth(), timeout=10).status_code == 200

    def test_a_new_address_is_followed_once_both_files_have_it(self, platform, tmp_path):
        auth = platform.auth()
        requests.get(platform.url + API, auth=auth, timeout=10)
        (tmp_path / "moved").mkdir()
        moved = Platform(tmp_path / "moved")
        with answering(moved.answer) as moved.url:
            platform.write("MLFLOW_TRACKING_URI", moved.url[:-1])
            requests.get(platform.url + API, auth=auth, timeout=10)
            assert (len(platform.executed), moved.seen) == (2, [])

            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
                platform.write(name, moved.url)
            requests.get(platform.url + API, auth=auth, timeout=10)
            assert (len(platform.executed), moved.executed) == (2, [(API, b"")])

    @pytest.mark.parametrize("half", [b"", b" ", b"https://mlflow.ae5.exa"])
    def test_a_half_written_address_is_read_again(self, platform, half):
        platform.write("MLFLOW_TRACKING_URI", half)
        platform.on_sleep = [lambda: None, lambda: platform.write("MLFLOW_TRACKING_URI", platform.url)]

        assert requests.get(platform.url + API, auth=platform.auth(), timeout=10).status_code == 200
        assert platform.on_sleep == []

    def test_no_other_host_gets_the_token(self, platform, tmp_path, caplog):
        other = Platform(tmp_path)
        with answering(other.answer) as other.url:
            requests.get(other.url, auth=platform.auth(), timeout=10)

        assert other.seen == [""]
        assert "No token is sent to" in caplog.text


class TestElsewhere:
    def test_a_file(self, platform, tmp_path):
        (tmp_path / "mine").write_text(OLD)
        (platform.folder / "MLFLOW_TRACKING_TOKEN").unlink()

        auth = platform.auth(MLFLOW_AE5_TOKEN_FILE=str(tmp_path / "mine"))

        assert requests.get(platform.url + API, auth=auth, timeout=10).status_code == 200

    def test_a_command_runs_once_until_its_token_is_rejected(self, platform, tmp_path):
        file = tmp_path / "with space;false"
        file.write_text(OLD)
        auth = platform.auth(MLFLOW_AE5_TOKEN_COMMAND=printing(file))

        for _ in range(3):
            assert requests.get(platform.url + API, auth=auth, timeout=10).status_code == 200
        platform.accepted = NEW
        platform.on_sleep = [lambda: file.write_text(NEW)]

        assert requests.post(platform.url + API, auth=auth, timeout=10).status_code == 200
        assert Path(f"{file}.runs").read_text() == "x" * 3  # once, then after the rejection, then after the pause

    @pytest.mark.parametrize("command", ["/nonexistent/program", "false", "'unbalanced", "echo two words", ""])
    def test_a_command_that_prints_no_token_is_an_error_at_once(self, platform, command, caplog):
        (platform.folder / "MLFLOW_TRACKING_TOKEN").unlink()

        with pytest.raises(NoToken):
            requests.get(platform.url + API, auth=platform.auth(MLFLOW_AE5_TOKEN_COMMAND=command), timeout=10)

        assert platform.elapsed == 0

    def test_what_a_command_prints_is_not_logged(self, platform, tmp_path, caplog):
        caplog.set_level(logging.DEBUG)
        command = f"{sys.executable} -c \"import sys; sys.exit('hunter2-secret')\""

        with pytest.raises(NoToken) as failed:
            requests.get(platform.url + API, auth=platform.auth(MLFLOW_AE5_TOKEN_COMMAND=command), timeout=10)

        assert "hunter2" not in caplog.text + str(failed.value)


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({}, "", "No URL of the MLflow server: there is no MLFLOW_TRACKING_URI in /nonexistent"),
        ({}, "'https://mlflow.example.com'", "No token of the MLflow server: there is no file /nonexistent"),
        ({"MLFLOW_TRACKING_URI": "https://mlflow.example.com"}, "token_file='/gone'", "there is no file /gone"),
        ({}, "'https://mlflow.example.com', token_command='false'", "the command in MLFLOW_AE5_TOKEN_COMMAND"),
    ],
)
def test_connect_names_what_is_missing(environment, arguments, message):
    script = f"from mlflow_ae5_deploy.client import connect; connect({arguments})"
    given = {"PATH": os.environ["PATH"], "MLFLOW_AE5_SECRETS_DIR": "/nonexistent", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", script], env=given | environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def printing(file: Path) -> str:
    script = "import sys; p = sys.argv[1]; open(p + '.runs', 'a').write('x'); print(open(p).read())"
    return f'{sys.executable} -ISc "{script}" "{file}"'


def test_it_loads_nothing_heavy_and_nothing_of_the_tool():
    heavy = ("mlflow", "typer", "rich", "pydantic", "yaml", "ae5_tools", "mlflow_ae5_deploy.common")
    script = f"import sys, mlflow_ae5_deploy.client; print([m for m in {heavy!r} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
