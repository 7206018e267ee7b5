"""What a restored server must be able to do before a drill calls it recovered: everything a user does, once."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_ae5_server.common.errors import DamagedError, ProjectError, StorageError, UnreachableError
from mlflow_ae5_server.common.text import amount, counted, shown
from mlflow_ae5_server.database.dialects import DatabasePart
from mlflow_ae5_server.drill.api import DEFAULT, MlflowApi
from mlflow_ae5_server.gc.locations import WORKSPACES, workspace_of
from mlflow_ae5_server.repository.entries import FileEntry

_PROXIED = "mlflow-artifacts:"
_PAGE = 100
Step = Callable[[], str]  # says what was found; raises ProjectError
MOST_BYTES = 4 * 1024**3  # of models read back: a drill proves that reading works, `backup verify` reads everything


@dataclass
class Check:
    """One line of a drill's result. `detail` says what was found, or was wrong. `damage`: of the snapshot, it seems."""

    name: str
    passed: bool
    detail: str
    damage: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "passed": self.passed, "detail": self.detail}


@dataclass
class ServerUse:
    """A small piece of work on the server, as a user would do it; the steps build on each other."""

    api: MlflowApi
    word: str = field(default_factory=lambda: f"mlflow-ae5-drill-{secrets.token_hex(6)}")
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
        self.experiment = self.api.post("experiments/create", name=self.word)["experiment_id"]
        info = self.api.post("runs/create", experiment_id=self.experiment, run_name=self.word)["run"]["info"]
        self.run = info["run_id"]
        root = relative(info["artifact_uri"])
        if root is None:
            raise UnreachableError(f"a new run keeps its artifacts at {info['artifact_uri']}, not behind the server")
        self.root = root
        return f"made experiment {self.experiment} and run {self.run}"

    def _log(self) -> str:
        now = int(time.time() * 1000)
        self.api.post("runs/log-metric", run_id=self.run, key="drill", value=0.25, timestamp=now, step=3)
        self.api.post("runs/log-parameter", run_id=self.run, key="word", value=self.word)
        self.api.post("runs/update", run_id=self.run, status="FINISHED", end_time=now)
        found = self.api.get("runs/get", run_id=self.run)["run"]["data"]
        metrics = {entry["key"]: (entry["value"], int(entry["step"])) for entry in found.get("metrics", [])}
        parameters = {entry["key"]: entry["value"] for entry in found.get("params", [])}
        if metrics != {"drill": (0.25, 3)} or parameters != {"word": self.word}:
            raise UnreachableError(f"logged one metric and one parameter, and read {metrics} and {parameters}")
        return "logged and read back"

    def _artifact(self) -> str:
        data = secrets.token_bytes(300_000)
        path = f"{self.root}/model/drill.bin"
        self.api.upload(path, data)
        if self.api.digest(path) != (len(data), hashlib.sha256(data).hexdigest()):
            raise UnreachableError("the artifact that was downloaded is not the one that was uploaded")
        return f"uploaded and downloaded {len(data)} bytes, the same"

    def _register(self) -> str:
        self.api.post("registered-models/create", name=self.word)
        source = f"{_PROXIED}/{self.root}/model"
        made = self.api.post("model-versions/create", name=self.word, source=source, run_id=self.run)
        version = made["model_version"]["version"]
        found = self.api.get("model-versions/get-download-uri", name=self.word, version=version)["artifact_uri"]
        if relative(found) != f"{self.root}/model":
            raise UnreachableError(f"registered a version of {source}, and its address is {found}")
        return f"registered version {version}"

    def _clean_up(self) -> str:
        self.api.delete("registered-models/delete", name=self.word)
        self.api.remove(f"{self.root}/model/drill.bin")
        self.api.post("runs/delete", run_id=self.run)
        self.api.post("experiments/delete", experiment_id=self.experiment)
        return "deleted what this drill made"


def use(api: MlflowApi) -> list[Check]:
    """Work on the server; after a step that fails the following ones have nothing to stand on, and are left out."""
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
        return Check(name, False, error.message, isinstance(error, DamagedError))
    except (KeyError, TypeError, ValueError) as error:  # an answer of another shape
        return Check(name, False, f"an answer was not understood: {type(error).__name__}: {error}")


# Models


@dataclass(frozen=True)
class DrillVersion:
    """The newest version of a registered model. `root` is None where its files are not behind this server."""

    name: str
    version: str
    root: str | None


@dataclass
class ReadBack:
    """What came of reading registered models through the server. `wrong` holds one line per file, a few at most."""

    models: int = 0
    files: int = 0
    bytes: int = 0
    outside: int = 0
    without_files: int = 0
    left_out: int = 0
    wrong: list[str] = field(default_factory=list)

    def message(self) -> str:
        """For people. Raises DamagedError where a file is not the snapshot's, StorageError where there are models and
        it has no file of any."""
        text = f"{counted(self.files, 'files')} ({amount(self.bytes)}) of {counted(self.models, 'models')}"
        for count, what in (
            (self.outside, "with files outside this server"),
            (self.without_files, "without files in the snapshot"),
            (self.left_out, "left out to end in time"),
        ):
            text += f"; {count} {what}" if count else ""
        if self.wrong:
            raise DamagedError(f"{text}; {len(self.wrong)} wrong: {'; '.join(self.wrong[:5])}")
        if self.without_files and not self.models and not self.left_out:
            raise StorageError(f"{text}: the artifact store was not there, it seems, when the snapshot was taken")
        return text


