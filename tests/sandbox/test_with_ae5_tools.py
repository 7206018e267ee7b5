"""The unmodified ae5-tools against the sandbox: its Python API, then its `ae5` command.

This is what keeps the sandbox honest: it was written from what ae5-tools does, and here ae5-tools does it.
"""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.support import PROJECT_FILE, credentials, make_project_archive, new_session, wait_for

pytest.importorskip("ae5_tools", reason="ae5-tools is not installed here (conda channel ae5-admin)")


@pytest.fixture(scope="module")
def ae5(sandbox, tmp_path_factory):
    """The module ae5_tools.api, keeping its files below the test's folder and verifying certificates."""
    folder = tmp_path_factory.mktemp("ae5-config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE5_TOOLS_CONFIG_DIR", str(folder))
        patch.setenv("REQUESTS_CA_BUNDLE", str(sandbox.info.ca_file))
        patch.setenv("AE5_TLS_VERIFY", "true")
        from ae5_tools import api
        from ae5_tools.config import config

        # The folder is taken from the environment at import, which may have been for another module's test.
        patch.setattr(config, "_path", str(folder))
        (folder / "cookies").mkdir(mode=0o700, exist_ok=True)
        (folder / "tokens").mkdir(mode=0o700, exist_ok=True)
        yield api


@pytest.fixture(scope="module")
def admin(ae5, sandbox):
    login = credentials(sandbox.info)["admin"]
    return ae5.AEAdminSession(sandbox.info.hostname, login["username"], login["password"], persist=False)


@pytest.fixture(scope="module")
def user(ae5, sandbox):
    password = credentials(sandbox.info)["users"]["dev-user"]
    return ae5.AEUserSession(sandbox.info.hostname, "dev-user", password, persist=False)


@pytest.fixture(scope="module")
def project(user, project_archive):
    return user.project_upload(str(project_archive), "shared.project", "1.2.3")


def create_user(admin: Any, name: str, **changes: Any) -> None:
    values: dict[str, Any] = {"email": f"{name}@example.invalid", "firstname": "A", "lastname": "B", "enabled": True}
    values |= {"email_verified": True, "password": "pw-of-the-test", "password_temporary": False}
    admin.user_create(name, **(values | changes))


# -- login ------------------------------------------------------------------------------------


def test_a_wrong_password_is_refused(ae5, sandbox):
    session = ae5.AEUserSession(sandbox.info.hostname, "dev-user", "wrong", persist=False)
    with pytest.raises(ae5.AEException, match="Invalid username or password"):
        session.project_list()


@pytest.mark.parametrize("trouble", [{"enabled": False}, {"password_temporary": True}])
def test_accounts_that_may_not_sign_in(ae5, admin, sandbox, trouble):
    name = f"no-{next(iter(trouble)).replace('_', '-')}"
    create_user(admin, name, **trouble)
    with pytest.raises(ae5.AEException, match="Invalid username or password"):
        ae5.AEUserSession(sandbox.info.hostname, name, "pw-of-the-test", persist=False).project_list()


def test_a_saved_session_needs_no_password_and_logout_ends_it(ae5, sandbox):
    host = sandbox.info.hostname
    first = ae5.AEUserSession(host, "dev-user", credentials(sandbox.info)["users"]["dev-user"], persist=True)
    first.project_list()
    assert stat.S_IMODE(Path(first._filename).stat().st_mode) == 0o600

    second = ae5.AEUserSession(host, "dev-user", "not needed", persist=True)
    assert second.connected
    second.project_list()
    saved = list(second.session.cookies)
    second.disconnect()

    stolen = new_session(sandbox.info)
    for cookie in saved:
        stolen.cookies.set_cookie(cookie)
    assert stolen.get(f"https://{host}/api/v2/projects", allow_redirects=False).status_code == 401


def test_admin_login_and_its_saved_token(ae5, sandbox):
    host, login = sandbox.info.hostname, credentials(sandbox.info)["admin"]
    first = ae5.AEAdminSession(host, login["username"], login["password"], persist=True)
    first.user_list(fast=True)
    second = ae5.AEAdminSession(host, login["username"], "not needed", persist=True)
    assert second.connected
    second.user_list(fast=True)
    second.disconnect()
    wrong = ae5.AEAdminSession(host, login["username"], "wrong", persist=False)
    with pytest.raises(ae5.AEException, match="Invalid username or password"):
        wrong.user_list()


