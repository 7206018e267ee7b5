"""Check a restored server: do what users do, and read registered models back."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mlflow_ae5_server.common.errors import ProjectError, RepositoryFailed, SnapshotDamaged, Unreachable
from mlflow_ae5_server.common.text import counted, counted_files, shown
from mlflow_ae5_server.database.contents import DatabasePart
from mlflow_ae5_server.drill.api import DEFAULT, MlflowApi
from mlflow_ae5_server.gc.locations import SERVER, WORKSPACES, workspace_of
from mlflow_ae5_server.repository.entries import FileEntry

_PAGE = 100
MAX_BYTES = 4 * 1024**3  # of models read back; `backup verify` reads everything
Step = Callable[[], str]  # returns the detail of its check; raises ProjectError


@dataclass
class Check:
    """One line of a drill's result."""

    name: str
    passed: bool
    detail: str
    damage: bool = False  # the snapshot seems to be damaged

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "passed": self.passed, "detail": self.detail}


@dataclass
class ServerUse:
    """Work on the server as a user would; the steps build on each other."""

    api: MlflowApi
    name: str = field(default_factory=lambda: f"mlflow-ae5-drill-{secrets.token_hex(6)}")
    experiment: str = ""
    run: str = ""
    root: str = ""  # the run's artifacts, relative to the artifact destination

    def steps(self) -> list[tuple[str, Step]]:
        return [
            ("experiment and run", self._create),
            ("metric and parameter", self._log),
            ("artifact through the server", self._artifact),
            ("model version", self._register),
            ("clean up", self._clean_up),
        ]

    def _create(self) -> str:
        self.experiment = self.api.post("experiments/create", name=self.name)["experiment_id"]
        info = self.api.post("runs/create", experiment_id=self.experiment, run_name=self.name)["run"]["info"]
        self.run = info["run_id"]
        root = relative(info["artifact_uri"])
        if root is None:
            raise Unreachable(f"a new run stores its artifacts at {info['artifact_uri']}, not behind the server")
        self.root = root
        return f"created experiment {self.experiment} and run {self.run}"

    def _log(self) -> str:
        now = int(time.time() * 1000)
        self.api.post("runs/log-metric", run_id=self.run, key="drill", value=0.25, timestamp=now, step=3)
        self.api.post("runs/log-parameter", run_id=self.run, key="name", value=self.name)
        self.api.post("runs/update", run_id=self.run, status="FINISHED", end_time=now)
        data = self.api.get("runs/get", run_id=self.run)["run"]["data"]
        metrics = {entry["key"]: (entry["value"], int(entry["step"])) for entry in data.get("metrics", [])}
        parameters = {entry["key"]: entry["value"] for entry in data.get("params", [])}
        if metrics != {"drill": (0.25, 3)} or parameters != {"name": self.name}:
            raise Unreachable(f"logged one metric and one parameter, and read {metrics} and {parameters}")
        return "logged and read back"

    def _artifact(self) -> str:
        data = secrets.token_bytes(300_000)
        path = f"{self.root}/model/drill.bin"
        self.api.upload(path, data)
        if self.api.digest(path) != (len(data), hashlib.sha256(data).hexdigest()):
            raise Unreachable("the downloaded artifact differs from the uploaded one")
        return f"uploaded and downloaded {len(data)} bytes, identical"

    def _register(self) -> str:
        self.api.post("registered-models/create", name=self.name)
        source = f"{SERVER}/{self.root}/model"
        created = self.api.post("model-versions/create", name=self.name, source=source, run_id=self.run)
        version = created["model_version"]["version"]
        uri = self.api.get("model-versions/get-download-uri", name=self.name, version=version)["artifact_uri"]
        if relative(uri) != f"{self.root}/model":
            raise Unreachable(f"registered a version of {source}, and its address is {uri}")
        return f"registered version {version}"

    def _clean_up(self) -> str:
        self.api.delete("registered-models/delete", name=self.name)
        self.api.remove(f"{self.root}/model/drill.bin")
        self.api.post("runs/delete", run_id=self.run)
        self.api.post("experiments/delete", experiment_id=self.experiment)
        return "deleted all test data of this drill"


def use(api: MlflowApi) -> list[Check]:
    """Work on the server; the first failed step is the last."""
    checks = []
    for name, step in ServerUse(api).steps():
        check = attempt(name, step)
        checks.append(check)
        if not check.passed:
            break
    return checks


def attempt(name: str, step: Step) -> Check:
    try:
        return Check(name, True, step())
    except ProjectError as error:
        return Check(name, False, error.message, isinstance(error, SnapshotDamaged))
    except (KeyError, TypeError, ValueError) as error:  # of an answer with another structure
        return Check(name, False, f"unexpected answer: {type(error).__name__}: {error}")


# Models


