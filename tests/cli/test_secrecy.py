"""No secret is found in anything the tool prints, keeps, uploads or shows in the process list."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from mlflow_ae5_deploy.sandbox import lifecycle
from tests.cli.bench import ACCOUNT, Bench, Outcome
from tests.sandbox.support import PROJECT_FILE, credentials, make_project_archive

# Prints every mounted secret and its environment, then dies: what a careless server does.
CARELESS = PROJECT_FILE.replace(
    "unix: exec python -IS app.py",
    'unix: \'grep -r . "$MLFLOW_AE5_SECRETS_DIR" >&2; cat "$MLFLOW_AE5_SECRETS_DIR"/*; echo; exit 7 #\'',
)


def forms(value: str) -> set[bytes]:
    """How a value may look where it does not belong."""
    texts = {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
    return {text.encode() for text in texts} | {base64.b64encode(value.encode())}


class Secrets:
    """The values that must not be seen, by what they are. Tokens are added as they are issued."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        logins = credentials(bench.info)
        self.values = {
            "administrator's password": logins["admin"]["password"],
            "account's password": logins["reserved"][ACCOUNT],
            "consumer's password": logins["users"]["dev-user"],
        }
        self.learn()

    def learn(self) -> None:
        """What the platform has in store by now."""
        folder = self.bench.folder / "state" / "sandbox"
        if uri := lifecycle.database_uri(folder):
            self.values |= {"database URI": uri, "database password": urlsplit(uri).password or ""}
        for name in ("MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"):
            for file in (folder / "secrets").rglob(name):
                self.values[name] = file.read_text().strip()
        for file in (folder / "secrets").rglob("MLFLOW_TRACKING_TOKEN"):
            token = file.read_text().strip()
            if token not in self.values.values():  # an earlier one stays planted
                self.values["token" if "token" not in self.values else f"token {len(self.values)}"] = token

    def found_in(self, content: bytes) -> list[str]:
        self.learn()
        assert all(len(value) >= 8 for value in self.values.values())
        return [what for what, value in self.values.items() if any(form in content for form in forms(value))]

    def assert_not_in(self, outcome: Outcome) -> None:
        assert self.found_in(outcome.out.encode()) == []
        assert self.found_in(outcome.err.encode()) == []


class ProcessList:
    """Every command line that there was on this machine while it looked."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.005):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    with contextlib.suppress(OSError):
                        self.seen.add((folder / "cmdline").read_bytes())


@pytest.fixture(scope="module")
def config(module_bench: Bench) -> str:
    return str(module_bench.configure("consumers: [{username: dev-user, password: 'env:PLANTED'}]\n"))


@pytest.fixture
def secrets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    monkeypatch.setenv("PLANTED", credentials(bench.info)["users"]["dev-user"])
    return Secrets(bench)


@pytest.fixture
def install(bench: Bench, config: str) -> tuple[str, ...]:
    return ("install", "--sandbox", "--config", config, "--release", str(bench.release))


@pytest.fixture
def installed(bench: Bench, secrets: Secrets, capsys: pytest.CaptureFixture[str], install: tuple[str, ...]) -> None:
    """On a database with a password, whatever other tests have left behind."""
    assert bench.run(capsys, *install, "--database", "postgresql", "--replace", "--yes").code == 0


@contextlib.contextmanager
def echoing(bench: Bench, secrets: Secrets, fault: dict[str, Any]) -> Iterator[None]:
    """The platform refuses, and repeats every secret in its answer."""
    echo = json.dumps({"error": {"message": f"refused: {json.dumps(secrets.values)}"}, "json": secrets.values})
    with bench.fault(**fault, times=None, body=echo, headers={"Content-Type": "application/json"}):
        yield


@pytest.fixture
def wrong_password(bench: Bench, secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration with a wrong password of a consumer."""
    monkeypatch.setenv("CONSUMER_PASSWORD", "planted-consumer-password")
    secrets.values["wrong password"] = "planted-consumer-password"
    return str(bench.configure("consumers: [{username: dev-user, password: 'env:CONSUMER_PASSWORD'}]\n"))


