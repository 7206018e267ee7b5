"""The main job in one go: upload, deploy, reach it with a token, run a job, impersonate."""

from __future__ import annotations

from tests.sandbox.support import Admin, Client, credentials, new_session


def test_upload_deploy_token_job_and_impersonation_work_together(sandbox, project_archive):
    info = sandbox.info
    service_id = Admin(info).create("mlflow-service", credentials(info)["reserved"]["mlflow-service"])
    service = Admin(info).impersonate(service_id)
    assert service.get("projects") == []

    project = service.upload(project_archive, "mlflow.tracking.server").json()
    assert project["action"]["done"]
    deployment = service.deploy(project["id"], name="dev", static_endpoint="dev-mlflow")
    assert (deployment["state"], deployment["status_text"]) == ("started", "Started")

    bearer = {"Authorization": f"Bearer {service.token(deployment['id'])}"}
    answer = new_session(info).get(deployment["url"] + "api/2.0/mlflow/experiments/search", headers=bearer)
    assert answer.json() == {"experiments": []}

    service.post(f"projects/{project['id']}/jobs", service.job_body(project["id"], "gc", autorun=True))
    run = service.finished(service.get("runs")[0]["id"])
    assert run["state"] == "completed"
    assert "collecting older than 30d0h0m0s" in service.get(f"runs/{run['id']}/logs")["job"]

    assert service.call("DELETE", f"deployments/{deployment['id']}").status_code == 200
    assert Client(info, "dev-user").get("projects") == []
