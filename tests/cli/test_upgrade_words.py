"""What a rehearsal tells of the schema: every migration by its revision, in the words of whoever wrote it."""

from __future__ import annotations

import io

from mlflow_ae5_deploy.engine.job_result import JobResult
from mlflow_ae5_deploy.render.console import Reporter
from mlflow_ae5_deploy.render.upgrade import show_rehearsal


def shown(*migrations: object) -> str:
    out = io.StringIO()
    job_result = JobResult(
        "a2-1", "completed", "rehearsed", 0, "the schema would go from a to b", {"migrations": migrations}
    )
    show_rehearsal(Reporter(out=out, err=out), job_result)
    return out.getvalue()


def test_migrations_are_shown_with_their_messages():
    text = shown({"revision": "867495a8f9d4", "what": "add trace tables"}, {"revision": "bf29a5ff90ea"})

    lines = [line.strip() for line in text.splitlines()]
    assert lines[1:] == ["867495a8f9d4  add trace tables", "bf29a5ff90ea"]


def test_a_release_that_reports_revisions_only_is_understood():
    assert shown("867495a8f9d4").splitlines()[1].strip() == "867495a8f9d4"
