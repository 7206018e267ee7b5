"""The documents keep their word: commands work, tables match the code, links lead somewhere.

Every `mlflow-ae5-deploy` command in a `sh` block is run, in the order it is written in, against a sandbox: what
README.md tells to try at once with the bundled release and real MLflow, the rest with a stand-in for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ruamel.yaml import YAML

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.config.load import load
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.runbook.stages.order import STAGES
from mlflow_ae5_deploy.sandbox import lifecycle
from mlflow_ae5_deploy.sandbox.control_plane.client import RemoteControl
from mlflow_ae5_deploy.sandbox.info import SandboxInfo
from tests.cli.collecting import make_collecting_release
from tests.cli.snapshotting import make_snapshotting_release
from tools import json_forms, reference

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNBOOKS = sorted((ROOT / "runbooks").rglob("*.md"))
TEXTS = {"README.md": README} | {
    path.relative_to(ROOT / "runbooks").as_posix(): path.read_text(encoding="utf-8") for path in RUNBOOKS
}
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "project_template" / "README.md",
    *RUNBOOKS,
]
PROGRAM = "mlflow-ae5-deploy"

CLUSTER = "\n## First real cluster\n"

NOT_RUN = {
    "conda": "environments are not made in tests, and ae5-tools' channel may be out of reach",
    "python3": "the README's own set-up; `.ci/run` does it",
    "python": "installs this very project, or downloads packages; `python tests` is the suite itself",
    "tar": "in a test of its own",
    "source": "a shell's own",
    "read": "asks a person",
    "export": "a shell's own",
    "ae5": "ae5-tools comes from conda only; tests/sandbox drives it where it is installed",
}
NEEDS_SANDBOX = (
    "plan",
    "install",
    "status",
    "doctor",
    "verify",
    "env",
    "runbook",
    "rotate-token",
    "schedule-rotation",
    "schedule-gc",
    "share",
    "open",
    "logs",
    "history",
    "backup",
    "restore",
    "drill",
    "upgrade",
    "uninstall",
)
DATABASE_URI = "postgresql+psycopg://mlflow:not-a-password@db.example.com/mlflow"
TAKES_RELEASE = ("plan", "install", "status", "doctor", "restore", "upgrade")
# Their stand-in keeps data, and makes snapshots of it.
KEEPS_DATA = ("README.md", "tutorial.md", "how-to/backup-and-restore.md", "how-to/upgrade.md", "how-to/automate.md")
SAVED = {"saved_20261123_001122_ab12cd": "kept-1"}  # the saved copy in a document, and that of the stand-in
DISASTER = "\n## The cluster is gone\n"
# Their reader has nothing installed yet; every other page is for a server that runs.
NOT_INSTALLED = (
    "README.md",
    "tutorial.md",
    "how-to/air-gapped.md",
    "how-to/install.md",
    "how-to/two-environments.md",
    "reference/json.md",
    "reference/sandbox.md",
)
CONFIGURATION = "mlflow-ae5-deploy.yaml"


# reading the documents --------------------------------------------------------------------------------------------


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, without the indentation that a list gives them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


@dataclass(frozen=True)
class Command:
    """One simple command. words: without variables before it, redirections behind it, and comments."""

    line: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return Path(self.words[0]).name


def commands(text: str) -> list[Command]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [command for line in lines for command in simple_commands(line)]


def simple_commands(line: str) -> Iterator[Command]:
    """Those of a list (`a && b`; of `a || b` both), and the inner one of `eval "$(a)"`."""
    if inner := re.fullmatch(r'eval "\$\((.*)\)"', line.strip()):
        yield from simple_commands(inner[1])
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if word not in ("&&", "||", ";", "|"):
            words.append(word)
            continue
        if ">" in words:
            words = words[: words.index(">")]
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield Command(line, tuple(words))
        words = []


def table(text: str) -> list[list[str]]:
    """Cells of every row of every table, without header and ruler."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]
        found += rows[2:]
    return found


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], flags=re.M)[0]


def shape(value: object, path: str = "") -> set[str]:
    """The path of every field, whatever its value."""
    if isinstance(value, dict):
        return {path} | {found for key, item in value.items() for found in shape(item, f"{path}.{key}")}
    if isinstance(value, list):
        return {path} | {found for item in value for found in shape(item, f"{path}[]")}
    return {path}


# what they say ----------------------------------------------------------------------------------------------------


def test_the_second_command_is_what_ci_runs():
    first, second = blocks(README, "sh")[:2]

    assert first.strip().endswith(f"{PROGRAM} install --sandbox")
    assert len(first.splitlines()) == len(second.splitlines()) == 1
    assert second.strip() in (ROOT / ".ci" / "run").read_text().splitlines()


