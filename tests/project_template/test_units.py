"""Small decisions, as tables: hosts, workers, durations, folders, options, redaction, restarts."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import re
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server import cli
from mlflow_ae5_server.common import errors, folders, redaction, settings
from mlflow_ae5_server.common.errors import Configuration, Usage, hint_for
from mlflow_ae5_server.server import host_guard, host_policy, worker_count
from mlflow_ae5_server.server.prefork import Restarts

from mlflow_ae5_deploy.common import errors as client_errors

MIB = 1024 * 1024
TTL = "MLFLOW_TRACKING_GC_TTL"


# Hosts


@pytest.mark.parametrize(
    ("endpoints", "platforms", "origins", "frames"),
    [
        (["a.example.com"], ["example.com"], ["https://a.example.com"], "https://example.com"),
        (["localhost:8443"], ["localhost:8000"], ["https://localhost:8443"], "https://localhost:8000"),
        (["https://A.example.com:443/x"], [], ["https://a.example.com"], ""),
        (["a.b, c.d"], ["e.f g.h"], ["https://a.b", "https://c.d"], "https://e.f https://g.h"),
        (["[2001:db8::1]:8443"], [], ["https://[2001:db8::1]:8443"], ""),
        (["*"], ["*"], [], "*"),
        ([], [], [], ""),
    ],
)
def test_origins_and_frames(endpoints: list[str], platforms: list[str], origins: list[str], frames: str) -> None:
    policy = host_policy.derive(endpoints, platforms)
    assert "*" not in policy.allowed_hosts
    assert list(policy.cors_origins) == origins
    assert policy.content_security_policy == f"frame-ancestors 'self' {frames}".strip()


CONFIGURED_HOSTS = ["extra.example.com", "8443.example.com:8443", "*.wild.example.com", "11.*", "203.0.113.0/24"]


ALLOWED_HOSTS = """
    a.example.com A.Example.com:8443 platform.example.com [2001:DB8:0::1]:8443 extra.example.com
    extra.example.com:443 8443.example.com:8443 b.wild.example.com localhost:8086 127.0.0.1 [::1]:8086 [fd12::1]
    10.1.2.3:8086 172.31.0.9 192.168.0.1 203.0.113.7 11.2.3.4
"""
REFUSED_HOSTS = """
    8443.example.com:8444 b.wild.example.com.evil.example 10.evil.example 10.1.2.3.evil.example:8086
    192.168.evil.example 172.16.evil.example 11.evil.example 203.0.113.evil.example fc00:evil.example
    [fc00::1].evil.example 172.32.0.1 8.8.8.8 [2001:db8::2] 10.1 010.1.2.3 localhost.evil.example evil.example
    evil.example:10.1.2.3 user@a.example.com *
"""


@pytest.mark.parametrize(("host", "allowed"), [
    *((text, True) for text in ALLOWED_HOSTS.split()),
    *((text, False) for text in [*REFUSED_HOSTS.split(), ""]),
])  # fmt: skip
def test_allowed_hosts(host: str, allowed: bool) -> None:
    policy = host_policy.derive(["a.example.com", "[2001:db8::1]:8443"], ["platform.example.com"], CONFIGURED_HOSTS)
    assert policy.allows_host(host) is allowed
    assert host_policy.derive([], [], ["*"]).allows_host(host or "x")


ALLOWED_ORIGINS = """
    https://a.example.com https://A.example.com https://extra.example.com:8443 http://lab.wild.example.com:8888
    http://11.2.3.4:8888
"""
REFUSED_ORIGINS = """
    http://11.evil.example:8888 http://a.example.com https://a.example.com:8443 https://extra.example.com
    https://lab.wild.example.com http://localhost:3000 http://localhost https://127.0.0.1 http://127.0.0.1:8888
    http://[::1]:8888 http://10.1.2.3 https://evil.example https://a.example.com.evil.example null
