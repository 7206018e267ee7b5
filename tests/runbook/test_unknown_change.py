"""A change that nothing applies is a bug that shows, not one that passes for done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_ae5_deploy.resources import scheduled_job
from mlflow_ae5_deploy.resources.deployment import MakePrivate, RestartDeployment
from mlflow_ae5_deploy.resources.project import DeleteProject, ReplaceProject
from mlflow_ae5_deploy.resources.scheduled_job import DeleteJob, PauseJob
from mlflow_ae5_deploy.runbook.stages.s06_upload import ProjectState, UploadStage
from mlflow_ae5_deploy.runbook.stages.s07_recovery import RecoveryStage
from mlflow_ae5_deploy.runbook.stages.s08_deploy import DeployStage
from mlflow_ae5_deploy.runbook.stages.s14_gc_schedule import GcScheduleStage
from tests.runbook.runbook_support import OURS, context

NOTHING: Any = SimpleNamespace(project=OURS, current=None, restore="", jobs=(), desired=SimpleNamespace(purpose="gc"))
FOREIGN = DeleteProject(reason="", name=OURS.name)
ROWS = [
    ("upload", UploadStage().apply, ProjectState("p", None, None), ReplaceProject(reason="")),
    ("upload", UploadStage().apply, ProjectState("p", OURS, None), FOREIGN),
    ("recovery", RecoveryStage().apply, NOTHING, FOREIGN),
    ("deploy", DeployStage().apply, NOTHING, RestartDeployment(reason="")),
    ("deploy", DeployStage().apply, NOTHING, MakePrivate(reason="")),
    ("deploy", DeployStage().apply, NOTHING, FOREIGN),
    ("schedule", GcScheduleStage().apply, NOTHING, FOREIGN),
    ("job", scheduled_job.apply, NOTHING, DeleteJob(reason="", purpose="gc", id="gone")),
    ("job", scheduled_job.apply, NOTHING, PauseJob(reason="", purpose="gc", id="gone")),
]


@pytest.mark.parametrize(("name", "apply", "state", "change"), ROWS, ids=[f"{r[0]}-{r[3].kind()}" for r in ROWS])
def test_it_is_not_passed_over(tmp_path, name, apply, state, change):
    with pytest.raises(AssertionError) as caught:
        apply(change, state, context(tmp_path))
    assert caught.value.args == (change,)
