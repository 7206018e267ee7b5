"""What a person is shown before a project is replaced: what differs, never two checksums, and no secret."""

from __future__ import annotations

import io

import pytest

from mlflow_ae5_deploy.common.members import Limits, walk
from mlflow_ae5_deploy.config.settings import SlipstreamSettings
from mlflow_ae5_deploy.release.archive import survey_members
from mlflow_ae5_deploy.release.customize import build
from mlflow_ae5_deploy.release.differences import differences
from mlflow_ae5_deploy.release.project_file import PROJECT_FILE
from mlflow_ae5_deploy.release.provenance import same_content
from mlflow_ae5_deploy.resources.project import ReplaceProject

# slip-stream settings of the uploaded project, of the desired one -> the lines
CUSTOMIZED = [
    ({}, {}, ()),
    ({}, {"variables": {"MLFLOW_WORKERS": "2"}}, ("variable MLFLOW_WORKERS: added (2)",)),
    ({"variables": {"MLFLOW_WORKERS": "2"}}, {}, ("variable MLFLOW_WORKERS: removed",)),
    (
        {"variables": {"MLFLOW_TRACKING_GC_TTL": "7d"}},
        {"variables": {"QUOTED": ""}},
        ("variable MLFLOW_TRACKING_GC_TTL: 7d → 30d0h0m0s", "variable QUOTED: changed to empty"),
    ),
    (
        {},
        {"dependencies": {"mlflow": "==3.17.3"}},
        ("package mlflow: == 3.17.2 → ==3.17.3", "package mlflow: =2.9 → ==3.17.3"),
    ),
    ({}, {"dependencies": {"cowsay": "==6.0"}}, ("package cowsay: added (==6.0)",)),
    ({}, {"channels": ["conda-forge"]}, ("channels: defaults → conda-forge, defaults",)),
    ({}, {"commands": {"Hello": {"unix": "echo"}}}, ("command Hello: added",)),
    ({}, {"commands": {"TrackingServer": {"unix": "python -m other"}}}, ("command TrackingServer: changed",)),
]


@pytest.mark.parametrize(("uploaded", "desired", "lines"), CUSTOMIZED)
def test_customizations(template, tmp_path, uploaded, desired, lines):
    before = build(template, SlipstreamSettings(**uploaded), tmp_path / "before.tar.gz")
    after = build(template, SlipstreamSettings(**desired), tmp_path / "after.tar.gz")

    compared = same_content(before.path.read_bytes(), after)

    assert (compared.differences, compared.same) == (lines, not lines)


def project(make, tmp_path, name, files, project_file=None):
    entries = [make.entry("p/", kind=b"5"), make.entry(f"p/{PROJECT_FILE}", project_file or make.project)]
    entries += [make.entry(f"p/{path}", content.encode()) for path, content in files.items()]
    raw = make.tar(tmp_path / name, entries).read_bytes()
    return survey_members(walk(io.BytesIO(raw), Limits()), name, keep={PROJECT_FILE: 1 << 20})


FILES = [
    ({"a": "1"}, {"a": "1"}, ()),
    ({"a": "1", "gone": ""}, {"a": "2", "new": ""}, ("file a: changed", "file gone: removed", "file new: added")),
    ({str(n): "1" for n in range(9)}, {str(n): "2" for n in range(8)}, ("files: 8 changed, 1 removed",)),
    ({".gitignore": "1"}, {".gitignore": "2"}, ()),  # AE5 edits it
]


@pytest.mark.parametrize(("observed", "desired", "lines"), FILES)
def test_files_are_named_or_counted(make, tmp_path, observed, desired, lines):
    before, after = project(make, tmp_path, "a.tar.gz", observed), project(make, tmp_path, "b.tar.gz", desired)
    assert differences(before, after) == lines


