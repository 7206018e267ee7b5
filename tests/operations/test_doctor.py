"""What doctor makes of what it sees: rows of data."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlflow_ae5_deploy.ae5.probe import Certificate, Handshake
from mlflow_ae5_deploy.common.mlflow_api import Health, health_of
from mlflow_ae5_deploy.common.redaction import scrub
from mlflow_ae5_deploy.config.database_uri import SUPPORTED, parse_store_uri
from mlflow_ae5_deploy.jobs.contract import read
from mlflow_ae5_deploy.jobs.reports import CheckReport
from mlflow_ae5_deploy.operations.doctor import connection, release, storage
from mlflow_ae5_deploy.operations.doctor.findings import ERROR, INFO, OK, SKIPPED, WARNING
from mlflow_ae5_deploy.operations.doctor.from_platform import CHECKS, read_report
from mlflow_ae5_deploy.operations.doctor.server import judge_hosts, variants
from mlflow_ae5_deploy.release.bundled import template_dir
from mlflow_ae5_deploy.release.packages import (
    PackageEnvironment,
    bounds,
    environment_of,
    exact_version,
    read_environment,
)
from mlflow_ae5_deploy.resources import encryption_keys
from tests.sandbox.support import make_project_archive

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def env(*, ours=False, **packages):
    return PackageEnvironment("TrackingServer", "default", {k.replace("_", "-"): v for k, v in packages.items()}, ours)


def assert_finding(finding, severity, message):
    assert (finding.severity, message in finding.message) == (severity, True), finding
    assert bool(finding.remedy) is (severity in (WARNING, ERROR)), finding


TOOLS = [
    ("0.7.3", True, OK, "0.7.3"),
    ("0.7.4", True, OK, "0.7.4"),
    ("0.10.0", True, OK, "0.10.0"),
    ("0.7.3.post3+gbad", True, OK, "0.7.3"),
    ("0.6.1", True, ERROR, "older than 0.7.3"),
    ("0.6.1", False, INFO, "older than 0.7.3"),
    (None, True, ERROR, "not installed"),
    (None, False, INFO, "not needed"),
]


@pytest.mark.parametrize(("version", "needed", "severity", "message"), TOOLS)
def test_ae5_tools(version, needed, severity, message):
    assert_finding(connection.ae5_tools(version, needed=needed), severity, message)


def test_an_endpoint_without_an_address_is_one_error():
    dns, tls = connection.endpoint(None, "https://no-such-endpoint.invalid/")
    assert_finding(dns, ERROR, "does not resolve")
    assert_finding(tls, SKIPPED, "its name does not resolve")


PINS = [
    ("==3.17.2", True, OK, "mlflow 3.17.2"),
    ("=3.17.2", True, OK, "mlflow 3.17.2"),
    ("=3.17.2=py311_0", True, OK, "mlflow 3.17.2"),
    ("==3.4.0", True, OK, "3.4.0"),
    ("==3.5.0", True, ERROR, "30 GB of memory"),
    ("==3.8.1", False, WARNING, "yours do not go through the server"),
    ("==3.11.9", True, ERROR, "30 GB of memory"),
    ("==3.12.0", True, OK, "3.12.0"),
    ("==3.18.0", True, WARNING, "mlflow-skinny"),
    ("=2.6.0", True, INFO, "old"),
    ("", True, WARNING, "mlflow of any version"),
    (">=3,<4", True, WARNING, "mlflow>=3,<4"),
    ("==3.17.*", True, WARNING, "may install another"),
    ("=3", True, WARNING, "may install another"),
]


@pytest.mark.parametrize(("spec", "proxied", "severity", "message"), PINS)
def test_mlflow_pin(spec, proxied, severity, message):
    assert_finding(release.mlflow_pin(env(mlflow=spec), proxied=proxied), severity, message)


def test_a_release_without_mlflow_in_its_packages_is_not_judged():
    assert_finding(release.mlflow_pin(env(python="=3.11"), proxied=True), INFO, "is unknown")


@pytest.mark.parametrize(
    ("version", "pinned", "severity", "message"),
    [
        ("3.17.2", (3, 17, 2), OK, "3.17.2"),
        ("3.17.2", None, OK, "3.17.2"),
        ("3.17.1", (3, 17, 2), WARNING, "asks for 3.17.2"),
        ("3.7.0", (3, 7, 0), ERROR, "30 GB"),
        ("2.6.0", None, INFO, "old"),
    ],
)
def test_mlflow_running(version, pinned, severity, message):
    assert_finding(release.mlflow_running(version, pinned, proxied=True), severity, message)


PG, SA20, SA21 = {"psycopg": ">=3"}, {"sqlalchemy": ">=2.0,<2.1"}, {"sqlalchemy": ">=2.1,<2.2"}
PG2 = {"psycopg2_binary": ""}
DATABASES = [
    ("sqlite:///data/x.sqlite", env(), INFO, "one server only"),
    ("postgresql+psycopg://h/d", env(**PG), OK, "through psycopg"),
    ("postgresql+psycopg://h/d", env(**PG2), ERROR, "postgresql+psycopg needs psycopg"),
    ("postgresql+psycopg2://h/d", env(**PG2), OK, "through psycopg2"),
    ("postgresql://h/d", env(**PG, **SA21), OK, "through psycopg"),
    ("postgresql://h/d", env(**PG2, **SA21), ERROR, "needs psycopg,"),
    ("postgresql://h/d", env(**PG2, **SA20), OK, "through psycopg2"),
    ("postgresql://h/d", env(**PG, **SA20), ERROR, "needs psycopg2,"),
    ("postgresql://h/d", env(**PG, sqlalchemy="=2"), WARNING, "the release does not pin SQLAlchemy"),
    ("postgresql://h/d", env(**PG), WARNING, "does not pin SQLAlchemy"),
    ("postgresql://h/d", env(**PG2, sqlalchemy="==1.4.49"), OK, "through psycopg2"),
    ("postgresql://h/d", env(**PG2, sqlalchemy="<=2.1"), WARNING, "does not pin SQLAlchemy"),
    ("mysql+pymysql://h/d", env(pymysql="", mlflow=""), OK, "through pymysql"),
    ("mysql+mysqldb://h/d", env(pymysql=""), ERROR, "needs mysqldb"),
    ("mssql://h/d", env(pyodbc=""), OK, "through pyodbc"),
    # the server this tool brings names the driver itself
    ("postgresql://h/d", env(ours=True, **PG2, **SA21), OK, "through psycopg2"),
    ("postgresql://h/d", env(ours=True, **SA21), ERROR, "needs psycopg or psycopg2"),
    ("postgresql+pg8000://h/d", env(ours=True, pg8000=""), ERROR, "does not support the driver pg8000"),
    ("postgresql+psycopg://h/d", env(), SKIPPED, "lists no packages"),
]


@pytest.mark.parametrize(("uri", "environment", "severity", "message"), DATABASES)
def test_database_driver(uri, environment, severity, message):
    assert_finding(storage.database_driver(parse_store_uri(uri), environment), severity, message)


def test_our_drivers_are_those_the_server_takes():
    source = (template_dir() / "mlflow_ae5_server" / "database" / "connection.py").read_text()
    (table,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "DRIVERS"
    ]
    assert {kind: tuple(row[0] for row in rows) for kind, rows in table.items()} == SUPPORTED


# the environment of a command -------------------------------------------------------------------------------------


def test_packages_are_those_of_project_and_environment_the_last_word_wins():
    document = {
        "packages": ["python=3.10", "conda-forge::Boto_3 >=1"],
        "commands": {"TrackingServer": {"unix": "x", "env_spec": "small"}},
        "env_specs": {
            "base": {"packages": ["python=3.11", {"pip": ["psycopg[binary]>=3.2,<4 ; python_version > '3'"]}]},
            "small": {"inherit_from": ["base", "small"], "dependencies": ["mlflow=3.17.2"]},
            "other": {"packages": ["unrelated"]},
        },
    }
    found = read_environment(document, "TrackingServer")
    assert found.name == "small"
    assert found.packages == {"python": "=3.11", "boto-3": ">=1", "psycopg": ">=3.2,<4", "mlflow": "=3.17.2"}


def test_environments_that_inherit_each_other_many_times_are_read_once():
    chain = {str(n): {"inherit_from": [str(n + 1)] * 3, "packages": [f"p{n}"]} for n in range(2_000)}
    document = {"commands": {"TrackingServer": {"unix": "x", "env_spec": "0"}}, "env_specs": chain}
    assert len(read_environment(document, "TrackingServer").packages) == 2_000


def test_without_environments_the_projects_own_packages_count():
    found = read_environment({"packages": ["mlflow"], "commands": {}}, "TrackingServer")
    assert (found.name, found.packages) == ("the project's", {"mlflow": ""})


@pytest.mark.parametrize("odd", [3, "x", [1], {"a": 1}, None])
def test_a_project_file_of_any_shape_is_read(odd):
    for document in (
        {"commands": odd, "env_specs": odd},
        {"commands": {"TrackingServer": odd}, "env_specs": {"a": odd}},
        {"commands": {"TrackingServer": {"env_spec": odd}}, "env_specs": {"a": {"inherit_from": odd}}},
        {"commands": {"TrackingServer": {"env_spec": "a"}}, "env_specs": {"a": {"inherit_from": odd}}},
    ):
        assert read_environment(document, "TrackingServer").packages == {}
    assert exact_version("==" + "1" * 5_000) is None


def test_the_bundled_server_is_recognised_in_an_archive(tmp_path: Path):
    plain = make_project_archive(tmp_path / "a.tar.gz")
    ours = make_project_archive(tmp_path / "b.tar.gz", files={"mlflow_ae5_server/__init__.py": ""})
    assert environment_of(plain.read_bytes(), "TrackingServer").packages == {"python": ""}
    assert [environment_of(p.read_bytes(), "TrackingServer").ours for p in (plain, ours)] == [False, True]


@pytest.mark.parametrize(
    ("spec", "exact", "both"),
    [
        ("==3.17.2", (3, 17, 2), ((3, 17, 2), (3, 17, 3))),
        ("=2", (2,), ((2,), (3,))),
        (">=2.1,<2.2", None, ((2, 1), (2, 2))),
        ("<=2.0", None, (None, (2, 1))),
        ("", None, (None, None)),
        ("!=3.5", None, (None, None)),
    ],
)
def test_specs(spec, exact, both):
    assert (exact_version(spec), bounds(spec)) == (exact, both)


# the way ----------------------------------------------------------------------------------------------------------


def handshake(*days):
    return Handshake("TLSv1.3", tuple(Certificate(f"c{n}", "ca", ("h",), NOW + timedelta(days=n)) for n in days))


@pytest.mark.parametrize(
    ("seen", "severity", "message"),
    [
        (handshake(90, 3650), OK, "chain of 2, expires 2026-05-30"),
        (handshake(90, 10), WARNING, "the certificate c10 expires in 10 days"),
        (handshake(29), WARNING, "in 29 days"),
        (handshake(), INFO, "does not show"),
    ],
)
def test_the_first_certificate_of_the_chain_to_end_counts(seen, severity, message):
    assert_finding(connection.certificate("tls", seen, NOW), severity, message)


@pytest.mark.parametrize(
    ("skew", "severity", "message"),
    [
        (0.4, OK, "within 2 s"),
        (-12.0, OK, "12 s behind"),
        (45.0, WARNING, "45 s ahead"),
        (-400.0, ERROR, "400 s behind"),
    ],
)
def test_clock(skew, severity, message):
    assert_finding(connection.clock(skew), severity, message)


# host names -------------------------------------------------------------------------------------------------------

GOOD = Health("healthy", "it answers")
REFUSED = health_of(403, "text/plain", b"Invalid Host header - possible DNS rebinding attack detected", "403")
INGRESS = Health("unhealthy", "404 no such host")


@pytest.mark.parametrize(
    ("answers", "severity", "message"),
    [
        ({"h": GOOD, "h:443": GOOD}, OK, "answers to h, h:443"),
        ({"h": GOOD, "h:443": REFUSED}, ERROR, "rejects the host name h:443"),
        ({"h": REFUSED, "h:443": REFUSED}, ERROR, "rejects the host name h, h:443"),
        ({"h": GOOD, "h:443": INGRESS}, INFO, "not known: h:443 (404 no such host)"),
        ({"h": INGRESS, "h:443": INGRESS}, SKIPPED, "did not answer"),
    ],
)
def test_only_mlflows_own_refusal_of_a_host_name_counts(answers, severity, message):
    assert_finding(judge_hosts(answers), severity, message)


def test_every_form_of_the_host_name_is_tried():
    assert variants("https://m.ae5.example.com/") == ["m.ae5.example.com", "m.ae5.example.com:443"]
    assert variants("https://localhost:8443") == ["localhost", "localhost:8443"]


# the job's word ---------------------------------------------------------------------------------------------------


def part(ok, message="shown", **more):
    return {"ok": ok, "message": message, **more}


REPORTS = [
    ("all well", {"database": part(True, revision="abc"), "artifacts": part(True), "server": part(True)},
     [OK, OK, OK, SKIPPED]),
    ("one bad", {"database": part(False, hint="do"), "artifacts": part(True), "server": part(None)},
     [ERROR, OK, SKIPPED, SKIPPED]),
    ("not persistent", {"database": part(True, warning="lost"), "artifacts": part(True), "server": part(True)},
     [WARNING, OK, OK, SKIPPED]),
    ("one untold", {"database": part(True), "artifacts": part(True)}, [OK, OK, SKIPPED, SKIPPED]),
    ("keys", {"keys": part(True, compared=[{"name": "A", "at_hand": "same"}])}, [SKIPPED, SKIPPED, SKIPPED, OK]),
    ("other keys", {"keys": part(True, compared=[{"name": "A", "at_hand": "other"}, {"name": "B", "at_hand": "same"}])},
     [SKIPPED, SKIPPED, SKIPPED, ERROR]),
    ("crashed", {"database": part(True), "outcome": "failed", "error": "TypeError: x"}, [OK, ERROR, ERROR, ERROR]),
    ("stopped", {"database": part(True), "outcome": "interrupted"}, [OK, ERROR, ERROR, ERROR]),
    ("unreadable with the keys", {"keys": part(True, warnings=["lost"])}, [SKIPPED, SKIPPED, SKIPPED, WARNING]),
    ("died", {}, [ERROR] * 4),
    ("failed before it began", {"outcome": "failed", "error": "no settings", "hint": "set them"}, [ERROR] * 4),
]  # fmt: skip


@pytest.mark.parametrize(("case", "report", "severities"), REPORTS, ids=[row[0] for row in REPORTS])
def test_the_jobs_last_line_becomes_findings(case, report, severities):
    found = read_report("failed", read(CheckReport, report))
    assert [finding.check for finding in found] == list(CHECKS)
    assert [finding.severity for finding in found] == severities
    assert all(finding.remedy for finding in found if finding.severity == ERROR)
    if "error" in report:
        assert report["error"] in found[-1].message


def test_the_log_of_the_job_shows_how_the_keys_compare():
    compared = [{"name": name, "at_hand": "same"} for name in encryption_keys.NAMES]
    line = json.dumps({"keys": part(True, compared=compared), "outcome": "ok"})
    assert scrub(line) == line


# where snapshots are kept ------------------------------------------------------------------------------------------

DESTINATIONS = [
    ("data/b", "data/db.sqlite", "data/artifacts", "database and the artifacts (/data)"),
    ("data/b", "", "data/artifacts", "volume of the artifacts (/data)"),
    ("/data/b", "data/db.sqlite", "s3://bucket/a", "volume of the database (/data)"),
    ("/mnt/backup/b", "data/db.sqlite", "data/artifacts", None),
    ("/mnt/backup/b", "/mnt/store/db", "/mnt/store/a", None),
    ("s3://bucket/b", "data/db.sqlite", "s3://bucket/a", None),
    ("data/b", "", "s3://bucket/a", None),
    ("data/backups", "", "file:///data/a", "volume of the artifacts (/data)"),
    ("data/backups", "", "file:///mnt/store/a", None),
]


@pytest.mark.parametrize(
    ("destination", "database", "artifacts", "message"), DESTINATIONS, ids=[str(row[:3]) for row in DESTINATIONS]
)
def test_snapshots_on_the_volume_of_the_data_are_a_warning(destination, database, artifacts, message):
    found = storage.judge(destination, database, artifacts)

    assert found.severity == ("warning" if message else "ok")
    assert (message or "apart from the data") in found.message