@dataclass
class ReadBack:
    """The result of reading registered models through the server."""

    models: int = 0
    files: int = 0
    bytes: int = 0
    outside: int = 0  # models with files that are not behind this server
    without_files: int = 0  # models without files in the snapshot
    left_out: int = 0  # models that would exceed `max_bytes`
    wrong: list[str] = field(default_factory=list)  # a message for each wrong file

    def message(self) -> str:
        """The detail of the check.

        Raises SnapshotDamaged where a file is not the snapshot's, RepositoryFailed where there are models and the
        snapshot has no file of any.
        """
        text = f"{counted_files(self.files, self.bytes)} of {counted(self.models, 'models')}"
        for count, what in (
            (self.outside, "with files outside this server"),
            (self.without_files, "without files in the snapshot"),
            (self.left_out, "skipped to save time"),
        ):
            text += f"; {count} {what}" if count else ""
        if self.wrong:
            raise SnapshotDamaged(f"{text}; {len(self.wrong)} wrong: {'; '.join(self.wrong[:5])}")
        if self.without_files and not self.models and not self.left_out:
            raise RepositoryFailed(f"{text}: the artifact store was probably not mounted when the snapshot was taken")
        return text


def count(api: MlflowApi, part: DatabasePart) -> str:
    """Check the server's number of experiments. Raises SnapshotDamaged."""
    experiments = set[str]()
    for _workspace in each_workspace(api):
        for page in _pages(lambda **token: api.post("experiments/search", max_results=1000, view_type="ALL", **token)):
            experiments.update(entry["experiment_id"] for entry in page.get("experiments", []))
    expected = next((table.rows for table in part.tables if table.name == "experiments"), 0)
    if len(experiments) != expected:
        raise SnapshotDamaged(f"the server has {counted(len(experiments), 'experiments')}, the snapshot {expected}")
    return f"the server has all {counted(expected, 'experiments')} of the snapshot"


def each_workspace(api: MlflowApi) -> Iterator[str]:
    """Yield each workspace, with the calls in between directed to it."""
    names = api.workspaces()
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, api, "workspace", api.workspace)
        for name in names:
            api.workspace = name
            yield name


def read_models(api: MlflowApi, destinations: tuple[str, ...], files: Iterable[FileEntry]) -> ReadBack:
    """Download the newest version of every registered model and compare its files.

    `destinations` are the artifact destinations of the snapshot's server: a path below one of them is behind this
    server as well. `files` is iterated once.
    """
    result = ReadBack()
    roots = Counter(model_roots(api, destinations))
    result.outside = roots.pop(None, 0)
    seen: set[str] = set()
    skipped: set[str] = set()
    for file in files:
        if file.kind != "file":
            continue
        root = next((parent for parent in _parents(file.path) if parent in roots), None)
        if root is None:
            continue
        seen.add(root)
        if result.bytes + file.size > MAX_BYTES:
            skipped.add(root)
            continue
        _compare(api, file, result)
    result.models = sum(roots[root] for root in seen - skipped)
    result.left_out = sum(roots[root] for root in skipped)
    result.without_files = sum(count for root, count in roots.items() if root not in seen)
    return result


def _compare(api: MlflowApi, file: FileEntry, result: ReadBack) -> None:
    try:
        size, sha256 = api.digest(file.path)
    except Unreachable as error:
        result.wrong.append(error.message)
        return
    result.files += 1
    result.bytes += size
    if (size, sha256) != (file.size, file.sha256):
        result.wrong.append(f"{shown(file.path)} has {size} bytes that are not those of the snapshot")


def model_roots(api: MlflowApi, destinations: tuple[str, ...]) -> Iterator[str | None]:
    """The path of each model's newest version; None if not behind this server."""
    for workspace in each_workspace(api):
        for uri in _newest_uris(api):
            root = relative(_resolved(api, uri), destinations)
            if root is not None and workspace not in ("", DEFAULT) and workspace_of(root) != workspace:
                root = f"{WORKSPACES}/{workspace}/{root}"  # the server prepends it
            yield root


def _newest_uris(api: MlflowApi) -> Iterator[str]:
    for page in _pages(lambda **token: api.get("registered-models/search", max_results=_PAGE, **token)):
        for model in page.get("registered_models", []):
            if numbers := [int(version["version"]) for version in model.get("latest_versions", [])]:
                version = {"name": model["name"], "version": str(max(numbers))}
                yield api.get("model-versions/get-download-uri", **version).get("artifact_uri", "")


def _pages(call: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    page = call()
    yield page
    while token := page.get("next_page_token"):
        page = call(page_token=token)
        yield page


def _resolved(api: MlflowApi, uri: str) -> str:
    """The address of the run or logged model that a source names; others as they are."""
    scheme, _, rest = uri.partition(":/")
    owner, _, below = rest.strip("/").partition("/")
    try:
        if scheme == "runs":
            base = api.get("runs/get", run_id=owner)["run"]["info"]["artifact_uri"]
        elif scheme == "models" and owner.startswith("m-"):
            base = api.get(f"logged-models/{owner}")["model"]["info"]["artifact_uri"]
        else:
            return uri
    except Unreachable:  # it does not exist any more
        return uri
    return f"{base.rstrip('/')}/{below}".rstrip("/")


def relative(uri: str, destinations: tuple[str, ...] = ()) -> str | None:
    """The path of `uri` below the artifact destination; None for another location."""
    if uri.startswith(SERVER):
        rest = uri.removeprefix(SERVER)
        if rest.startswith("//"):
            _host, _, rest = rest[2:].partition("/")
        return rest.strip("/")
    for top in (destination.rstrip("/") + "/" for destination in destinations if destination):
        if uri.startswith(top):
            return uri.removeprefix(top).strip("/")
    return None


def _parents(path: str) -> Iterator[str]:
    """The path, as a source can be a single file, and the folders above it."""
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