# What somebody wrote into the project -> the line. Only what the tool knows as harmless is shown with its value.
EDITED = [
    ("AWS_SECRET_ACCESS_KEY: hunter2", "variable AWS_SECRET_ACCESS_KEY: removed"),
    ("DB_PASS: hunter2", "variable DB_PASS: removed"),
    ("QUOTED: postgresql://user:hunter2@db/x", "variable QUOTED: changed"),
    ("QUOTED: hunter2", "variable QUOTED: changed"),
    ("QUOTED: {encrypted: hunter2}", "variable QUOTED: changed"),
    ("QUOTED: {default: {key: MASTER, encrypted: hunter2}}", "variable QUOTED: changed"),
    ("QUOTED: [hunter2]", "variable QUOTED: changed"),
    ("MLFLOW_TRACKING_GC_TTL: 7d", "variable MLFLOW_TRACKING_GC_TTL: 7d → 30d0h0m0s"),
    (
        "MLFLOW_TRACKING_GC_TTL: {default: {encrypted: hunter2}}",
        "variable MLFLOW_TRACKING_GC_TTL: changed to 30d0h0m0s",
    ),
    ("MLFLOW_TRACKING_GC_TTL: mysql://user:hunter2@db/x", "variable MLFLOW_TRACKING_GC_TTL: changed to 30d0h0m0s"),
]


def with_variable(text, line):
    name = line.partition(":")[0]
    kept = [row for row in text.decode().splitlines() if not row.startswith(f"  {name}:")]
    return "\n".join(kept).replace("variables:", f"variables:\n  {line}").encode()


@pytest.mark.parametrize(("line", "shown"), EDITED)
def test_what_somebody_wrote_into_the_project_is_not_shown(make, tmp_path, line, shown):
    edited, desired = (
        with_variable(make.project, line),
        with_variable(make.project, "MLFLOW_TRACKING_GC_TTL: 30d0h0m0s"),
    )
    if not line.startswith("MLFLOW"):
        edited = with_variable(edited, "MLFLOW_TRACKING_GC_TTL: 30d0h0m0s")
    lines = differences(
        project(make, tmp_path, "a.tar.gz", {}, edited), project(make, tmp_path, "b.tar.gz", {}, desired)
    )
    assert lines == (shown,)


# A variable that the configuration sets, its former value in the project -> the line.
CONFIGURED = [
    ("SMTP_HOST: mail", None, "variable SMTP_HOST: added (mail)"),
    ("SMTP_HOST: mail", "hunter2", "variable SMTP_HOST: changed to mail"),
    ("SMTP_PASSWORD: hunter2", None, "variable SMTP_PASSWORD: added"),
]


@pytest.mark.parametrize(("line", "former", "shown"), CONFIGURED)
def test_a_value_of_the_configuration_is_shown_unless_it_may_be_a_secret(make, tmp_path, line, former, shown):
    name = line.partition(":")[0]
    before = with_variable(make.project, f"{name}: {former}") if former else make.project
    observed, desired = (
        project(make, tmp_path, f"{number}.tar.gz", {}, text)
        for number, text in enumerate((before, with_variable(make.project, line)))
    )
    assert differences(observed, desired, configured={name}) == (shown,)
    assert "hunter2" not in shown
    assert differences(observed, desired) == (f"variable {name}: {'changed' if former else 'added'}",)


def test_the_journal_has_names_only():
    lines = ("variable SMTP_HOST: added (mail)", "package mlflow: ==1 → ==2")
    recorded = ReplaceProject(name="p", reason="edited", release="1 → 2", differences=lines).record()
    assert recorded["reason"] == "edited; differs in release, variable SMTP_HOST, package mlflow"