def test_an_expired_admin_token_is_replaced(ae5, sandbox):
    sandbox.control.change_settings(access_token_seconds=0)
    login = credentials(sandbox.info)["admin"]
    session = ae5.AEAdminSession(sandbox.info.hostname, login["username"], login["password"], persist=False)
    session.authorize()
    sandbox.control.change_settings(access_token_seconds=60)
    assert session.user_list(fast=True)


# -- users ------------------------------------------------------------------------------------


def test_users_roles_and_impersonation(ae5, admin, sandbox):
    create_user(admin, "service")
    record = admin.user_info("service")
    assert record["realm_groups"] == ["everyone"]
    assert record["realm_roles"] == ["default-roles-anacondaplatform"]
    assert record["lastLogin"] == 0

    admin.user_roles_add("service", ["ae-deployer"])
    assert "ae-deployer" in admin.user_info("service")["realm_roles"]
    admin.user_roles_remove("service", ["ae-deployer"])
    assert "ae-deployer" not in admin.user_info("service")["realm_roles"]

    as_service = ae5.AEUserSession(sandbox.info.hostname, "service", admin, persist=False)
    as_service.secret_add("WHOSE", "of the service account")
    assert as_service.secret_list() == [{"secret_name": "WHOSE"}]
    assert admin.user_info("service")["lastLogin"] == 0, "an impersonation is no login"
    ae5.AEUserSession(sandbox.info.hostname, "service", "pw-of-the-test", persist=False).secret_list()
    assert admin.user_info("service")["lastLogin"] > 0
    assert any(event["type"] == "LOGIN" for event in admin.user_events())

    with pytest.raises(ae5.AEException, match="409 User exists"):
        create_user(admin, "service")
    admin.user_delete("service")
    assert "service" not in {u["username"] for u in admin.user_list()}


# -- projects ---------------------------------------------------------------------------------


def test_ae5_tools_uploads_lists_and_deletes_projects(ae5, admin, user, project, project_archive, tmp_path):
    assert project["id"].startswith("a0-")
    assert project["id"] in {p["id"] for p in user.project_list()}
    assert user.project_info("dev-user/shared.project")["id"] == project["id"]
    with pytest.raises(ae5.AEException, match="400 Project name is not unique"):
        user.project_upload(str(project_archive), "shared.project", None)

    assert user.project_patch(project, editor="notebook", resource_profile="large")["id"] == project["id"]
    changed = user.project_info("shared.project")
    assert (changed["editor"], changed["resource_profile"]) == ("notebook", "large")
    user.project_patch(changed, resource_profile="default")

    activity = user.project_activity("shared.project", latest=True)
    assert (activity["type"], activity["done"], activity["error"]) == ("create_action", True, False)

    create_user(admin, "colleague")
    assert user.project_collaborator_list(project) == []
    user.project_collaborator_add(project, "colleague", read_only=True)
    user.project_collaborator_add(project, "everyone", group=True)
    found = {(c["id"], c["type"], c["permission"]) for c in user.project_collaborator_list(project)}
    assert found == {("colleague", "user", "r"), ("everyone", "group", "rw")}
    user.project_collaborator_remove(project, ("colleague", "everyone"))
    assert user.project_collaborator_list(project) == []

    user.project_download("shared.project", str(tmp_path / "down.tar.gz"))
    with tarfile.open(tmp_path / "down.tar.gz") as tar:
        names = tar.getnames()
    assert {n.partition("/")[0] for n in names} == {f"dev-user-{project['id'][3:]}"}
    assert any(n.endswith("/anaconda-project.yml") for n in names)


def test_a_slow_upload_is_waited_for(sandbox, user, project_archive):
    """ae5-tools polls the activity until the action is done, and then the list until the project is in it."""
    sandbox.control.change_settings(state_polls=2, list_visibility_polls=2)
    try:
        record = user.project_upload(str(project_archive), "slow", None)
    finally:
        sandbox.control.change_settings(state_polls=0, list_visibility_polls=0)
    assert record["name"] == "slow"
    user.project_delete(record)


def test_uploading_a_folder_and_deleting_it(ae5, user, tmp_path):
    folder = tmp_path / "a-folder"
    folder.mkdir()
    (folder / "anaconda-project.yml").write_text(PROJECT_FILE)
    (folder / "app.py").write_text("print('hello')\n")
    record = user.project_upload(str(folder), None, None)
    assert record["name"] == "a-folder"
    assert [r["name"] for r in user.revision_list(record)] == ["0.0.1"]
    user.project_delete(record)
    with pytest.raises(ae5.AEException, match="No projects found"):
        user.project_info("a-folder")


