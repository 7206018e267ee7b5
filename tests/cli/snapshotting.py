"""Releases for the bench that keep data in a file, and snapshot, restore and upgrade it as the real commands do.

`data/db` is the database: its first line is the schema, the rest is user data. Files beside it control a command:
`data/break-Restore` (an exit code, or `kill`, or `mute` for no last line), `data/gate-Restore` (wait while it exists),
`data/break-stop-Restore` (what a stopped one reports of the data; empty: nothing is incomplete).
Every call is written to `data/calls`.
"""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.support import APP, COLLECT, PROJECT_FILE, make_project_archive

SERVER = r"""
import itertools, pathlib, sys, uuid
SCHEMA = "@SCHEMA@"
db = pathlib.Path("data/db")
if not db.exists():
    db.write_text(SCHEMA + "\n")
if db.read_text().splitlines()[0] != SCHEMA:
    sys.exit("the database is of another version than " + SCHEMA)
if pathlib.Path("data/break-server-@SCHEMA@").exists():
    sys.exit("the server cannot start")
store, files, numbers = {}, {}, itertools.count(1)
"""

API = r"""
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        name = self.path.partition("/mlflow/")[2]
        if name.startswith("experiments/search"):
            return self.answer(json.dumps({"experiments": []}))
        if name == "experiments/create":
            return self.answer(json.dumps({"experiment_id": str(next(numbers))}))
        if name == "runs/create":
            run = uuid.uuid4().hex
            store[run] = {"params": [], "metrics": [], "tags": []}
            info = {"run_id": run, "artifact_uri": "mlflow-artifacts:/1/%s/artifacts" % run}
            return self.answer(json.dumps({"run": {"info": info}}))
        for kind, word in (("params", "log-parameter"), ("metrics", "log-metric"), ("tags", "set-tag")):
            if name == "runs/" + word:
                store[body["run_id"]][kind].append({"key": body["key"], "value": body["value"]})
                return self.answer("{}")
        if name == "model-versions/create":
            return self.answer(json.dumps({"model_version": {"version": "1"}}))
        self.answer("{}")

    def do_PUT(self):
        files[self.path] = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer("{}")

    def do_DELETE(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer("{}")
"""

GETS = r"""        elif path == "/api/2.0/mlflow/runs/get":
            run = self.path.partition("run_id=")[2]
            self.answer(json.dumps({"run": {"data": store[run]}}))
        elif path == "/api/2.0/mlflow/model-versions/get":
            self.answer(json.dumps({"model_version": {"status": "READY"}}))
        elif self.path in files:
            data = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif path == "/about":
"""

