"""Jobs notify of a failure and of the recovery, once each, at receivers that run here."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow_ae5_server import notify
from mlflow_ae5_server.common import apprise_messages
from mlflow_ae5_server.common.settings import NOTIFY_URLS, Settings, resolve

from tests import receivers
from tests.project_template.conftest import Project
from tests.receivers import SECRET, Webhook

FIXTURE = Path(__file__).parent / "fixtures/mlflow-2.22.0.sqlite.gz"
NOW = datetime(2026, 11, 30, 2, 31, tzinfo=UTC)
DONE = {"outcome": "done", "exit_code": 0, "seconds": 1.0}
BACKUP = {"command": "Backup", "action": "create"}
WELL = {**BACKUP, **DONE}
FULL = {
    **BACKUP,
    **DONE,
    "outcome": "failed",
    "exit_code": 28,
    "error": "no space left",
    "hint": "free disk space there",
}


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with receivers.webhook() as found:
        yield found


def settings_for(folder: Path, *urls: str, **more: str) -> Settings:
    (folder / "artifacts.outcomes").mkdir(exist_ok=True)
    environ = {"MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"), NOTIFY_URLS: " ".join(urls), **more}
    return resolve(environ, {}, {})


def test_a_job_notifies_of_a_failure_and_of_the_recovery_once_each(project: Project, webhook: Webhook) -> None:
    data = project.folder / "data/mlflow/standalone"
    project.secret(NOTIFY_URLS, f"{webhook.url} {receivers.dead()}")
    project.secret("MLFLOW_TRACKING_URI", "https://mlflow.example.com")

    (data / "store").mkdir(parents=True)

    failed = [project.run("Backup"), project.run("Backup")]
    (data / "store/mydb.sqlite").write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    (data / "artifacts/0/run").mkdir(parents=True)
    (data / "artifacts/0/run/a").write_bytes(b"a")
    worked = project.run("Backup", MLFLOW_TRACKING_BACKUP_ARGUMENTS="create --allow-external")

    assert [ended.code for ended in (*failed, worked)] == [3, 3, 0]
    assert webhook.titles == ["MLflow: backup failed", "MLflow: backup works again"]
    text = webhook.messages[0][1]
    assert text.startswith(
        "What: there is no database sqlite:///data/mlflow/standalone/store/mydb.sqlite (exit code 3)"
    )
    assert "\nWhere: https://mlflow.example.com, job Backup, 20" in text
    assert "\nWhat to do: " in text
    assert "warning: notify.urls.1 did not accept the message: no connection\n" in failed[0].stderr
    for ended in (*failed, worked):
        assert SECRET not in ended.output
        assert "json://" not in ended.output


EVENTS: list[tuple[str, list[dict[str, Any]], list[str]]] = [
    ("well", [WELL], []),
    ("failed", [FULL], ["backup failed"]),
    ("failed twice", [FULL, {**FULL, "error": "another reason"}], ["backup failed"]),
    ("failed, well, failed", [FULL, WELL, FULL], ["backup failed", "backup works again", "backup failed"]),
    ("another kind failed too", [FULL, {**FULL, "command": "Drill"}], ["backup failed", "drill failed"]),
    ("incomplete", [{**WELL, "outcome": "incomplete", "exit_code": 23}], ["backup is incomplete"]),
    ("a check", [{**FULL, "action": "verify"}], ["backup check failed"]),
    ("interrupted", [{**FULL, "outcome": "interrupted", "exit_code": 143}], ["backup failed"]),
    ("only looked", [{**FULL, "action": "list"}, {**FULL, "command": "Check"}, {**FULL, "command": "Restore"}], []),
    ("a preview", [{**FULL, "command": "GarbageCollection", "dry_run": True}], []),
    ("collection skipped after a failure", [{**FULL, "command": "GarbageCollection"},
     {"command": "GarbageCollection", **DONE, "outcome": "skipped"}], ["garbage collection failed"]),
    ("only the prune failed", [{**WELL, "prune_error": "no"}], ["prune of backups failed"]),
    ("and works again", [{**WELL, "prune_error": "no"}, {**WELL, "kept": ["S1"]}],
     ["prune of backups failed", "prune of backups works again"]),
    ("no backup says nothing of a prune", [{**WELL, "prune_error": "no"}, FULL],
     ["prune of backups failed", "backup failed"]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "reports", "titles"), EVENTS, ids=[row[0] for row in EVENTS])
def test_what_is_notified(tmp_path: Path, case: str, reports: list[dict[str, Any]], titles: list[str]) -> None:
    sent: list[str] = []

    def send(urls: Any, title: str, _text: str) -> list[str]:
        sent.append(title.removeprefix("MLflow: "))
        return [""] * len(urls)

    for report in reports:
        notify.about(settings_for(tmp_path, "json://127.0.0.1"), report, send, NOW)

    assert sent == titles


def test_a_prune_that_failed_has_no_exit_code_of_its_own(tmp_path: Path) -> None:
    texts: list[str] = []

    def send(_urls: Any, _title: str, text: str) -> list[str]:
        texts.append(text)
        return [""]

    failed = {**WELL, "prune_error": "no list", "prune_hint": "bring it back"}
    notify.about(settings_for(tmp_path, "json://127.0.0.1"), failed, send, NOW)

    where = "Where: this MLflow server, job Backup, 2026-11-30 02:31 UTC"
    assert texts == [f"What: no list\n{where}\nWhat to do: bring it back"]


def test_every_receiver_gets_its_chance(webhook: Webhook, capsys: pytest.CaptureFixture[str]) -> None:
    with receivers.mail_server() as (mail, mails), receivers.webhook() as broken:
        broken.status = 500
        urls = [receivers.dead(), broken.url, "nonsense", f"foo://{SECRET}", mail, webhook.url]

        refused = apprise_messages.send(urls, "MLflow: drill failed", "What: no")

    assert refused == ["no connection", "HTTP 500", *["the reason is not known"] * 2, "", ""]
    assert webhook.messages == [("MLflow: drill failed", "What: no")]
    assert [title for title, _text in mails] == ["MLflow: drill failed"]
    assert "What: no" in mails[0][1]
    assert SECRET not in "".join(capsys.readouterr())


def test_a_receiver_that_never_answers_is_left_behind() -> None:
    with receivers.deaf() as deaf:
        assert apprise_messages.send([deaf], "title", "text", limit=0.5) == ["no answer within 0.5 s"]


def test_what_no_receiver_accepted_is_sent_by_the_next_run(tmp_path: Path, webhook: Webhook) -> None:
    webhook.status = 500
    notify.about(settings_for(tmp_path, webhook.url), FULL, now=NOW)
    webhook.status = 200
    for _ in range(2):
        notify.about(settings_for(tmp_path, webhook.url), FULL, now=NOW)

    assert webhook.messages == [
        (
            "MLflow: backup failed",
            "What: no space left (exit code 28)\nWhere: this MLflow server, job Backup, 2026-11-30 02:31 UTC\n"
            "What to do: free disk space there",
        )
    ]


def test_where_nothing_can_be_recorded_each_failure_is_notified(
    tmp_path: Path, webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path)
    settings = settings_for(tmp_path.parent, webhook.url, MLFLOW_ARTIFACTS_DESTINATION="s3://a/b",
                            MLFLOW_BACKEND_STORE_URI="postgresql://h/d",
                            MLFLOW_TRACKING_BACKUP_DESTINATION=str(tmp_path))  # fmt: skip
    for report in (FULL, FULL, WELL):
        notify.about(settings, report, now=NOW)

    assert webhook.titles == ["MLflow: backup failed"] * 2
    assert "it is not known which failures were notified" in capsys.readouterr().err
