from __future__ import annotations

import argparse
import gzip
import json
import os
import shlex
import shutil
import signal
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow_ae5_server.backup.artifacts import FolderArtifacts
from mlflow_ae5_server.backup.create import BackupOptions, create_snapshot
from mlflow_ae5_server.backup.open_artifacts import open_artifacts
from mlflow_ae5_server.database.connection import check_uri
from mlflow_ae5_server.database.contents import DELETED_RUNS, DatabasePart, TablePart
from mlflow_ae5_server.repository import blobs as contents
from mlflow_ae5_server.repository import check
from mlflow_ae5_server.repository.repository import create_repository, open_backend

from tests.contract import checked


def dump(database, objects):
    """The database's part as it would be for a database of one small file."""
    assert database.file is not None
    with sqlite3.connect(database.file) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        (deleted,) = connection.execute(DELETED_RUNS).fetchone()
    kept = objects.put(b"database with %d runs" % rows)
    return DatabasePart("sqlite", "3", "abc", (TablePart("runs", rows, kept.sha256),), (kept.sha256,), (), deleted)


@dataclass
class Server:
    """What a tracking server leaves on disk: a database with the tables that a backup looks at, and artifacts."""

    folder: Path
    backend: str
    says: list[str] = field(default_factory=list)

    @property
    def artifacts(self):
        return self.folder / "artifacts"

    @property
    def database(self):
        return check_uri(f"sqlite:///{self.folder}/db.sqlite")

    def sql(self, statement):
        with sqlite3.connect(self.folder / "db.sqlite") as connection:
            connection.execute(statement)

    def write(self, path, data):
        file = self.artifacts / os.fsdecode(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def repository(self, backend=None):
        return create_repository(backend or open_backend(self.backend))

    def back_up(self, *, backend=None, source=None, destination="", **options):
        self.says.clear()
        destination = destination or str(self.artifacts)
        source = source or open_artifacts(destination, self.database)
        backup_options = BackupOptions(say=self.says.append, warn=self.says.append, **options)
        return create_snapshot(self.repository(backend), self.database, source, destination, dump, backup_options)

    def entries(self, manifest):
        return {entry.path: entry for entry in self.repository().files(manifest)}

    def contents(self, manifest):
        """Every file of the snapshot, as a restore would write it."""
        reader = self.repository().reader()
        return {
            path: b"".join(bytes(chunk) for chunk in reader.chunks(entry))
            for path, entry in self.entries(manifest).items()
            if entry.kind == "file"
        }

    def damage_of(self, manifest):
        return [found["what"] for found in check.verify(self.repository(), manifest).damaged]

    def objects(self):
        return {sha256 for sha256, _size in self.repository().blob_sizes()}

    def object_file(self, sha256):
        return Path(self.backend) / contents.blob_name(sha256)

    def use_mlflow(self):
        """Make the database one of MLflow's, with some runs in it."""
        packed = Path(__file__).parents[1] / "fixtures/mlflow-2.22.0.sqlite.gz"
        (self.folder / "db.sqlite").write_bytes(gzip.decompress(packed.read_bytes()))

    def job(self, words, **variables):
        """The command Backup in this process: exit code and what it reports."""
        from mlflow_ae5_server.commands import backup
        from mlflow_ae5_server.common import arguments, settings
        from mlflow_ae5_server.common.errors import ProjectError
        from mlflow_ae5_server.common.report import Report

        parser = argparse.ArgumentParser()
        arguments.backup(parser)
        report = Report("Backup")
        environ = {
            "MLFLOW_BACKEND_STORE_URI": self.database.uri,
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_TRACKING_BACKUP_DESTINATION": self.backend,
            **variables,
        }
        resolved = settings.resolve(environ, {}, {})
        try:
            code = backup.run(resolved, report, parser.parse_args(shlex.split(words)))
        except ProjectError as error:
            report.failed(error)
            code = report.exit_code(error)
        return code, checked({key: value for key, value in report._fields.items() if json.dumps(value)})


def new_server(folder, *, made=False):
    """A server with one run. `made`: the folder is a copy of another one's."""
    server = Server(folder, str(folder / "backups"))
    if made:
        return server
    folder.mkdir(exist_ok=True)
    server.sql("CREATE TABLE runs(run_uuid TEXT, artifact_uri TEXT, status TEXT, lifecycle_stage TEXT)")
    server.sql("CREATE TABLE experiments(experiment_id INTEGER, artifact_location TEXT)")
    server.sql("INSERT INTO runs VALUES ('1', 'mlflow-artifacts:/0/1/artifacts', 'RUNNING', 'active')")
    return server


@pytest.fixture
def server(tmp_path):
    return new_server(tmp_path)


class Wrapped:
    """A backend that calls `before` with each operation that writes, and the name of the file."""

    def __init__(self, inner, before):
        self.inner = inner
        self.before = before
        self.shown = inner.shown
        self.threads = 1  # the operations come in one order

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, name, data):
        self.before("write", name)
        self.inner.write(name, data)

    def create(self, name, data):
        self.before("create", name)
        return self.inner.create(name, data)

    def delete(self, names):
        for name in names:
            self.before("delete", name)
            self.inner.delete([name])

    def sync(self):
        self.before("sync", "")
        self.inner.sync()


class Watched(FolderArtifacts):
    """Artifacts that record which small files were read."""

    def __init__(self, folder):
        super().__init__(folder)
        self.read = []

    def whole(self, artifact):
        self.read.append(artifact.path)
        return super().whole(artifact)


def in_child(work):
    """Run `work` in a forked process; its exit code, negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            work()
            code = 0
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def die_at(prefix, number=1):
    """End this process by SIGKILL before its operation of that number on a file whose name begins so."""
    seen = [0]

    def before(_verb, name):
        seen[0] += name.startswith(prefix)
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


def killed_backup(server, backend, **options):
    """A backup in a process of its own that is killed."""

    def work():
        server.back_up(backend=backend, **options)

    assert in_child(work) == -signal.SIGKILL


def ends_of_kinds(operations):
    """Of operations on a place the first and the last of each kind: what is done, and in which folder."""
    kinds = [(verb, name.partition("/")[0]) for verb, name in operations]
    last = {kind: number for number, kind in enumerate(kinds)}
    return sorted({*(kinds.index(kind) for kind in last), *last.values()})


def kill_at(number):
    """End this process by SIGKILL before its operation of that number, counted from 0."""
    return die_at("", number + 1)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A server with one snapshot, only to be copied."""
    server = new_server(tmp_path_factory.mktemp("original"))
    server.use_mlflow()
    server.write("1/a", b"a" * 1000)
    assert server.job("create --allow-external")[0] == 0
    assert server.job("verify")[0] == 0
    return server.folder


@pytest.fixture
def hostile(original, tmp_path):
    from tests.project_template.repository.hostile import Hostile

    shutil.copytree(original, tmp_path / "server")
    return Hostile(new_server(tmp_path / "server", made=True))
