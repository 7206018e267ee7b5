"""Who may import whom, read from the source by AST: lazy imports inside functions and relative ones count too."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mlflow_ae5_deploy"
SERVER = "mlflow_ae5_server"

# From the lowest layer up: a package may import itself and those before it. "" is the package: its version.
LAYERS = (
    "",
    "common",
    "config",
    "release",
    "ae5",
    "engine",
    "jobs",
    "resources",
    "runbook",
    "operations",
    "render",
    "cli",
    "__main__",
)
FOLLOWER = "client"  # for MLflow's clients: of ours it imports nothing, and nothing imports it
SANDBOX = "sandbox"  # beside them: of the client's code it imports `common` only, and only the command line imports it


def imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Full dotted names of everything that a module imports; for `from a import b` both a and a.b."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def modules(top: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(top.rglob("*.py")):
        parts = [top.name, *path.relative_to(top).with_suffix("").parts]
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(top: Path) -> Iterator[tuple[str, str]]:
    for module, path in modules(top):
        for target in imported(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"):
            yield module, target


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def unit(module: str) -> str:
    """`mlflow_ae5_deploy.release.http` -> `release`; the package itself -> ``."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


@functools.cache
def client() -> list[tuple[str, str]]:
    return list(imports_of(ROOT / PACKAGE))


def test_every_package_has_a_layer():
    assert {unit(module) for module, _ in modules(ROOT / PACKAGE)} == {*LAYERS, SANDBOX, FOLLOWER}


@pytest.mark.parametrize("importer", [*LAYERS, SANDBOX, FOLLOWER])
def test_imports_point_one_way(importer):
    names = {*LAYERS, SANDBOX, FOLLOWER}
    beside = {SANDBOX: {"common"}, FOLLOWER: set()}
    below = beside[importer] if importer in beside else {*LAYERS[: LAYERS.index(importer)]}
    if importer == "cli":
        below.add(SANDBOX)
    wrong = [
        f"{source} imports {target}"
        for source, target in client()
        if unit(source) == importer
        and inside(target, PACKAGE)
        and (imported_unit := unit(target) if unit(target) in names else "") != importer
        and imported_unit not in below
    ]
    assert wrong == []


@pytest.mark.parametrize("top", [ROOT / PACKAGE, ROOT / "project_template" / SERVER], ids=[PACKAGE, SERVER])
def test_no_modules_import_each_other_in_a_circle(top):
    """Imports in functions and under TYPE_CHECKING count too."""
    listed = {module for module, _ in modules(top)}
    imports: dict[str, set[str]] = {module: set() for module in listed}
    for source, target in imports_of(top):
        name = target if target in listed else target.rpartition(".")[0]
        if name in listed and name not in (source, top.name):
            imports[source].add(name)
    while free := [name for name, targets in imports.items() if not targets]:
        for name in free:
            del imports[name]
        for targets in imports.values():
            targets.difference_update(free)
    assert imports == {}, "in a circle, or importing one"


def test_a_stage_never_imports_another_stage():
    stages = f"{PACKAGE}.runbook.stages"
    files = {module for module, _ in modules(ROOT / PACKAGE) if inside(module, stages) and module != stages}
    numbered = {module for module in files if module.rpartition(".")[2].startswith(("s0", "s1"))} or files
    assert len(numbered) >= 14
    wrong = [f"{s} imports {t}" for s, t in client() if s in numbered and t in numbered and s != t]
    assert wrong == []


def test_only_the_command_line_knows_the_sandbox_and_only_its_lifecycle():
    door = f"{PACKAGE}.sandbox.lifecycle"
    wrong = [
        f"{source} imports {target}"
        for source, target in client()
        if inside(target, f"{PACKAGE}.sandbox")
        and not inside(source, f"{PACKAGE}.sandbox")
        and not (inside(source, f"{PACKAGE}.cli") and (inside(target, door) or target == f"{PACKAGE}.sandbox"))
    ]
    assert wrong == []


@pytest.mark.parametrize("top", [ROOT / PACKAGE, ROOT / "project_template" / SERVER], ids=[PACKAGE, SERVER])
def test_a_class_name_is_defined_once(top):
    defined = Counter(
        node.name
        for _, path in modules(top)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in defined.items() if count > 1] == []


