"""Stages 1 to 6 and 9 to 12: every row is an observed state and the changes that follow from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from runbook_support import ACCOUNT, OURS, Doors, context, deployment

from mlflow_ae5_deploy.ae5.models import User
from mlflow_ae5_deploy.engine.change import Consequence, Impact
from mlflow_ae5_deploy.engine.context import RestoreRequest
from mlflow_ae5_deploy.engine.progress import Phase
from mlflow_ae5_deploy.engine.records import DeploymentSpec
from mlflow_ae5_deploy.release.models import BuiltArchive, Release
from mlflow_ae5_deploy.release.provenance import Comparison
from mlflow_ae5_deploy.resources.before_replacing import DataState
from mlflow_ae5_deploy.resources.project import CompareProject, ReplaceProject, UploadProject, upload_project
from mlflow_ae5_deploy.resources.restore import CheckRestore
from mlflow_ae5_deploy.resources.secrets import SecretState, SetSecrets
from mlflow_ae5_deploy.resources.token import IssueToken, StoreToken
from mlflow_ae5_deploy.runbook.stages.s01_service_account import AccountState, CreateAccount, ServiceAccountStage
from mlflow_ae5_deploy.runbook.stages.s02_environment import EnvironmentStage, EnvironmentState
from mlflow_ae5_deploy.runbook.stages.s03_login import LoginStage, LoginState, SignIn
from mlflow_ae5_deploy.runbook.stages.s04_release import DownloadRelease, ReleaseStage, ReleaseState
from mlflow_ae5_deploy.runbook.stages.s05_slip_stream import BuildArchive, CustomizationState, SlipStreamStage
from mlflow_ae5_deploy.runbook.stages.s06_upload import ProjectState, UploadStage
from mlflow_ae5_deploy.runbook.stages.s09_endpoint_url import EndpointState, EndpointUrlStage, ReadUrl
from mlflow_ae5_deploy.runbook.stages.s10_store_url import StoreUrlStage, UrlSecretsState
from mlflow_ae5_deploy.runbook.stages.s11_token import TokenStage, TokenState
from mlflow_ae5_deploy.runbook.stages.s12_store_token import StoredTokenState, StoreTokenStage
from tests.no_progress import NoProgress

USER = User(id="1", username=ACCOUNT, enabled=True)
DIFFERS = ProjectState(OURS.name, OURS, Comparison(False, "It holds another release.", None))
DATA = DataState(RestoreRequest("S1", stop_server=True), servers=(deployment(),), checkable=True)
RESTORES = replace(DIFFERS, data=DATA)
UNCHECKABLE = replace(DIFFERS, data=replace(DATA, checkable=False))
ENVIRONMENT = EnvironmentState("3.11.7", None, "ae5.example.com", True, None)
RELEASE = Release("bundled", "1.0.0", "bundled", Path("x"), None, "none")
ARCHIVE = BuiltArchive(Path("x"), "f" * 64, "e" * 64, 1, {}, (), (), ())
ID, MOMENT = "a2-1", datetime(2026, 1, 1, tzinfo=UTC)
ROWS = [
    (ServiceAccountStage(), "there", AccountState(ACCOUNT, True, USER, ()), []),
    (ServiceAccountStage(), "missing", AccountState(ACCOUNT, True, None, ()), [(CreateAccount, ACCOUNT)]),
    (ServiceAccountStage(), "not looked up", AccountState(ACCOUNT, False, None, ("own",)), []),
    (LoginStage(), "signed in", LoginState(ACCOUNT, ACCOUNT, "by itself"), []),
    (LoginStage(), "no account yet", LoginState(ACCOUNT, None, ""), [(SignIn, ACCOUNT)]),
    (EnvironmentStage(), "verified", ENVIRONMENT, []),
    (EnvironmentStage(), "TLS is off", replace(ENVIRONMENT, verify_tls=False), []),
    (ReleaseStage(), "on this machine", ReleaseState("1.0.0", RELEASE), []),
    (ReleaseStage(), "not there", ReleaseState("1.0.0", None), [(DownloadRelease, "1.0.0")]),
    (SlipStreamStage(), "no release yet", CustomizationState(None, False), [(BuildArchive, "")]),
    (SlipStreamStage(), "built before", CustomizationState(ARCHIVE, True), []),
    (SlipStreamStage(), "not built before", CustomizationState(ARCHIVE, False), [(BuildArchive, "")]),
    (UploadStage(), "no project", ProjectState("p", None, None), [(UploadProject, "p")]),
    (UploadStage(), "no archive yet", ProjectState("p", OURS, None), [(CompareProject, "p")]),
    (UploadStage(), "same", replace(DIFFERS, comparison=Comparison(True, "It is the same.", None)), []),
    (UploadStage(), "differs", DIFFERS, [(ReplaceProject, OURS.name)]),
    (UploadStage(), "over a server", RESTORES, [(CheckRestore, "S1"), (ReplaceProject, OURS.name)]),
    (UploadStage(), "no job can tell", UNCHECKABLE, [(ReplaceProject, OURS.name)]),
    (UploadStage(), "nothing in use", replace(DIFFERS, data=replace(DATA, servers=())), [(ReplaceProject, OURS.name)]),
    (EndpointUrlStage(), "known", EndpointState("https://x"), []),
    (EndpointUrlStage(), "not yet", EndpointState(None), [(ReadUrl, "")]),
    (StoreUrlStage(), "stored", UrlSecretsState("https://x", (SecretState("A", "same"),)), []),
    (StoreUrlStage(), "one is new", UrlSecretsState("https://x", (SecretState("A", "new"),)), [(SetSecrets, "")]),
    (TokenStage(), "stored", TokenState(ID, {}), []),
    (TokenStage(), "no deployment", TokenState(None, {ACCOUNT: "none"}), [(IssueToken, "")]),
    (TokenStage(), "secret deleted", TokenState(ID, {ACCOUNT: "it was deleted"}), [(IssueToken, "")]),
    (StoreTokenStage(), "stored", StoredTokenState((ACCOUNT, "ann"), {}), []),
    (
        StoreTokenStage(),
        "one lacks it",
        StoredTokenState((ACCOUNT, "ann"), {"ann": "none"}),
        [(StoreToken, ACCOUNT), (StoreToken, "ann")],
    ),
]


@pytest.mark.parametrize(
    ("stage", "case", "state", "changes"), ROWS, ids=[f"{stage.name}: {case}" for stage, case, *_ in ROWS]
)
def test_changes_that_follow_from_a_state(stage, case, state, changes):
    assert [(type(change), change.name) for change in stage.diff(state).changes] == changes


def test_replacing_a_project_shows_what_its_new_server_and_the_data_get():
    server = deployment(endpoint="elsewhere", url="https://elsewhere.example.com", revision="0.1.0")
    desired = DeploymentSpec(
        name=server.name, endpoint="here", command="X", resource_profile=server.resource_profile, revision="latest"
    )
    lost = Consequence(Impact.DATA, "the database is in a file")
    data = DataState(files=(lost,), server=server, desired=desired)

    (change,) = UploadStage().diff(replace(DIFFERS, data=data)).changes

    assert change.lines == ("endpoint: elsewhere → here", f"command: {server.command} → X")
    texts = " ".join(consequence.text for consequence in change.consequences)
    assert lost in change.consequences
    assert "clients and bookmarks of https://elsewhere.example.com stop working" in texts


def test_an_upload_shows_how_many_bytes_are_sent(tmp_path):
    class Platform:
        def upload(self, _name, _archive, on_sent):
            on_sent(1000, 400)
            on_sent(1000, 1000)
            return OURS

    class Watched(NoProgress):
        def phase(self, phase):
            seen.append(phase)

        def waiting(self, what):
            seen.append(what)

    seen, where = [], context(tmp_path, doors=Doors(platform_=Platform()))
    where.progress = Watched()

    upload_project(where, OURS.name, tmp_path / "archive", lambda _content: True)

    assert seen == [Phase("uploading the project", done=400, total=1000), "the upload to be processed"]