def test_ae5_tools_lists_and_downloads_revisions(user, project):
    (revision,) = user.revision_list("shared.project")
    assert (revision["id"], revision["name"], revision["latest"]) == ("1.2.3", "1.2.3", True)
    assert revision["project_id"] == project["id"]
    commands = {c["id"]: c for c in user.revision_commands("shared.project:1.2.3")}
    assert list(commands) == ["TrackingServer", "GarbageCollection", "Crash", "Fail", "Sleep"]
    assert commands["TrackingServer"]["supports_http_options"] is True


def settled(user: Any, deployment: Any) -> Any:
    """ae5-tools' own wait looks every two seconds; this one is for tests of something else."""

    def probe() -> Any:
        record = user.deployment_info(deployment["id"])
        return None if record["state"] in ("initial", "starting") else record

    return wait_for(probe, "the deployment")


# -- deployments ------------------------------------------------------------------------------


def test_the_life_of_a_deployment(ae5, user, project, sandbox):
    started = user.deployment_start(project, name="life", endpoint="life-of", command="TrackingServer")
    assert started["state"] == "started"
    assert user.deployment_info("life")["id"] == started["id"]
    assert set(user.deployment_logs(started)) == {"app", "events", "name", "proxy"}
    assert "The project is ready to run commands." in user.deployment_logs(started, which="app")
    assert "App Proxy is fully operational!" in user.deployment_logs(started, which="proxy")

    with pytest.raises(ae5.AEException, match="400 Deployment name is not unique"):
        user.deployment_start(project, name="life", endpoint="other-end", command="TrackingServer")
    with pytest.raises(ae5.AEException, match="already in use"):
        user.deployment_start(project, name="twin", endpoint="life-of", command="TrackingServer")

    token = user.deployment_token(started)
    outside = new_session(sandbox.info)
    health = {
        "url": started["url"] + "health",
        "headers": {"Authorization": f"Bearer {token}"},
        "allow_redirects": False,
    }
    assert outside.get(**health).text == "OK"

    assert user.deployment_collaborator_list(started) == []
    user.deployment_collaborator_add(started, "everyone", group=True)
    (collaborator,) = user.deployment_collaborator_list(started)
    assert (collaborator["id"], collaborator["type"], collaborator["permission"]) == ("everyone", "group", "r")

    patched = user.deployment_patch(started, public=True)
    assert patched["public"] is True
    user.deployment_patch(patched, public=False)

    again = settled(user, user.deployment_restart(started, wait=False))
    assert again["id"] != started["id"]
    assert (again["name"], again["url"]) == ("life", started["url"])
    assert [c["id"] for c in user.deployment_collaborator_list(again)] == ["everyone"]
    assert outside.get(**health).status_code == 401

    user.deployment_collaborator_remove(again, "everyone")
    assert "life-of" in {e["id"] for e in user.endpoint_list()}
    user.deployment_stop(again)
    assert "life" not in {d["name"] for d in user.deployment_list()}
    endpoint = next(e for e in user.endpoint_list() if e["id"] == "life-of")
    assert (endpoint["project_name"], endpoint["deployment_id"]) == ("shared.project", "")


def test_restarting_a_deployment_without_a_static_endpoint(user, project):
    first = settled(user, user.deployment_start(project, name="no-endpoint", command="TrackingServer", wait=False))
    second = settled(user, user.deployment_restart(first, wait=False))
    assert (first["state"], second["state"]) == ("started", "started")
    user.deployment_stop(second)


def test_a_broken_command_fails_with_the_platforms_text(ae5, user, project):
    failed = settled(user, user.deployment_start(project, name="broken", command="Crash", wait=False))
    assert failed["state"] == "failed"
    assert "something is broken" in user.deployment_logs(failed, which="app")
    user.deployment_stop(failed)
    with pytest.raises(ae5.AEException, match="Error completing deployment start: App failed to run"):
        user.deployment_start(project, name="broken", command="Crash", stop_on_error=True)
    assert "broken" not in {d["name"] for d in user.deployment_list()}


# -- jobs, runs, secrets, profiles ------------------------------------------------------------


@pytest.fixture
def runs_outlive_jobs(sandbox):
    """As on older versions of the platform."""
    sandbox.control.change_settings(job_delete_keeps_runs=True)
    yield
    sandbox.control.change_settings(job_delete_keeps_runs=False)