def test_nothing_is_decided_by_the_text_that_is_made_from_a_change():
    """Who needs to know what a change is asks for its class, its id or its name."""
    readers = ("startswith", "endswith", "removeprefix", "removesuffix", "split", "partition")
    wrong = []
    for module, path in modules(ROOT / PACKAGE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            reads = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in readers
            for found in ast.walk(node) if reads or isinstance(node, ast.Compare) else ():
                made = isinstance(found, ast.Attribute) and found.attr in ("phrase", "target", "reason", "verb")
                if made and getattr(found.value, "id", "") in ("change", "one", "first"):
                    wrong.append(f"{module}: {ast.unparse(node)}")
    assert wrong == []


def test_the_client_does_not_import_mlflow():
    """It needs neither MLflow nor what only the sandbox brings. `connect` is for those who use MLflow."""
    foreign = ("mlflow", "sqlalchemy", "aiohttp", "trustme", "psutil", "psycopg", SERVER)
    wrong = [
        f"{source} imports {target}"
        for source, target in client()
        if not inside(source, f"{PACKAGE}.sandbox") and any(inside(target, name) for name in foreign)
    ]
    assert wrong == [f"{PACKAGE}.{FOLLOWER} imports mlflow"]


def test_the_server_project_stands_alone():
    wrong = [
        f"{source} imports {target}"
        for source, target in imports_of(ROOT / "project_template" / SERVER)
        if inside(target, PACKAGE)
    ]
    assert wrong == []


def test_nothing_imports_the_vendored_or_absent_click():
    assert [f"{s} imports {t}" for s, t in client() if inside(t, "click")] == []


def sleepers(top: Path) -> Iterator[str]:
    """Modules that pause by the machine's clock: `time.sleep`, however it is imported."""
    for module, path in modules(top):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "time"
        }
        for node in ast.walk(tree):
            called = isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name)
            by_name = (
                isinstance(node, ast.ImportFrom)
                and node.module == "time"
                and any(alias.name in ("sleep", "*") for alias in node.names)
            )
            if (called and node.value.id in names) or by_name:
                yield module


def test_only_the_clock_sleeps():
    found = {module for module in sleepers(ROOT / PACKAGE) if not inside(module, f"{PACKAGE}.sandbox")}
    assert found == {f"{PACKAGE}.common.clock", f"{PACKAGE}.{FOLLOWER}"}


def test_starting_the_command_line_is_cheap():
    heavy = ["logging", "pydantic", "requests", "rich", "ruamel", "aiohttp", "mlflow", "yaml", "cronsim", "urllib3"]
    heavy += [f"{PACKAGE}.cli.commands.{verb}" for verb in ("install", "backup", "sandbox")]
    script = f"import sys, {PACKAGE}.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    assert printed(script) == "[]"


@pytest.mark.parametrize(("words", "verbs"), [([], []), (["backup", "list"], ["backup"]), (["drill"], ["drill"])])
def test_a_help_page_loads_no_other_verb(words, verbs):
    """And the program's page nothing that takes long."""
    heavy = [] if words else ["pydantic.main", "requests", "rich", "ruamel", "aiohttp", "mlflow", "yaml", "cronsim"]
    script = f"""
        import contextlib, io, sys
        from {PACKAGE}.cli.main import main
        with contextlib.redirect_stdout(io.StringIO()):
            assert main({[*words, "--help"]!r}) == 0
        prefix = "{PACKAGE}.cli.commands."
        print(sorted(m.removeprefix(prefix) for m in sys.modules if m.startswith(prefix) or m in {heavy!r}))
    """
    assert printed(textwrap.dedent(script)) == str(verbs)


def printed(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import x", {"p.q", "p.q.x"}),
        ("from ..r import x", {"p.r", "p.r.x"}),
        ("def f():\n    import z", {"z"}),
        ("if TYPE_CHECKING:\n    import z", {"z"}),
        ("import importlib\nimportlib.import_module('z.y')", {"importlib", "z.y"}),
    ],
)
def test_the_reader_sees_every_kind_of_import(source, found):
    assert set(imported(source, "p.q.m")) == found