def count(api: MlflowApi, part: DatabasePart) -> str:
    """Runs and experiments as the server counts them are those of the snapshot. Raises DamagedError."""
    experiments = set[str]()
    for _workspace in each_workspace(api):
        experiments.update(_experiments(api))
    desired = next((table.rows for table in part.tables if table.name == "experiments"), 0)
    if len(experiments) != desired:
        raise DamagedError(f"the server has {len(experiments)} experiments, the snapshot {desired}")
    return f"the server has the {desired} experiments of the snapshot"


def each_workspace(api: MlflowApi) -> Iterator[str]:
    """Each in turn, and the calls in between are about it."""
    names = api.workspaces()
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, api, "workspace", api.workspace)
        for name in names:
            api.workspace = name
            yield name


def _experiments(api: MlflowApi) -> Iterator[str]:
    token = ""
    while True:
        page = api.post("experiments/search", max_results=1000, view_type="ALL", page_token=token)
        yield from (entry["experiment_id"] for entry in page.get("experiments", []))
        token = page.get("next_page_token", "")
        if not token:
            return


def read_models(
    api: MlflowApi, destinations: tuple[str, ...], files: Iterable[FileEntry], most_bytes: int = MOST_BYTES
) -> ReadBack:
    """Download the newest version of every registered model and compare each file with the snapshot's digest.

    `destinations` are the artifact destinations that the snapshot may have been taken from: a path below one of them
    is behind this server as well. `files` are passed over once.
    """
    result = ReadBack()
    by_root: dict[str, list[DrillVersion]] = {}
    for version in versions(api, destinations):
        if version.root is None:
            result.outside += 1
        else:
            by_root.setdefault(version.root, []).append(version)
    seen: set[str] = set()
    skipped: set[str] = set()
    for file in files:
        if file.kind != "file":
            continue
        root = next((parent for parent in _parents(file.path) if parent in by_root), None)
        if root is None:
            continue
        seen.add(root)
        if result.bytes + file.size > most_bytes:
            skipped.add(root)
            continue
        _compare(api, file, result)
    result.models = sum(len(by_root[root]) for root in seen - skipped)
    result.left_out = sum(len(by_root[root]) for root in skipped)
    result.without_files = sum(len(found) for root, found in by_root.items() if root not in seen)
    return result


def _compare(api: MlflowApi, file: FileEntry, result: ReadBack) -> None:
    try:
        found = api.digest(file.path)
    except UnreachableError as error:
        result.wrong.append(error.message)
        return
    result.files += 1
    result.bytes += found[0]
    if found != (file.size, file.sha256):
        result.wrong.append(f"{shown(file.path)} has {found[0]} bytes that are not those of the snapshot")


def versions(api: MlflowApi, destinations: tuple[str, ...]) -> Iterator[DrillVersion]:
    """The newest version of every registered model that has any, in every workspace."""
    for workspace in each_workspace(api):
        for version in _versions(api, destinations):
            root = version.root
            if root is not None and workspace not in ("", DEFAULT) and workspace_of(root) != workspace:
                root = f"{WORKSPACES}/{workspace}/{root}"  # where the server puts it, whatever its address says
            yield replace(version, root=root)


def _versions(api: MlflowApi, destinations: tuple[str, ...]) -> Iterator[DrillVersion]:
    token = ""
    while True:
        page = api.get("registered-models/search", max_results=_PAGE, **({"page_token": token} if token else {}))
        for model in page.get("registered_models", []):
            numbers = [int(version["version"]) for version in model.get("latest_versions", [])]
            if not numbers:
                continue
            name, number = model["name"], str(max(numbers))
            uri = api.get("model-versions/get-download-uri", name=name, version=number).get("artifact_uri", "")
            yield DrillVersion(name, number, relative(_resolved(api, uri), destinations))
        token = page.get("next_page_token", "")
        if not token:
            return


def _resolved(api: MlflowApi, uri: str) -> str:
    """Where a source that names a run or a logged model of this server keeps its files; others as they are."""
    scheme, _, rest = uri.partition(":/")
    owner, _, below = rest.strip("/").partition("/")
    try:
        if scheme == "runs":
            base = api.get("runs/get", run_id=owner)["run"]["info"]["artifact_uri"]
        elif scheme == "models" and owner.startswith("m-"):
            base = api.get(f"logged-models/{owner}")["model"]["info"]["artifact_uri"]
        else:
            return uri
    except UnreachableError:  # it is not there any more
        return uri
    return f"{base.rstrip('/')}/{below}".rstrip("/")


def relative(uri: str, destinations: tuple[str, ...] = ()) -> str | None:
    """The path below the artifact destination that `uri` means; None where it lies elsewhere."""
    if uri.startswith(_PROXIED):
        rest = uri.removeprefix(_PROXIED)
        if rest.startswith("//"):
            _host, _, rest = rest[2:].partition("/")
        return rest.strip("/")
    for top in (destination.rstrip("/") + "/" for destination in destinations if destination):
        if uri.startswith(top):
            return uri.removeprefix(top).strip("/")
    return None


def _parents(path: str) -> Iterator[str]:
    """The path itself, because a source can be a single file, and the folders above it."""
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