@pytest.mark.usefixtures("runs_outlive_jobs")
def test_ae5_tools_creates_and_runs_jobs(ae5, user, project, sandbox):
    variables = {"MLFLOW_TRACKING_GC_TTL": "7d0h0m0s"}
    job = user.job_create(project, schedule="*/10 * * * *", name="gc", command="GarbageCollection", variables=variables)
    assert (job["schedule"], job["state"], job["variables"]) == ("*/10 * * * *", "scheduled", variables)
    assert user.job_info("gc")["id"] == job["id"]
    assert user.job_pause(job)["state"] == "paused"
    assert user.job_unpause(job)["state"] == "scheduled"

    run = user.job_run(job)
    assert run["name"] == "gc"
    wait_for(lambda: user.run_info(run["id"])["state"] == "completed", "the run")
    assert "collecting older than 7d0h0m0s" in user.run_log(run["id"])

    with pytest.raises(ae5.AEException, match="400 Invalid schedule"):
        user.job_create(project, schedule="*/8 * * * *", name="odd", command="GarbageCollection")
    user.job_delete(job)
    with pytest.raises(ae5.AEException, match="400 Job name is not unique: gc is the name of an earlier run"):
        user.job_create(project, schedule="*/10 * * * *", name="gc", command="GarbageCollection")
    user.run_delete(run["id"])
    again = user.job_create(project, schedule="*/10 * * * *", name="gc", command="GarbageCollection")
    user.job_delete(again)


def test_stopping_a_run_and_deleting_its_job(ae5, user, project):
    job = user.job_create(project, name="sleeper", command="Sleep", run=True)
    (run,) = user.job_runs(job)
    wait_for(lambda: user.run_info(run["id"])["state"] == "running", "the run to begin")
    with pytest.raises(ae5.AEException, match="400 Job has an active run"):
        user.job_delete(job)
    user.run_stop(run["id"])
    assert user.run_info(run["id"])["state"] == "stopped"
    user.job_delete(job)
    assert run["id"] not in {r["id"] for r in user.run_list()}


def test_ae5_tools_reports_a_failing_run(user, project):
    job = user.job_create(project, name="failing", command="Fail", run=True, show_run=True)
    wait_for(lambda: user.run_info(job["id"])["state"] == "failed", "the run to fail")
    assert "this run fails" in user.run_log(job["id"])
    # A name made by ae5-tools stays clear of jobs and of leftover runs.
    made = user.job_create(project, command="Fail", schedule="0 0 1 1 *")
    assert made["name"] == "Fail-shared.project"
    user.job_delete(made)
    user.job_delete(user.job_info("failing"))


def test_ae5_tools_sets_lists_and_deletes_secrets(ae5, user):
    user.secret_add("DB_URI", "first")
    user.secret_add("DB_URI", "second")
    assert {"secret_name": "DB_URI"} in user.secret_list()
    user.secret_delete("DB_URI")
    assert user.secret_list() == []
    with pytest.raises(ae5.AEException, match="was not found"):
        user.secret_delete("DB_URI")


def test_profiles_editors_samples_sessions(user, project):
    profiles = {p["name"]: p for p in user.resource_profile_list()}
    assert set(profiles) == {"default", "large"}
    assert int(profiles["large"]["cpu"]) >= int(profiles["default"]["cpu"]) >= 1
    assert user.resource_profile_info("default")["memory"] == "4096MB"
    assert user.editor_info("jupyterlab")["is_default"] is True
    assert list(user.sample_list()) == []
    assert list(user.session_list()) == []
    assert list(user.project_sessions(project)) == []


# -- the command ------------------------------------------------------------------------------


class Ae5Command:
    """Runs `ae5` with a configuration folder of its own and nothing else from this environment."""

    def __init__(self, info: Any, folder: Path) -> None:
        logins = credentials(info)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AE5_TOOLS_CONFIG_DIR": str(folder / "config"),
            "AE5_HOSTNAME": info.hostname,
            "AE5_USERNAME": "dev-user",
            "AE5_PASSWORD": logins["users"]["dev-user"],
            "AE5_ADMIN_USERNAME": logins["admin"]["username"],
            "AE5_ADMIN_PASSWORD": logins["admin"]["password"],
            "REQUESTS_CA_BUNDLE": str(info.ca_file),
        }

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("ae5")
        return subprocess.run(
            [str(program), *arguments],
            env=self.env | env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=200,
            check=False,
        )

    def json(self, *arguments: str, **env: str) -> Any:
        done = self.run(*arguments, "--format", "json", **env)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout) if done.stdout.strip() else None

    def fails(self, *arguments: str, **env: str) -> str:
        done = self.run(*arguments, **env)
        assert done.returncode == 1
        return done.stderr


@pytest.fixture(scope="module")
def command(sandbox, tmp_path_factory):
    return Ae5Command(sandbox.info, tmp_path_factory.mktemp("ae5-command"))