def test_generated_parts_are_what_the_code_says():
    stale = [path for path, text in reference.current().items() if path.read_text(encoding="utf-8") != text]

    assert stale == [], "write them again: python tools/reference.py"
    assert reference.superfluous() == set()


def test_a_schema_of_no_verb_is_named_and_then_deleted(tmp_path):
    for folder in ("tools", "mlflow_ae5_deploy", "project_template", "runbooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    unused = tmp_path / "runbooks" / "reference" / "schemas" / "former.json"
    unused.write_text("{}\n")

    for arguments, code, left in ((["--check"], 1, True), ([], 0, False)):
        run = [sys.executable, str(tmp_path / "tools" / "reference.py"), *arguments]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (code, "runbooks/reference/schemas/former.json is of no verb\n"), done
        assert unused.exists() == left


@pytest.mark.parametrize("verb", json_forms.FORMS)
def test_a_form_is_a_valid_schema_and_allows_what_a_later_release_adds(verb):
    published = json.loads(reference.schema_file(verb).read_text())
    failure = {"schema": 1, "verb": verb, "outcome": "failed", "error": {"kind": "Bug", "what": "?", "exit_code": 1}}
    json_forms.Draft202012Validator.check_schema(published)
    validator = json_forms.Draft202012Validator(published)

    assert validator.is_valid(failure | {"new": 1})
    assert not validator.is_valid(failure | {"schema": 2})
    assert not validator.is_valid(failure | {"outcome": "perhaps"})
    with pytest.raises(AssertionError, match="differs from its form"):
        json_forms.check(failure | {"new": 1})


def test_every_verb_has_a_form_or_prints_no_document():
    verbs = {" ".join(words) for words, command in reference.every_command() if not hasattr(command, "commands")}

    for group, default in json_forms.DEFAULTS.items():  # `backup create` is `backup`
        verbs = verbs - {f"{group} {default}"} | {group}
    assert verbs == set(json_forms.FORMS)


def test_the_error_tree_is_drawn_as_it_is():
    drawn = dict(re.findall(r"^[ |`-]+-- (\w+) +(\d+)  ", errors.__doc__ or "", re.M))
    abstract = {"DeployError", "PlatformError"}
    classes = {
        name: str(thing.exit_code)
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.DeployError) and name not in abstract
    }
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    rows = [row for row in table(TEXTS["reference/exit-codes.md"]) if len(row) == 4]

    assert drawn == classes
    assert {int(row[0]) for row in rows if not row[1]} == codes
    assert {int(row[0]) for row in rows if row[3]} == set(reference.EXIT_CODES.values())