JOBS = r"""
import json, os, pathlib, shlex, signal, sys, time

command, given = sys.argv[1], os.environ.get(sys.argv[2], "") if len(sys.argv) > 2 else ""
SCHEMA = "@SCHEMA@"
words = shlex.split(given)
data = pathlib.Path("data")
db, kept, calls = data / "db", data / "kept", data / "calls"
destination = pathlib.Path(os.environ["MLFLOW_AE5_SECRETS_DIR"], "MLFLOW_TRACKING_BACKUP_DESTINATION")
backups = data / "backups"
with calls.open("a") as file:
    file.write(" ".join([command, *words]) + "\n")
print("settings (a variable beats a secret):\n  A_SETTING  default  its value")
print("[sandbox] a note of the platform's")
print(command, "starts;", "destination:", "from a secret" if destination.exists() else "default", flush=True)
phase = {"phase": "examine-artifacts", "step": 2, "steps": 3, "done": 5, "total": 10, "unit": "bytes", "seconds": 4.0}
print("progress " + json.dumps(phase), flush=True)


def end(code=0, **fields):
    report = {"interrupted_restore": None} if command == "Restore" else {}
    if (data / "warnings").exists():
        report["warnings"] = (data / "warnings").read_text().splitlines()
    if fields.get("error"):  # as the real commands end
        print("error: " + fields["error"] + "\n  what to do: " + fields.get("hint", ""), flush=True)
    report |= {"command": command, "outcome": "done", **fields, "exit_code": code, "seconds": 0.1}
    print(json.dumps(report), flush=True)
    sys.exit(code)


stopped = data / ("break-stop-" + command)
if stopped.exists():  # as the real commands end: with a report
    message = stopped.read_text()
    signal.signal(signal.SIGTERM, lambda *_: end(130, outcome="interrupted", interrupted_restore=message or None))
    print("it can be stopped", flush=True)
while (data / ("gate-" + command)).exists():
    time.sleep(0.02)
broken = data / ("break-" + command)
if broken.exists():
    how, *rest = broken.read_text().split(None, 1)
    if how == "mute":
        sys.exit(0)
    if how == "kill":
        os.kill(os.getpid(), 9)
    more = json.loads(rest[0]) if rest else {}
    end(int(how), **{"outcome": "failed", "error": "something broke in " + command, "hint": "fix it", **more})


option = data / "break-option"
if option.exists() and option.read_text() in words:
    end(2, outcome="failed", error="unrecognized arguments: " + option.read_text(), hint="see --help")


def ids():
    return sorted(p.name for p in backups.iterdir()) if backups.exists() else []


def chosen():
    name = words[words.index("--snapshot") + 1] if "--snapshot" in words else "latest"
    if name == "latest" and ids():
        name = ids()[-1]
    if name not in ids():
        end(15, outcome="failed", error="there is no snapshot " + name, hint="see the list")
    return name


if command == "Backup":
    action = words[0] if words else "create"
    if action == "create":
        backups.mkdir(exist_ok=True)
        name = "20261122T00000%dZ-abcdef" % (len(ids()) + 1)
        (backups / name).write_text(db.read_text() if db.exists() else "")
        end(action=action, snapshot=name, runs=3, models=2, rows=12, tables=4, artifacts=5, artifact_bytes=5000,
            new_objects=6, new_bytes=5000, stored_bytes=2500, in_flight={"running_runs": 1},
            external=(data / "external").read_text().split() if (data / "external").exists() else [])
    if action == "verify":
        end(action=action, snapshot=chosen(), checked_objects=6, of_objects=6, checked_bytes=5000, damaged=[])
    if action == "list" and not backups.exists():
        end(15, action=action, outcome="failed", error="no backups in here yet", hint="make one")
    if action == "list":
        end(action=action, unfinished=["20261122T000009Z-ffffff"], snapshots=[
            {"snapshot": n, "sequence": 1, "started": "2026-11-22T00:00:00Z", "finished": "2026-11-22T00:00:05Z",
             "mlflow_version": "3.17.2", "revision": SCHEMA, "dialect": "sqlite", "rows": 12, "artifacts": 5,
             "artifact_bytes": 5000, "stored_bytes": 2500, "runs": 3, "verified": None, "complete": True}
            for n in ids()])
    if action == "show":
        counts = {"runs": 3, "deleted_runs": 2, "models": 2}
        end(action=action, manifest={"id": chosen(), "mlflow_version": "3.17.2", **counts})
    if action == "prune":
        keep = int(words[words.index("--keep-last") + 1]) if "--keep-last" in words else 1
        old = ids()[:-keep]
        if "--yes" not in words:
            end(action=action, outcome="dry-run", kept=ids()[-keep:], would_remove=old, freed_bytes=0)
        for name in old:
            (backups / name).unlink()
        end(action=action, kept=ids(), removed=old, freed_bytes=10)
if command == "Restore":
    copies = [{"name": "kept-1", "snapshot": "s", "time": "2026-11-22T00:00:00+00:00", "database": True, "files": 5,
             "bytes": 5000, "more": False}] if kept.exists() else []
    if "--list-saved" in words:
        end(action="list-saved", saved_copies=copies)
    if "--drop-saved" in words:
        name = words[words.index("--drop-saved") + 1]
        if name not in [item["name"] for item in copies]:
            end(15, outcome="failed", error="there is no saved copy " + name, hint="there is none")
        if "--dry-run" in words:
            end(action="drop-saved", outcome="dry-run", dry_run=True, would_delete=copies[0])
        kept.unlink()
        end(action="drop-saved", dry_run=False, deleted=copies[0])
    if "--undo" in words:
        if not kept.exists():
            end(15, outcome="failed", error="there is no saved copy", hint="")
        if "--dry-run" in words:
            end(outcome="dry-run", would_restore="kept-1", would_refuse=[])
        kept.replace(db)
        end(outcome="undone", restored_copy="kept-1", saved_copy=None)
    fields = {"snapshot": chosen(), "rows": 12, "tables": 4, "artifacts": 5, "artifact_bytes": 5000,
             "dialect": {"source": "sqlite", "target": "sqlite"}}
    if "--dry-run" in words:
        occupied = db.exists() and "--replace" not in words
        refusal = {"name": "occupied", "exit_code": 26, "error": "the database holds 12 rows", "hint": ""}
        refusals = [refusal] if occupied else []
        end(outcome="dry-run", estimated_seconds=3.5, would_refuse=refusals, **fields)
    saved = None
    if db.exists() and db.read_text():
        if "--replace" not in words:
            end(26, outcome="failed", error="the database holds 12 rows", hint="", **fields)
        db.replace(kept)
        saved = "kept-1"
    db.write_text((backups / fields["snapshot"]).read_text())
    end(written_files=5, database_identical=True, artifacts_identical=True, saved_copy=saved, upgraded=None, **fields)
if command == "Drill":
    print("ok    the API answers: it does")
    end(snapshot=chosen(), recovery_seconds=4.2, models_read=1,
        checks=[{"name": "the API answers", "passed": True, "detail": "it does"}])
if command == "DatabaseUpgrade":
    revision, *rest = db.read_text().splitlines()
    if os.environ.get("MLFLOW_TRACKING_UPGRADE_REHEARSE") == "true":
        steps = [] if revision == SCHEMA else [{"revision": SCHEMA, "what": "to " + SCHEMA}]
        end(outcome="rehearsed", revision=revision, expected_revision=SCHEMA, migrations=steps, migration_seconds=0.2)
    if revision == SCHEMA:
        end(outcome="unchanged", revision=revision, new_revision=revision)
    db.write_text("\n".join([SCHEMA, *rest]) + "\n")
    if (data / "break-after-upgrade").exists():
        end(1, outcome="failed", error="the last migration failed", hint="restore the backup")
    end(outcome="upgraded", revision=revision, new_revision=SCHEMA)
if command == "GarbageCollection":
    end(outcome="done", runs={"due": 0, "removed": 0, "remaining": 0})
"""