def test_command_login_logout_users(command, tmp_path):
    elsewhere = {"AE5_TOOLS_CONFIG_DIR": str(tmp_path / "other")}
    assert "Invalid username or password" in command.fails("login", AE5_PASSWORD="wrong", **elsewhere)
    assert command.run("login").returncode == 0
    assert command.run("login", "--admin").returncode == 0
    assert "dev-user" in {u["username"] for u in command.json("user", "list")}
    flags = ["--username", "cli-user", "--email", "c@example.invalid", "--firstname", "C", "--lastname", "L"]
    flags += ["--enabled", "true", "--email-verified", "true", "--password", "pw", "--password-temporary", "false"]
    # Here --username and --password mean the account to act on, and must not differ from the variables to log in with.
    same = {"AE5_USERNAME": "cli-user", "AE5_PASSWORD": "pw"}
    assert command.run("user", "create", *flags, **same).returncode == 0
    assert command.run("role", "add", "--username", "cli-user", "--role", "ae-deployer", **same).returncode == 0
    # `ae5 user info NAME` breaks inside ae5-tools with recent versions of click, whatever the server answers.
    found = {u["username"]: u for u in command.json("user", "list")}
    assert "ae-deployer" in found["cli-user"]["realm_roles"]
    assert command.json("secret", "list", AE5_IMPERSONATE="1", AE5_USERNAME="cli-user", **elsewhere) == []
    assert command.run("user", "delete", "--username", "cli-user", **same).returncode == 0
    assert command.run("logout").returncode == 0


def test_command_project_deployment_job(command, project_archive, tmp_path):
    record = command.json("project", "upload", str(project_archive), "--name", "by-command", "--tag", "2.0")
    assert command.json("project", "info", "by-command")["id"] == record["id"]
    assert [r["name"] for r in command.json("project", "revision", "list", "by-command")] == ["2.0"]
    assert command.json("project", "activity", "by-command")[0]["done"] is True

    start = ["by-command", "--name", "cli", "--endpoint", "by-command", "--command", "TrackingServer", "--private"]
    deployment = command.json("deployment", "start", *start, "--wait")
    assert deployment["state"] == "started"
    token = command.run("deployment", "token", "cli").stdout.strip()
    assert token.count(".") == 2
    assert "ready to run commands" in command.run("deployment", "logs", "cli").stdout
    command.json("deployment", "collaborator", "add", "cli", "everyone", "--group")
    assert command.json("deployment", "collaborator", "list", "cli")[0]["id"] == "everyone"
    assert "by-command" in {e["id"] for e in command.json("endpoint", "list")}
    assert command.run("deployment", "stop", "cli", "--yes").returncode == 0

    create = ["by-command", "--name", "cli-gc", "--command", "GarbageCollection", "--schedule", "*/10 * * * *"]
    job = command.json("job", "create", *create, "--variable", "MLFLOW_TRACKING_GC_TTL=1d0h0m0s")
    assert job["variables"] == {"MLFLOW_TRACKING_GC_TTL": "1d0h0m0s"}
    run = command.json("job", "run", "cli-gc")
    wait_for(lambda: command.json("run", "info", run["id"])["state"] == "completed", "the run")
    assert "1d0h0m0s" in command.run("run", "log", run["id"]).stdout
    assert command.run("job", "pause", "cli-gc").returncode == 0
    assert command.json("job", "info", "cli-gc")["state"] == "paused"
    assert command.run("run", "delete", run["id"], "--yes").returncode == 0
    assert command.run("job", "delete", "cli-gc", "--yes").returncode == 0

    assert command.run("secret", "add", "A_NAME", "a value").returncode == 0
    assert [s["secret_name"] for s in command.json("secret", "list")] == ["A_NAME"]
    assert command.run("secret", "delete", "A_NAME", "--yes").returncode == 0
    assert {p["name"] for p in command.json("resource-profile", "list")} == {"default", "large"}
    assert command.json("editor", "list")

    target = tmp_path / "by-command.tar.gz"
    assert command.run("project", "download", "by-command", "--filename", str(target)).returncode == 0
    assert tarfile.is_tarfile(io.BytesIO(target.read_bytes()))
    assert command.run("project", "delete", "by-command", "--yes").returncode == 0


def test_a_broken_archive_is_refused(ae5, user, tmp_path):
    archive = make_project_archive(tmp_path / "bad.tar.gz", project_file="commands: [")
    with pytest.raises(ae5.AEException, match=r"400 anaconda-project\.yml is not valid YAML"):
        user.project_upload(str(archive), "bad", None)