CHANGED = f"file {PROJECT_FILE}: changed"
# The forms that a file edited by hand may have -> the lines. Desired: DESIRED.
DESIRED = b"""
variables: {A: {default: one}}
channels: [defaults]
packages: [x=1]
commands: {C: {unix: run}}
env_specs: {default: {packages: [y=1]}}
"""
ODD_FORMS = [
    ("variables", "[A]", "variable A: changed"),
    ("variables", "[[1], {a: b}]", "variable A: added"),
    ("variables", "5", "variable A: added"),
    ("variables", "text", "variable A: added"),
    ("variables", "{A: [1]}", "variable A: changed"),
    ("variables", "{A: {default: {a: b}}}", "variable A: changed"),
    ("variables", "{1: 2, A: one}", "variable 1: removed"),
    ("variables", "{A: .nan}", "variable A: changed"),
    ("channels", "5", "channels: none → defaults"),
    ("channels", "true", "channels: none → defaults"),
    ("channels", "text", "channels: none → defaults"),
    ("channels", "null", "channels: none → defaults"),
    ("channels", "{a: b}", "channels: none → defaults"),
    ("channels", "[defaults, 5, {a: b}, null]", CHANGED),
    (
        "channels",
        "['https://conda.example.com/t/hunter2/main']",
        "channels: (an address that is not shown) → defaults",
    ),
    ("packages", "{x: 1}", "package x: added (=1)"),
    ("packages", "5", "package x: added (=1)"),
    ("packages", "[5, null, [x], {pip: 5}, {pip: {a: b}}]", "package x: added (=1)"),
    ("packages", "['x @ https://user:hunter2@host/x']", "package x: changed to =1"),
    ("commands", "null", "command C: added"),
    ("commands", "5", "command C: added"),
    ("commands", "{C: 5}", "command C: changed"),
    ("commands", "[C]", "command C: added"),
    ("env_specs", "text", "environment default: added"),
    ("env_specs", "[default]", "environment default: added"),
    ("env_specs", "{default: 5}", "environment default: added"),
    ("env_specs", "{default: {packages: text}}", "package y: added (=1)"),
    ("env_specs", "{default: {packages: [y=1]}, 5: {}}", "environment 5: removed"),
    ("name", "[1, {2: 3}]", CHANGED),
]


@pytest.mark.parametrize(("section", "form", "line"), ODD_FORMS)
def test_a_project_file_of_any_form_is_compared(make, tmp_path, section, form, line):
    rows = [row for row in DESIRED.decode().splitlines() if not row.startswith(f"{section}:")]
    edited = "\n".join([*rows, f"{section}: {form}"]).encode()
    observed, desired = (
        project(make, tmp_path, f"{number}.tar.gz", {}, text) for number, text in enumerate((edited, DESIRED))
    )
    assert line in differences(observed, desired)
    assert "hunter2" not in " ".join([*differences(observed, desired), *differences(desired, observed)])


@pytest.mark.parametrize("whole", [b"", b"5", b"[1]", b"text", b"a: &a [*a]", b"\xff", b"? [1]\n: 2", b"variables: *a"])
def test_a_project_file_of_no_form_is_changed(make, tmp_path, whole):
    observed = project(make, tmp_path, "a.tar.gz", {}, whole)
    lines = differences(observed, project(make, tmp_path, "b.tar.gz", {}, DESIRED))
    assert lines == (CHANGED,) or "command C: added" in lines


def test_a_project_file_that_cannot_be_read_is_changed(make, tmp_path):
    observed = project(make, tmp_path, "a.tar.gz", {}, b"{")
    assert differences(observed, project(make, tmp_path, "b.tar.gz", {})) == (f"file {PROJECT_FILE}: changed",)


def test_another_release_is_named(template, tmp_path):
    before = build(template, SlipstreamSettings(), tmp_path / "a.tar.gz")
    newer = type(template)("version", "0.2.0", "0.2.0", template.path, None, "none")
    (template.path / "run.sh").write_text("newer")
    compared = same_content(before.path.read_bytes(), build(newer, SlipstreamSettings(), tmp_path / "b.tar.gz"))
    assert (compared.release_change, compared.differences) == ("bundled 0.1.0 → 0.2.0", ("file run.sh: changed",))
    replaced = ReplaceProject(reason="", release=compared.release_change, differences=compared.differences)
    assert replaced.why == "release: bundled 0.1.0 → 0.2.0; file run.sh: changed"
    assert replaced.data()["release"] == compared.release_change