def kept(bench: Bench) -> Iterator[tuple[Path, bytes]]:
    """Every byte the tool keeps but the key file, archives unpacked. The sandbox's own folder is the platform's."""
    for path in (bench.folder / "state").rglob("*"):
        if path == bench.state_folder / "keys":
            continue  # which is what that file is for
        if path.is_file() and "sandbox" not in path.relative_to(bench.folder / "state").parts:
            yield path, path.read_bytes()
            if path.name.endswith(".tar.gz"):
                yield path, gzip.decompress(path.read_bytes())


class TestSuccess:
    def test_an_install_on_a_database_with_a_password(self, bench, secrets, install):
        environment = bench.environment(PLANTED=os.environ["PLANTED"])
        with ProcessList() as processes:
            done = bench.process(*install, "--database", "postgresql", "-vv", environment=environment)

        assert done.code == 0, done.err
        assert '"key": "MLFLOW_TRACKING_TOKEN"' in done.err, "the log shows what requests send"
        secrets.assert_not_in(done)
        assert {"database URI", "token"} <= set(secrets.values)
        assert any(b"mlflow_ae5_deploy" in line and b"install" in line for line in processes.seen)
        assert secrets.found_in(b"\n".join(processes.seen)) == []

    @pytest.mark.parametrize("how", [[], ["--restart", "--yes"]], ids=str)
    def test_a_rotation_that_serves_a_consumer_by_its_own_password(self, bench, secrets, installed, config, how):
        environment = bench.environment(PLANTED=os.environ["PLANTED"])
        with ProcessList() as processes:
            done = bench.process(
                *("rotate-token", "--sandbox", "--config", config, "--traceback", "-vv", *how), environment=environment
            )

        assert done.code == 0, done.err
        secrets.assert_not_in(done)
        assert len([what for what in secrets.values if what.startswith("token")]) == 2, "the previous and the new one"
        assert any(b"mlflow_ae5_deploy" in line and b"rotate-token" in line for line in processes.seen)
        assert secrets.found_in(b"\n".join(processes.seen)) == []
        assert [path for path, content in kept(bench) if secrets.found_in(content)] == []

    @pytest.mark.parametrize(
        "verb",
        ["plan", "install", "verify", "rotate-token", "env", "runbook", "sandbox status", "sandbox logs"],
    )
    @pytest.mark.parametrize("json_mode", [False, True])
    def test_every_verb(self, bench, capsys, secrets, installed, config, verb, json_mode):
        options = ["-vv", *(["--json"] if json_mode else [])]
        if not verb.startswith("sandbox"):
            options += ["--sandbox", "--config", config]
        if verb in ("plan", "install"):
            options += ["--release", str(bench.release)]

        outcome = bench.run(capsys, *verb.split(), *options)

        assert outcome.code == (21 if verb == "verify" else 0), outcome.err  # no MLflow is behind it here
        assert outcome.out
        secrets.assert_not_in(outcome)

    def test_the_token_is_printed_with_show_token_only(self, bench, capsys, secrets, installed):
        shown = bench.run(capsys, "env", "--sandbox", "--show-token")

        token = shown.out.partition("export MLFLOW_TRACKING_TOKEN=")[2].split()[0]
        secrets.values["printed token"] = token
        assert secrets.found_in(shown.out.encode()) == ["printed token"]
        assert secrets.found_in(shown.err.encode()) == []
        assert [path for path, content in kept(bench) if secrets.found_in(content)] == []


FORMS = [["--json", "-vv"], ["--traceback", "-vv"]]  # the second says all that is said without it, and the traceback
FAULTS = [
    {"method": "POST", "path": "/credentials/user$", "status": 400, "skip": 1},  # the first one is the lock
    {"method": "POST", "path": "/credentials/user$", "status": 500, "skip": 1},
    {"method": "POST", "path": "/token$", "status": 409},
    {"method": "POST", "path": "/openid-connect/token$", "status": 401},
    {"method": "POST", "path": "/deployments$", "status": 400},
]