"""


@pytest.mark.parametrize(("origin", "allowed"), [
    *((text, True) for text in ALLOWED_ORIGINS.split()),
    *((text, False) for text in REFUSED_ORIGINS.split()),
])  # fmt: skip
def test_allowed_origins(origin: str, allowed: bool) -> None:
    extra = ["https://extra.example.com:8443", "http://*.wild.example.com", "http://11.*"]
    assert host_policy.derive(["a.example.com"], [], [], extra).allows_origin(origin) is allowed
    assert host_policy.derive([], [], [], ["*"]).allows_origin(origin)
    assert host_policy.derive([], [], [], ["http://localhost:*"]).allows_origin(origin) is origin.startswith(
        "http://localhost"
    )


def test_the_hosts_that_matter_come_first_and_whole() -> None:
    many = [f"h{number}.example.com" for number in range(9)]
    policy = host_policy.derive(["[::2]:8443", "end.example.com"], ["ae5.example.com"], many)
    usual = "local and private addresses"
    assert policy.summary == ", ".join(("[::2]", "end.example.com", "ae5.example.com", *many, usual))
    assert host_policy.derive(["localhost:8443"], []).summary == usual


@pytest.mark.parametrize("text", ["a b;c", "-x", "a.b:port", "a..b\n;script"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        host_policy.derive([text.replace(" ", "_;")], [])


# Frame policy and assistant


async def _ask(application: host_guard.Application, path: str) -> tuple[dict[bytes, bytes], Any]:
    seen: dict[str, Any] = {}

    async def send(message: MutableMapping[str, Any]) -> None:
        seen.update(message)

    async def receive() -> dict[str, Any]:
        return {}

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": path, "client": ("127.0.0.1", 5), "headers": headers}
    await application(scope, receive, send)
    return dict(seen["headers"]), seen["client"]


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")], "client": scope["client"]})


@pytest.mark.parametrize(
    ("frames", "path", "header"),
    [
        (True, "/", b"frame-ancestors 'self'"),
        (False, "/", None),
        (True, "/static-files/lib/notebook-trace-renderer/index.html", None),
    ],
)
def test_the_policy_is_added_to_answers(frames: bool, path: str, header: bytes | None) -> None:
    headers, client = asyncio.run(_ask(host_guard.wrap(_echo, host_policy.derive([], []), frames=frames), path))
    assert headers.get(b"content-security-policy") == header
    assert (headers[b"x"], client) == (b"y", ("127.0.0.1", 5))


def test_callers_of_the_assistant_come_from_elsewhere() -> None:
    _, client = asyncio.run(
        _ask(
            host_guard.wrap(_echo, host_policy.derive([], []), "/prefix"),
            "/prefix/ajax-api/3.0/mlflow/assistant/message",
        )
    )
    assert client[0] != "127.0.0.1"


# Workers


@pytest.mark.parametrize(
    ("requested", "cpus", "memory", "expected"),
    [
        ("auto", 0.5, None, 1),
        ("auto", 1.0, None, 1),
        ("auto", 1.9, None, 1),
        ("auto", 2.0, None, 2),
        ("auto", 64.0, None, 4),
        ("auto", 8.0, 512 * MIB, 1),
        ("auto", 8.0, 1024 * MIB, 4),
        ("auto", 8.0, 600 * MIB, 2),
        ("auto", 8.0, 64 * MIB, 1),
        ("3", 1.0, 64 * MIB, 3),
    ],
)
def test_number_of_workers(requested: str, cpus: float, memory: int | None, expected: int) -> None:
    assert worker_count.choose(requested, worker_count.Limits(cpus, memory))[0] == expected


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "65"])
def test_a_senseless_number_of_workers_is_refused(text: str) -> None:
    with pytest.raises(Configuration, match="MLFLOW_WORKERS"):
        worker_count.choose(text, worker_count.Limits(4, None))


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "1073741824"}, "0::/", (1.5, 1024 * MIB)),
        ({"cpu.max": "max 100000", "memory.max": "max"}, "0::/", (8.0, None)),
        ({"pods/one/cpu.max": "50000 100000"}, "0::/pods/one", (0.5, None)),
        ({"pods/cpu.max": "200000 100000", "pods/one/cpu.max": "max 100000"}, "0::/pods/one", (2.0, None)),
        ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/x", (2.5, None)),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/x", (8.0, None)),
        ({"memory/memory.limit_in_bytes": "536870912"}, "5:memory:/", (8.0, 512 * MIB)),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, "5:memory:/", (8.0, None)),
        ({}, "", (8.0, None)),
    ],
)
def test_limits_of_a_container(
    tmp_path: Path, files: dict[str, str], group: str, expected: tuple[float, int | None]
) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(group + "\n")
    limits = worker_count.read_limits(tmp_path / "cgroup", tmp_path, cpus=8)
    assert (limits.cpus, limits.memory) == expected


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d0h0m0s", 2592000),
        ("0d0h10m0s", 600),
        ("1.5d", 129600),
        (".5h", 1800),
        ("12h", 43200),
        ("90s", 90),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert settings.resolve({TTL: text}, {}, {}).duration(TTL).total_seconds() == seconds


@pytest.mark.parametrize("text", ["30 days", "unset", "30", "d", "1..5d", "1h1d", "-1d", "30D", "30d ", "99999999999d"])
def test_what_is_no_duration_is_refused_and_the_form_shown(text: str) -> None:
    with pytest.raises(Configuration, match=TTL) as caught:
        settings.resolve({TTL: text}, {TTL: "x"}, {}).duration(TTL)
    assert text == "99999999999d" or "#d#h#m#s" in str(caught.value)


# Folders


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("data/artifacts", "data/artifacts"),
        ("/data/artifacts", "/data/artifacts"),
        ("file:///data/my%20artifacts", "/data/my artifacts"),
        ("s3://bucket/path", None),
        ("gs://bucket", None),
        ("abfss://fs@account.dfs.core.windows.net/x", None),
        ("mlflow-artifacts:/", None),
    ],
)
def test_local_folders(location: str, folder: str | None) -> None:
    assert folders.local_folder(location) == (Path(folder) if folder else None)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///data/x.sqlite", "data/x.sqlite"),
        ("sqlite:////data/x.sqlite?timeout=5", "/data/x.sqlite"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("postgresql://h/d", None),
    ],
)
def test_sqlite_files(uri: str, file: str | None) -> None:
    assert folders.sqlite_file(uri) == (Path(file) if file else None)


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Configuration, match="SETTING"):
        folders.make_writable(tmp_path / "file", "SETTING")


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({"PROJECT_DIR": "/opt/continuum/project"}, True),
        ({"PROJECT_DIR": "/opt/continuum/project", "MLFLOW_AE5_SANDBOX": "1"}, False),
        ({"PROJECT_DIR": "/home/me/project"}, False),
    ],
)
def test_data_on_the_containers_own_disk_is_warned_of(environment: dict[str, str], warned: bool) -> None:
    assert (folders.persistence_warning(Path("/nowhere/mlflow"), environment) is not None) is warned
    assert folders.persistence_warning(Path("/proc/self"), environment) is None  # /proc is a mount


# Options


def test_all_options_of_ae5_are_taken_also_those_it_may_invent() -> None:
    given = (
        "tracking-server --anaconda-project-host a --anaconda-project-host=b --anaconda-project-iframe-hosts c d "
        "--anaconda-project-port 9000 --anaconda-project-address=127.0.0.1 --anaconda-project-use-xheaders "
        "--anaconda-project-no-browser --anaconda-project-url-prefix /p --anaconda-project-new 1 --anaconda-project-x"
    )
    options = cli.parse(given.split())
    assert (options.hosts, options.iframe_hosts, options.port) == (["a", "b"], ["c", "d"], 9000)
    assert (options.address, options.url_prefix, bool(options.use_xheaders)) == ("127.0.0.1", "/p", True)


@pytest.mark.parametrize("given", ["", "nonsense", "tracking-server --port 1", "garbage-collection --dry-run x"])
def test_other_options_are_refused(given: str) -> None:
    with pytest.raises(Usage):
        cli.parse(given.split())


# Redaction


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:{}@host/db",
        "connect to postgresql+psycopg://user:{}@[::1]:5432/db?x=y failed",
        "mssql+pyodbc://host/db?driver=x&PWD={}&y=1",
        "Authorization: Bearer {}",
        "Error performing GET http://127.0.0.1:9000/AKIAX:{}@bucket?list-type=2",
        "password={} host=x",
    ],
)
def test_what_looks_like_a_credential_is_never_shown(text: str) -> None:
    assert "unregistered-1" not in redaction.scrub(text.format("unregistered-1"))


@pytest.mark.parametrize("piece", ["a", "ab.", "://", "https://", "https://a:", "a@", "bearer ", "password", "="])
def test_long_lines_are_no_trap(piece: str) -> None:
    """A pattern that backtracks would run here until the suite's time limit; a line may hold what a client sent."""
    redaction.scrub(piece * (300_000 // len(piece)))


SHOWN = [
    "/srv/t/team-2026/backups/12:30@site/index",
    "Restored to /data/t/analytics/artifacts, saved copy /data/t/analytics/artifacts/saved_1",
    "mlflow.exceptions.MlflowException: no such table mlflow in analytics",
    "user analytics on db.analytics.example.com, database analytics",
]


def test_paths_and_names_are_shown_also_where_the_password_is_a_word(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from mlflow_ae5_server.common import redaction, settings\n"
        "settings.load(os.environ)\n"
        "print(*map(redaction.scrub, sys.argv[1:]), sep='\\n')"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(redaction.__file__).parents[2]),
        "MLFLOW_AE5_SECRETS_DIR": str(tmp_path),
        "MLFLOW_BACKEND_STORE_URI": "postgresql://analytics:analytics@db.analytics.example.com/analytics",
        "MLFLOW_ARTIFACTS_DESTINATION": "/data/t/analytics/artifacts",
        "MLFLOW_TRACKING_TOKEN": "mlflow",
    }
    command = [sys.executable, "-c", program, *SHOWN, "postgresql://analytics:analytics@h/d, not an-analytics"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*SHOWN, "postgresql://analytics:********@h/d, not an-********"]


def test_a_password_is_masked_in_all_its_spellings() -> None:
    redaction.register_uri("postgresql://user:p%40ss%2Fword@host/db")
    assert redaction.scrub("p%40ss%2Fword, p@ss/word") == "********, ********"


def test_a_value_split_over_writes_is_still_seen() -> None:
    redaction.register("split-secret-value")
    target = io.StringIO()
    stream = redaction.ScrubbingStream(target)
    for part in ("before split-", "secret-", "value after\nnext ", "line"):
        stream.write(part)
    stream.flush()
    assert target.getvalue() == "before ******** after\nnext line"


# Restarts


@pytest.mark.parametrize(
    ("deaths", "allowed"),
    [([0, 1], [True, True]), ([0, 1, 2], [True, True, False]), ([0, 1, 100, 101], [True, True, True, True])],
)
def test_workers_are_replaced_unless_they_keep_dying(deaths: list[float], allowed: list[bool]) -> None:
    restarts = Restarts(limit=3, window=60)
    assert [restarts.allowed(now) for now in deaths] == allowed


# Disks


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOSPC, "free disk space"), (errno.EDQUOT, "free disk space"), (errno.EACCES, "write permission")],
)
def test_a_full_quota_is_a_full_disk(number: int, hint: str) -> None:
    assert hint in hint_for(OSError(number, os.strerror(number)))


def test_full_disks_are_defined_once_on_each_side() -> None:
    root = Path(__file__).parents[2]
    for package in (root / "mlflow_ae5_deploy", root / "project_template" / "mlflow_ae5_server"):
        naming = {f for f in package.rglob("*.py") if re.search(r"errno\.(ENOSPC|EDQUOT)", f.read_text())}
        assert naming == {package / "common" / "errors.py"}


def test_jobs_end_with_the_exit_codes_of_the_tool() -> None:
    codes = {
        name: thing.exit_code
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.ProjectError) and "exit_code" in vars(thing)
    }
    assert codes.pop("ProjectError") == client_errors.EXIT_BUG
    assert codes == {name: getattr(client_errors, name).exit_code for name in codes}
    assert len(codes) == 11
    assert errors.Interrupted.exit_code == client_errors.EXIT_INTERRUPTED
