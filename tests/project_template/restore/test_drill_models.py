"""Where a drill looks for the files of registered models, against a server that answers as MLflow's does."""

import hashlib

import pytest
from mlflow_ae5_server.common.errors import RepositoryFailed, Unreachable
from mlflow_ae5_server.drill.server_checks import read_models
from mlflow_ae5_server.repository.entries import FileEntry

DATA = b"model"
RUN = "mlflow-artifacts:/1/run1/artifacts"
LOGGED = "mlflow-artifacts:/1/models/m-1/artifacts"
FILES = ("1/run1/artifacts/model/MLmodel", "1/run1/artifacts/one.pkl", "1/models/m-1/artifacts/MLmodel")


class Server:
    """Answers of MLflow 3.17.2 about one registered model."""

    workspace = ""

    def __init__(self, source):
        self.answers = {
            "registered-models/search": {"registered_models": [{"name": "m", "latest_versions": [{"version": "2"}]}]},
            "model-versions/get-download-uri": {"artifact_uri": source},
            "logged-models/m-1": {"model": {"info": {"artifact_uri": LOGGED}}},
        }

    def get(self, name, /, **query):
        if query.get("run_id") == "run1":
            return {"run": {"info": {"artifact_uri": RUN}}}
        if name not in self.answers:
            raise Unreachable(f"GET {name} answered 404")
        return self.answers[name]

    def workspaces(self):
        return [""]

    def digest(self, _path):
        return len(DATA), hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{RUN}/model", "1 file (5 bytes) of 1 model"),
        (f"{RUN}/one.pkl", "1 file (5 bytes) of 1 model"),
        ("runs:/run1/model", "1 file (5 bytes) of 1 model"),
        ("models:/m-1", "1 file (5 bytes) of 1 model"),
        ("runs:/run9/model", "0 files (0 bytes) of 0 models; 1 with files outside this server"),
        ("s3://elsewhere/model", "0 files (0 bytes) of 0 models; 1 with files outside this server"),
    ],
)
def test_a_source_is_followed_to_its_files(source, message):
    sha256 = hashlib.sha256(DATA).hexdigest()
    files = [FileEntry(path, "file", len(DATA), sha256, 0, "", ()) for path in FILES]

    server = Server(source)

    assert read_models(server, (), files).message() == message


@pytest.mark.parametrize("others", [{}, {"other": f"{RUN}/model"}])
def test_models_of_which_none_has_files_in_the_snapshot_do_not_read_back(others):
    files = [FileEntry(path, "file", len(DATA), hashlib.sha256(DATA).hexdigest(), 0, "", ()) for path in FILES]

    server = Several({"gone": f"{RUN}/gone", "elsewhere": "s3://elsewhere/model", **others})
    found = read_models(server, (), files)

    if others:
        assert "1 without files in the snapshot" in found.message()
        return
    with pytest.raises(RepositoryFailed, match=r"1 without files in the snapshot: .* probably not mounted"):
        found.message()


class Several(Server):
    """Of several models, each with one version."""

    def __init__(self, sources):
        super().__init__("")
        self.sources = sources
        models = [{"name": name, "latest_versions": [{"version": "1"}]} for name in sources]
        self.answers["registered-models/search"] = {"registered_models": models}

    def get(self, name, /, **query):
        if name == "model-versions/get-download-uri":
            return {"artifact_uri": self.sources[query["name"]]}
        return super().get(name, **query)