class TestFailure:
    @pytest.mark.parametrize("options", FORMS, ids=str)
    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    def test_a_platform_that_echoes_what_it_refuses(self, bench, capsys, secrets, install, fault, options):
        owner = bench.owner()
        for deployment in owner.get("deployments"):
            owner.call("DELETE", f"deployments/{deployment['id']}")
        for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_TOKEN"):
            owner.call("DELETE", f"credentials/user/{name}")

        with echoing(bench, secrets, fault):
            refused = bench.run(capsys, *install, *options)

        assert refused.code not in (0, 1, 30), refused.err
        assert "refused:" in refused.err or fault["status"] != 400, "the platform's own words were lost"
        secrets.assert_not_in(refused)

    @pytest.mark.parametrize("options", FORMS, ids=str)
    def test_a_server_that_prints_its_secrets_and_dies(self, bench, capsys, secrets, config, options):
        careless = make_project_archive(bench.folder / "careless.tar.gz", project_file=CARELESS)

        failed = bench.run(
            *(capsys, "install", "--sandbox", "--config", config, "--release", str(careless)),
            *("--replace", "--yes", *options),
        )

        assert failed.code == 20, failed.err
        assert "MLFLOW_BACKEND_STORE_URI" in failed.err, "the end of the log belongs to the error"
        secrets.assert_not_in(failed)

    def test_a_wrong_password_of_a_consumer(self, bench, capsys, secrets, wrong_password):
        refused = bench.run(
            *(capsys, "install", "--sandbox", "--traceback", "--release", str(bench.release)),
            *("--config", wrong_password, "--replace", "--yes"),
        )

        assert refused.code == 23, refused.err
        secrets.assert_not_in(refused)


class TestFailedRotation:
    @pytest.mark.parametrize("options", FORMS, ids=str)
    def test_a_wrong_password_of_a_consumer(self, bench, capsys, secrets, installed, wrong_password, options):
        partly = bench.run(capsys, "rotate-token", "--sandbox", "--config", wrong_password, "--all", *options)

        assert partly.code == 23, partly.err
        assert "dev-user" in partly.out
        secrets.assert_not_in(partly)

    @pytest.mark.parametrize("options", FORMS, ids=str)
    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            ({"method": "POST", "path": "/credentials/user$", "status": 400, "skip": 1}, 23),
            ({"method": "POST", "path": "/credentials/user$", "status": 500, "skip": 1}, 23),
            ({"method": "POST", "path": "deployments/.*/token$", "status": 409}, 14),
            ({"method": "POST", "path": "login-actions/authenticate$", "status": 500}, 23),
        ],
        ids=str,
    )
    def test_a_platform_that_echoes_what_it_refuses(
        self, bench, capsys, secrets, installed, config, fault, code, options
    ):
        with echoing(bench, secrets, fault):
            refused = bench.run(capsys, "rotate-token", "--sandbox", "--config", config, "--all", *options)

        assert refused.code == code, refused.err
        secrets.assert_not_in(refused)


class TestWhatIsKept:
    def test_journal_state_and_archives(self, bench, secrets, installed):
        files = dict(kept(bench))

        assert {"journal.jsonl", "state.json", "lock"} <= {path.name for path in files}
        assert any(path.name.endswith(".tar.gz") for path in files)
        assert [path for path, content in files.items() if secrets.found_in(content)] == []
        assert [path for path in files if path.stat().st_mode & 0o077] == []
        folders = [path for path in (bench.folder / "state").rglob("*") if path.is_dir()]
        assert [path for path in folders if path.stat().st_mode & 0o077 and "sandbox" not in path.parts] == []

    def test_the_uploaded_project(self, bench, secrets, installed):
        owner = bench.owner()
        (project,) = [p for p in owner.get("projects") if p["owner"] == ACCOUNT]
        path = bench.folder / "downloaded.tar.gz"
        path.write_bytes(owner.call("GET", f"projects/{project['id']}/revisions/latest/archive").content)

        with tarfile.open(path) as archive:
            assert len(archive.getnames()) > 1
        assert secrets.found_in(gzip.decompress(path.read_bytes())) == []

    def test_the_sandbox_s_call_log_and_its_own_log(self, bench, secrets, installed):
        calls = bench.calls()
        log = (bench.folder / "state" / "sandbox" / "daemon.log").read_bytes()

        assert len(calls) > 20
        assert b"/api/v2/deployments" in log
        assert secrets.found_in(json.dumps(calls).encode()) == []
        assert secrets.found_in(log) == []