def test_stages_are_those_of_the_registry():
    rows = [(row[0], row[1]) for row in table(section(TEXTS["reference/commands.md"], "The 14 stages of `install`"))]

    assert rows == [(str(stage.number), stage.name) for stage in STAGES]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / unquote(name)).resolve() if name else path
        if not there.is_relative_to(ROOT) or not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [ROOT / "README.md", *RUNBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_configuration_in_it_is_valid(path, tmp_path):
    for number, block in enumerate(blocks(path.read_text(encoding="utf-8"), "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load(file, profile=None, environ={}, overrides={})


def test_the_packages_to_mirror_are_those_of_the_project(tmp_path):
    """The commands of the page, as they stand there."""
    page = TEXTS["how-to/air-gapped.md"]
    (lines,) = (block for block in blocks(page, "sh") if "packages.txt" in block and "tar " in block)
    export, *rest = lines.splitlines()
    project = YAML(typ="safe", pure=True).load(ROOT / "project_template" / "anaconda-project.yml")
    packages = project["env_specs"]["default"]["packages"]

    assert main([*shlex.split(export)[1:-1], str(tmp_path / "mirror")]) == 0
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", "\n".join(rest)], cwd=tmp_path, env={"PATH": path}, timeout=60, check=True)

    listed = (tmp_path / "packages.txt").read_text().splitlines()
    assert listed == next(entry["pip"] for entry in packages if isinstance(entry, dict))
    assert f"{len(listed)} files" in page
    assert f"{sum(isinstance(entry, str) for entry in packages)} packages" in page


def test_the_site_builds_without_a_warning_and_asks_nobody_else(tmp_path):
    """Links and anchors are checked by the build itself."""
    pytest.importorskip("zensical", reason="the site needs zensical, which `.[dev]` installs")
    shutil.copytree(ROOT / "runbooks", tmp_path / "runbooks")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)

    build = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    site = tmp_path / "site"

    assert done.returncode == 0, done.stdout + done.stderr
    assert {page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html")} == {
        *(name for name in TEXTS if name != "README.md"),
        "404.md",
    }
    assert (site / "search.json").exists()
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        asked = re.findall(r"(?:src=|href=|url\()[\"']?(?:https?:)?//[^\"')> ]+", file.read_text(encoding="utf-8"))
        assert asked == [], file


def test_every_page_is_in_the_navigation_of_the_site():
    named = re.findall(r"^ +- ([a-z/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)

    assert sorted(named) == sorted(name for name in TEXTS if name != "README.md")


def test_the_readme_of_a_package_index_has_no_dead_link():
    render = [sys.executable, "-m", "hatch_fancy_pypi_readme"]
    shown = subprocess.run(render, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    assert [link for link in re.findall(r"\]\(([^)\s]+)\)", shown) if not link.startswith(("https:", "#"))] == []
    for path in re.findall(r"\(`([^`]+)`\)", shown):
        assert (ROOT / path).exists(), path


def test_the_conda_recipe_is_that_of_the_package():
    recipe = YAML(typ="safe", pure=True).load(ROOT / "conda" / "recipe.yaml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [
        re.sub(r"(?<=[a-z0-9])(?=[<>=])", " ", dependency, count=1) for dependency in project["project"]["dependencies"]
    ]
    building = [re.sub(r"(?<=[a-z0-9])(?=[<>=])", " ", needs, count=1) for needs in project["build-system"]["requires"]]
    (script,) = project["project"]["scripts"].items()
    ae5_tools = next(line for line in environment_packages() if line.startswith("ae5-tools"))

    assert recipe["package"]["version"] == bundled_version()
    assert recipe["requirements"]["run"] == ["python >=3.11,<3.14", ae5_tools, *needed]
    assert recipe["requirements"]["host"] == ["python >=3.11", "pip", *building]
    assert recipe["build"]["python"]["entry_points"] == [" = ".join(script)]


def environment_packages() -> list[str]:
    environment = YAML(typ="safe", pure=True).load(ROOT / "environment.yml")
    return [line for line in environment["dependencies"] if isinstance(line, str)]


def test_ci_of_the_repository_covers_every_supported_python():
    workflow = YAML(typ="safe", pure=True).load(ROOT / ".github" / "workflows" / "ci.yml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))

    assert workflow["jobs"]["all"]["strategy"]["matrix"]["python"] == supported
    assert "python tests" in str(workflow["jobs"]["all"]["steps"])


def test_the_architecture_page_names_files_that_exist():
    named = re.findall(r"`([A-Za-z0-9_]+/[A-Za-z0-9_./-]*)`", TEXTS["explanation/architecture.md"])
    assert len(named) > 40
    roots = (ROOT, ROOT / "mlflow_ae5_deploy", ROOT / "project_template")
    assert [path for path in named if "VERB" not in path and not any((root / path).exists() for root in roots)] == []


def test_the_picture_is_well_formed_and_needs_nothing_but_a_renderer():
    picture = ROOT / "runbooks" / "explanation" / "architecture.svg"
    tree = ElementTree.parse(picture)  # noqa: S314 - our own file
    text = picture.read_text(encoding="utf-8")

    for unknown_to_some in ("<style", "var(", "@media", "@import", "class=", "url(http", "<script", "<image"):
        assert unknown_to_some not in text
    words = " ".join("".join(text.itertext()) for text in tree.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("ae5-tools", "TrackingServer", "GarbageCollection", "verify", "MySQL", "Repository", "Consumers"):
        assert word in words


# what they tell to run ----------------------------------------------------------------------------------------------


def test_what_is_not_run_is_known_with_its_reason():
    names = {command.name for text in TEXTS.values() for command in commands(text)}

    assert names - {PROGRAM, "mlflow"} == set(NOT_RUN)


class Reader:
    """Types what a document says, in a folder and with a state of its own."""

    def __init__(self, folder: Path, release: str | None, *, keeps_data: bool = False) -> None:
        self.folder = folder
        self.release = release
        self.keeps_data = keeps_data or release is None
        self.exported: dict[str, str] = {}
        self.documents: dict[str, Any] = {}
        self.stilled: SandboxInfo | None = None
        (folder / "quick.yaml").write_text("platform:\n  lost_answer_deadline: 0.5\nrelease:\n  mirror: mirror\n")

    def arguments(self, command: Command) -> list[str]:
        """On the sandbox where a cluster is meant, and with the stand-in where a release is not named."""
        words = [SAVED.get(word, word) for word in command.words[1:]]
        if words[0] in NEEDS_SANDBOX and "--sandbox" not in words:
            words.append("--sandbox")
        if words[0] in NEEDS_SANDBOX and not {"--config", "-c", "--profile", "-p"} & set(words):
            words += ["--config", "quick.yaml"]
        if "--release" in words:
            self.release = words[words.index("--release") + 1]  # and stays with it
        elif (
            words[0] in TAKES_RELEASE and not {"--list-saved", "--drop-saved"} & set(words) and self.release is not None
        ):
            words += ["--release", self.release]
        return words

    def type(self, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
        words = self.arguments(command)
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        assert code in self.expected(words), f"{command.line}\nexit code {code}\n{printed.out}\n{printed.err}"
        assert "Traceback" not in printed.err
        self.still_the_clock()
        if "--json" in words:
            self.documents[words[0]] = json.loads(printed.out)
            json_forms.check(self.documents[words[0]])
        else:
            self.exported |= dict(re.findall(r"^ *export (\w+)=(\S+)$", printed.out, re.M))

    def still_the_clock(self) -> None:
        """No job runs but those that are asked for."""
        info = lifecycle.status(self.folder / "state" / "sandbox")
        if info is not None and info != self.stilled:
            RemoteControl(info).change_settings(clock="still")
            self.stilled = info

    def expected(self, words: list[str]) -> set[int]:
        if "--exit-code" in words:
            return {errors.EXIT_DONE, errors.EXIT_CHANGES_PENDING}
        if words[0] == "verify" and not self.keeps_data:
            return {errors.VerificationFailed.exit_code}  # the stand-in keeps nothing, and verify must notice
        if words[0] == "schedule-gc" and "--dry-run" in words and not self.keeps_data:
            return {errors.StageFailed.exit_code}  # the stand-in knows no dry run, and must not be asked for one
        if "nagios" in words:
            return {0, 1}  # a warning where there is no backup yet
        if words[0] == "uninstall" and "--yes" not in words:
            return {errors.Conflict.exit_code}  # nobody is there to agree
        return {errors.EXIT_DONE}

    def run_mlflow(self, command: Command) -> None:
        """MLflow's own client, with what `env` has exported."""
        environment = {**os.environ, **self.exported}
        client = [sys.executable, "-m", *command.words]
        done = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "Default" in done.stdout


@pytest.fixture
def typing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [n for n in os.environ if n.startswith(("AE5_", "MLFLOW_", "CF_ACCESS_")) or n == "REQUESTS_CA_BUNDLE"]:
        monkeypatch.delenv(name)  # no test may reach the cluster of whoever runs it
    monkeypatch.setenv("MLFLOW_AE5_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("GC_DATABASE_URI", DATABASE_URI)
    (tmp_path / "gc-database-uri").write_text(DATABASE_URI)
    (tmp_path / "gc-database-uri").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    lifecycle.reset(tmp_path / "state" / "sandbox")


def stand_ins(mirror: Path, keeps_data: bool) -> Path:
    """Two releases; the first of them is returned."""
    mirror.mkdir()
    first, second = (mirror / f"mlflow.tracking.server.{version}.tar.gz" for version in ("1.0.0", "1.2.0"))
    if keeps_data:
        make_snapshotting_release(second, schema="schema-2", version="3.18.0")
        return make_snapshotting_release(first)
    make_collecting_release(second, knows_dry_run=False, files={"new.txt": "newer"})
    return make_collecting_release(first, knows_dry_run=False)


def lose_everything(folder: Path) -> None:
    """The installation, its secrets, its data and what this machine remembers of it. Only the snapshots stay."""
    assert main(["uninstall", "--sandbox", "--yes", "--purge-secrets", "--config", "quick.yaml"]) == 0
    (folder / "state" / "sandbox" / "volumes" / "mlflow-service" / "data" / "db").unlink()
    for memory in (folder / "state").glob("localhost*/state.json"):
        memory.unlink()


@pytest.mark.slow
def test_what_the_readme_tells_to_try_works(typing, capsys):
    reader = Reader(typing, release=None)

    for command in commands(README.partition(CLUSTER)[0]):
        if command.name == PROGRAM:
            reader.type(command, capsys)
        elif command.name == "mlflow":
            reader.run_mlflow(command)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_said_about_a_cluster_works(name, typing, capsys):
    text = TEXTS[name].partition(CLUSTER)[2] or TEXTS[name]
    reader = Reader(typing, str(stand_ins(typing / "mirror", name in KEEPS_DATA)), keeps_data=name in KEEPS_DATA)

    if name not in NOT_INSTALLED and any(command.name == PROGRAM for command in commands(text)):
        reader.type(Command("install", (PROGRAM, "install")), capsys)
    if name == "how-to/two-environments.md":
        (typing / CONFIGURATION).write_text(blocks(text, "yaml")[0])
    for number, part in enumerate(text.split(DISASTER)):
        if number:
            lose_everything(typing)
        for command in commands(part):
            assert command.name != "mlflow", "its client needs a real server: put it into README.md"
            if command.name == PROGRAM:
                reader.type(command, capsys)

    for block in blocks(text, "json"):
        example = json.loads(block)
        printed = reader.documents[example["verb"]]
        assert shape(example) <= shape(printed), "it shows a field that the program does not print"