DEAD = """
import sys

sys.exit("no such module")
"""

_VARIABLES = """variables:
  MLFLOW_TRACKING_BACKUP_ARGUMENTS: create
  MLFLOW_TRACKING_RESTORE_ARGUMENTS: --dry-run
  MLFLOW_TRACKING_DRILL_ARGUMENTS: --snapshot latest
  MLFLOW_TRACKING_UPGRADE_REHEARSE: 'false'
"""


def make_snapshotting_release(
    target: Path,
    *,
    schema: str = "schema-1",
    version: str = "3.17.2",
    without: tuple[str, ...] = (),
    rehearses: bool = True,
    jobs_run: bool = True,
) -> Path:
    """schema: the one its server needs. without: commands it does not have. jobs_run: else they end at once without a
    report, as where their environment cannot be created."""
    app = APP.replace('        elif path == "/about":\n', GETS)
    a, b = app.index("    def do_POST"), app.index("    do_HEAD")
    app = SERVER + app[:a] + API.lstrip("\n") + "\n" + app[b:]
    commands = ""
    for name in ("Backup", "Restore", "Drill", "DatabaseUpgrade"):
        variable = {"DatabaseUpgrade": ""}.get(name, f" MLFLOW_TRACKING_{name.upper()}_ARGUMENTS")
        for prefix in ("", "Minimum"):
            if name not in without:
                commands += (
                    f"  {prefix}{name}:\n    unix: exec python -IS jobs.py {name}{variable}\n    env_spec: default\n"
                )
    commands += "  MinimumTrackingServer:\n    unix: exec python -IS app.py\n    env_spec: default\n"
    commands += "    supports_http_options: true\n"
    project_file = PROJECT_FILE.replace("commands:\n", f"commands:\n{commands}", 1)
    project_file = project_file.replace("variables:\n", _VARIABLES, 1)
    if not rehearses:
        project_file = project_file.replace("  MLFLOW_TRACKING_UPGRADE_REHEARSE: 'false'\n", "")
    project_file = project_file.replace(COLLECT, "exec python -IS jobs.py GarbageCollection")
    project_file = project_file.replace("packages: [python]", f"packages: [python, pip: ['mlflow=={version}']]")
    files = {
        "app.py": app.replace("@SCHEMA@", schema),
        "jobs.py": JOBS.replace("@SCHEMA@", schema) if jobs_run else DEAD,
    }
    return make_project_archive(target, project_file=project_file, files=files)
