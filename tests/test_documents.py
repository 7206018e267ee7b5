"""The documents say what is true: generated parts match the code, links lead somewhere, samples are valid."""

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
from pathlib import Path
from urllib.parse import unquote

import pytest
from ruamel.yaml import YAML

from mlflow_ae5_deploy.cli.main import main
from mlflow_ae5_deploy.common import errors
from mlflow_ae5_deploy.config.load import load
from mlflow_ae5_deploy.release.bundled import bundled_version
from mlflow_ae5_deploy.runbook.stages.order import STAGES
from tests.documents import DOCUMENTS, PROGRAM, README, ROOT, RUNBOOKS, TEXTS, blocks, section, table
from tools import json_forms, reference


def test_the_second_command_is_what_ci_runs():
    first, second = blocks(README, "sh")[:2]

    assert first.strip().endswith(f"{PROGRAM} install --sandbox")
    assert len(first.splitlines()) == len(second.splitlines()) == 1
    assert second.strip() in (ROOT / ".ci" / "run").read_text().splitlines()


def test_generated_parts_are_what_the_code_says():
    stale = [path for path, text in reference.current().items() if path.read_text(encoding="utf-8") != text]

    assert stale == [], "write them again: python tools/reference.py"
    assert reference.superfluous() == set()


@pytest.mark.slow
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


@pytest.mark.slow
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
