"""The alert rules and the dashboard, on made-up scrapes; tests/e2e/test_alerts.py has those of a server."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import alerts
from tests.alerts import Case, Scrape, needs_promtool
from tests.documents import TEXTS, section

NOW = 1_800_000_000.0
DAY = 86_400.0
DASHBOARD = alerts.RULES.with_name("dashboard.json")
METRICS = """
# TYPE mlflow_ae5_build_info gauge
mlflow_ae5_build_info{version="0.1.0"} 1
# TYPE mlflow_ae5_database_up gauge
mlflow_ae5_database_up 1
# TYPE mlflow_ae5_http_requests counter
mlflow_ae5_http_requests_total{route="/a",method="GET",code="200"} 1000
mlflow_ae5_http_requests_total{route="/a",method="GET",code="500"} 0
mlflow_ae5_http_requests_total{route="/a",method="GET",code="503"} 10
# TYPE mlflow_ae5_http_requests_refused counter
mlflow_ae5_http_requests_refused_total{reason="overload"} 10
mlflow_ae5_http_requests_refused_total{reason="host"} 0
# TYPE mlflow_ae5_http_request_duration_seconds histogram
mlflow_ae5_http_request_duration_seconds_bucket{route="/a",method="GET",le="2.5"} 1000
mlflow_ae5_http_request_duration_seconds_bucket{route="/a",method="GET",le="5.0"} 1000
mlflow_ae5_http_request_duration_seconds_bucket{route="/a",method="GET",le="+Inf"} 1000
mlflow_ae5_http_request_duration_seconds_bucket{route="/mlflow-artifacts/{p}",method="GET",le="2.5"} 0
mlflow_ae5_http_request_duration_seconds_bucket{route="/mlflow-artifacts/{p}",method="GET",le="+Inf"} 900
# TYPE mlflow_ae5_worker_restarts counter
mlflow_ae5_worker_restarts_total 4
# TYPE mlflow_ae5_volume_free_bytes gauge
mlflow_ae5_volume_free_bytes{volume="artifacts"} 50
# TYPE mlflow_ae5_volume_size_bytes gauge
mlflow_ae5_volume_size_bytes{volume="artifacts"} 100
# TYPE mlflow_ae5_job_last_exit_code gauge
mlflow_ae5_job_last_exit_code{kind="backup"} 0
mlflow_ae5_job_last_exit_code{kind="check"} 0
mlflow_ae5_job_last_exit_code{kind="drill"} 0
# TYPE mlflow_ae5_job_last_success_timestamp_seconds gauge
mlflow_ae5_job_last_success_timestamp_seconds{kind="backup"} 1799990000
"""
STATUS = """
# TYPE mlflow_ae5_status_failed gauge
mlflow_ae5_status_failed 0
# TYPE mlflow_ae5_status_timestamp_seconds gauge
mlflow_ae5_status_timestamp_seconds 1800000000
# TYPE mlflow_ae5_problem gauge
mlflow_ae5_problem{code="no-server",severity="error"} 0
mlflow_ae5_problem{code="backup-old",severity="warning"} 1
# TYPE mlflow_ae5_token_expiry_timestamp_seconds gauge
mlflow_ae5_token_expiry_timestamp_seconds{account="mlflow-service"} 1810000000
"""
# what a fault changes: (pattern, replacement) on the text of both -> alerts
ROWS: dict[str, tuple[dict[str, str], set[str]]] = {
    "nothing": ({}, set()),
    "database down": ({"database_up 1": "database_up 0"}, {"MlflowDatabaseDown"}),
    "errors": ({'code="500"} 0': 'code="500"} 60'}, {"MlflowServerErrors"}),
    "few errors": ({'code="500"} 0': 'code="500"} 40', 'code="200"} 1000': 'code="200"} 2000'}, set()),
    "overload": (
        {'code="503"} 10': 'code="503"} 110', 'reason="overload"} 10': 'reason="overload"} 110'},
        {"MlflowOverloaded"},
    ),
    "wrong hosts": ({'reason="host"} 0': 'reason="host"} 500'}, set()),
    "slow": ({'le="5.0"} 1000': 'le="5.0"} 1500', 'le="+Inf"} 1000': 'le="+Inf"} 1500'}, {"MlflowSlow"}),
    "slow downloads": ({'le="+Inf"} 900': 'le="+Inf"} 9000'}, set()),
    "workers die": ({"restarts_total 4": "restarts_total 7"}, {"MlflowWorkersDie"}),
    "one worker died": ({"restarts_total 4": "restarts_total 5"}, set()),
    "volume full": ({'artifacts"} 50': 'artifacts"} 9'}, {"MlflowVolumeFull"}),
    "backup failed": ({'exit_code{kind="backup"} 0': 'exit_code{kind="backup"} 28'}, {"MlflowJobFailed backup"}),
    "drill failed": ({'exit_code{kind="drill"} 0': 'exit_code{kind="drill"} 1'}, {"MlflowJobFailed drill"}),
    "check failed": ({'exit_code{kind="check"} 0': 'exit_code{kind="check"} 10'}, {"MlflowJobFailed check"}),
    "damage": ({'exit_code{kind="check"} 0': 'exit_code{kind="check"} 25'}, {"MlflowBackupDamaged check"}),
    "no backup": ({r'.*success_timestamp.*backup.*\n': ""}, {"MlflowBackupOld"}),
    "unhealthy": ({'severity="error"} 0': 'severity="error"} 1'}, {"MlflowUnhealthy no-server"}),
    "status failed": ({"status_failed 0": "status_failed 1"}, {"MlflowStatusFailed"}),
    "token expires": ({"expiry_timestamp_seconds{(.*)} 1810000000": r"expiry_timestamp_seconds{\1} 1801000000"},
                      {"MlflowTokenExpiring"}),
}  # fmt: skip
# seconds that pass without a success or a check
LATER: dict[float, set[str]] = {
    DAY: {"MlflowStatusStale"},
    3 * DAY: {"MlflowStatusStale", "MlflowBackupOld backup"},
}


def scraped(changes: dict[str, str] | None = None) -> Scrape:
    metrics, status = METRICS, STATUS
    for before, now in (changes or {}).items():
        pattern = before if "\\" in before or "(" in before else re.escape(before)
        assert re.search(pattern, metrics + status), before
        metrics, status = re.sub(pattern, now, metrics), re.sub(pattern, now, status)
    return alerts.scrape(metrics, NOW, status)


def cases() -> dict[str, Case]:
    well = scraped()
    found = {name: Case([well, scraped(changes), after(well, changes)], frozenset(expected))
             for name, (changes, expected) in ROWS.items()}  # fmt: skip
    found["down"] = Case([well, alerts.scrape(None, NOW, STATUS), well], frozenset({"MlflowDown"}))
    for seconds, expected in LATER.items():
        found[f"{seconds:g} s later"] = Case([well, well.later(seconds), well], frozenset(expected))
    return found


def after(well: Scrape, changes: dict[str, str]) -> Scrape:
    """Well again, and no counter has fallen."""
    counted = {
        name: value for name, value in scraped(changes).samples.items() if re.match(r"\w+_(total|bucket){", name)
    }
    return Scrape({**well.samples, **counted}, NOW)


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(alerts.RULES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


@needs_promtool
def test_each_fault_raises_its_alert_and_no_other(tmp_path: Path) -> None:
    alerts.check(tmp_path, cases())


@needs_promtool
def test_a_missing_alert_is_noticed(tmp_path: Path) -> None:
    well = scraped()
    with pytest.raises(AssertionError, match="MlflowDown"):
        alerts.check(tmp_path, {"down": Case([well, well, well], frozenset({"MlflowDown"}))})


def rules() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(alerts.RULES.read_text())["groups"] for rule in group["rules"]]


def test_each_rule_is_tested_and_says_what_to_do() -> None:
    raised = {alert.partition(" ")[0] for case in cases().values() for alert in case.alerts}
    assert {rule["alert"] for rule in rules()} == raised
    for rule in rules():
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
        assert set(rule["annotations"]) == {"summary", "action"}  # type: ignore[call-overload]


def test_the_page_lists_each_rule() -> None:
    listed = re.findall(r"`(Mlflow\w+)`", section(TEXTS["how-to/monitor.md"], "Alerts and dashboard"))
    assert sorted(listed) == sorted(str(rule["alert"]) for rule in rules())


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    root = Path(__file__).parents[1]
    code = "".join(
        (root / name).read_text()
        for name in ("project_template/mlflow_ae5_server/server/metrics.py",
                     "project_template/mlflow_ae5_server/server/observed.py", "mlflow_ae5_deploy/render/prometheus.py")
    )  # fmt: skip
    for file in (alerts.RULES, DASHBOARD):
        for name in set(re.findall(r"mlflow_ae5_(\w+)", file.read_text())):
            assert re.search(rf'"(mlflow_ae5_)?{name.removesuffix("_bucket")}"', code), f"{file.name}: {name}"


def test_the_dashboard_is_whole() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert all(target["expr"] for target in panel["targets"])
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
