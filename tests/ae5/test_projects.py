"""Projects: exact look-up, uploads that happen once, waits that end."""

from __future__ import annotations

import io
import tarfile
from uuid import uuid4

import pytest

from mlflow_ae5_deploy.common.errors import (
    Configuration,
    Conflict,
    DeadlineExceeded,
    Denied,
    LoginFailed,
    PlatformError,
    Refused,
    UnexpectedAnswer,
)

from .conftest import LOSSES, loss
from .stub import Reply, answer


def _record(identity: str = "a0-1", name: str = "p", owner: str = "svc", **more: object) -> dict[str, object]:
    return {"id": identity, "name": name, "owner": owner, "resource_profile": "default", **more}


@pytest.fixture
def gz(tmp_path):
    path = tmp_path / "p.tar.gz"
    path.write_bytes(b"\x1f\x8b")
    return path


# over the sandbox


def test_an_upload_becomes_a_project(bench):
    name = f"p-{uuid4()}"
    made = bench.platform.upload(name, bench.archive)
    assert (made.name, made.owner) == (name, "dev-user")
    assert bench.platform.project("dev-user", name) == made
    (revision,) = bench.platform.revisions(made.id)
    assert "TrackingServer" in [command.id for command in revision.commands]
    content = bench.platform.download_archive(made.id)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert any(member.endswith("/anaconda-project.yml") for member in archive.getnames())
    bench.platform.delete_project(made.id)
    bench.platform.delete_project(made.id)
    assert bench.platform.project("dev-user", name) is None


def test_a_second_project_of_that_name_is_a_conflict(bench):
    name = f"p-{uuid4()}"
    bench.platform.upload(name, bench.archive)
    with pytest.raises(Conflict, match="Project name is not unique"):
        bench.platform.upload(name, bench.archive)
    assert bench.count("POST", "projects/upload") == 2


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("hidden", [0, 2])
def test_an_upload_whose_answer_is_lost_happens_once(bench, how, hidden):
    name = f"p-{uuid4()}"
    bench.control.change_settings(list_visibility_polls=hidden)
    bench.control.add_fault(**loss("POST", "projects/upload", how))
    made = bench.platform.upload(name, bench.archive)
    bench.control.change_settings(list_visibility_polls=0)
    assert [item.id for item in bench.platform.projects() if item.name == name] == [made.id]
    assert bench.count("POST", "projects/upload") == (2 if how.endswith("before") else 1)


def test_an_upload_is_waited_for_until_processed_and_listed(bench):
    bench.control.change_settings(state_polls=2, list_visibility_polls=2)
    made = bench.platform.upload(f"p-{uuid4()}", bench.archive)
    bench.control.change_settings(state_polls=0, list_visibility_polls=0)
    assert made.id in [item.id for item in bench.platform.projects()]
    assert "the upload to be processed" in bench.waits
    assert any("to be listed" in what for what in bench.waits)


def test_proving_the_session_also_lists_the_projects_once(bench):
    assert bench.platform.whoami() == "dev-user"
    bench.platform.projects()
    assert bench.count("GET", "projects") == 1
    bench.platform.projects()
    assert bench.count("GET", "projects") == 2


# over the scripted server


def test_the_proof_is_not_used_as_a_list_when_it_is_old(scripted, stub, clock):
    scripted.whoami()
    clock.sleep(31)
    scripted.projects()
    assert len(stub.sent("GET", "projects")) == 2


@pytest.mark.parametrize(("status", "kind"), [(401, LoginFailed), (403, Denied)])
def test_a_session_that_may_do_nothing_is_noticed(scripted, stub, status, kind):
    stub.on("GET", "projects", Reply(status), always=True)
    with pytest.raises(kind):
        scripted.whoami()


def test_names_are_not_patterns_and_owners_count(scripted, stub):
    """ae5-tools takes names for patterns over all that is visible, and is confused by a shared project."""
    records = [_record("a0-1", "p", "other"), _record("a0-2", "p", "svc"), _record("a0-3", "p,x*", "svc")]
    stub.on("GET", "projects", answer(records), always=True)
    desired = {("svc", "p"): "a0-2", ("svc", "p,x*"): "a0-3", ("svc", "*"): None, ("svc", "p*"): None, ("*", "p"): None}
    found = {key: scripted.project(*key) for key in desired}
    assert {key: item and item.id for key, item in found.items()} == desired


def test_a_failed_upload_is_reported_and_its_project_deleted(scripted, stub, gz):
    action = {"id": "act", "done": False, "error": False}
    failed = {"id": "act", "done": True, "error": True, "message": "no anaconda-project.yml"}
    stub.on("POST", "projects/upload", answer(_record(action=action)))
    stub.on("GET", "projects/a0-1/activity", answer({"data": []}), answer({"data": [failed]}))
    stub.on("DELETE", "projects/a0-1", Reply(200, kind=None))
    with pytest.raises(Refused, match=r"no anaconda-project\.yml"):
        scripted.upload("p", gz)
    assert len(stub.sent("DELETE", "projects/a0-1")) == 1


def test_an_upload_that_is_never_processed_ends(scripted, stub, gz, clock):
    stub.on("POST", "projects/upload", answer(_record(action={"id": "act", "done": False, "error": False})))
    stub.on("GET", "projects/a0-1/activity", answer({"data": []}), always=True)
    with pytest.raises(DeadlineExceeded, match="the upload to be processed"):
        scripted.upload("p", gz)
    assert 300 <= clock.elapsed < 310


def test_a_project_that_is_never_listed_ends(scripted, stub, gz):
    stub.on("POST", "projects/upload", answer(_record(action={"id": "act", "done": True, "error": False})))
    with pytest.raises(DeadlineExceeded, match="to be listed"):
        scripted.upload("p", gz)


def test_an_upload_reports_the_bytes_sent_and_sends_all_of_them(scripted, stub, tmp_path):
    archive, seen = tmp_path / "p.tar.gz", []
    archive.write_bytes(b"\x1f\x8b" + bytes(range(256)) * 400)
    stub.on("POST", "projects/upload", Reply(401), answer(_record()))
    stub.on("GET", "projects", answer([_record()]), always=True)

    scripted.upload("p", archive, lambda total, done: seen.append((total, done)))

    bodies = [call.body for call in stub.sent("POST", "projects/upload")]
    assert archive.read_bytes() in bodies[0]
    assert {total for total, _done in seen} == {len(body) for body in bodies}
    assert len(seen) > 10  # not only when all was sent
    assert [done for _total, done in seen].count(len(bodies[1])) >= 2


def test_an_upload_without_an_action_is_accepted_when_listed(scripted, stub, gz):
    stub.on("POST", "projects/upload", answer(_record()))
    stub.on("GET", "projects", answer([_record()]))
    assert scripted.upload("p", gz).id == "a0-1"


def test_no_local_path_is_sent(scripted, stub, gz):
    """ae5-tools states the whole path as the file's name."""
    stub.on("POST", "projects/upload", answer(_record()))
    stub.on("GET", "projects", answer([_record()]))
    scripted.upload("p", gz)
    (call,) = stub.sent("POST", "projects/upload")
    assert b'filename="p.tar.gz"' in call.body
    assert str(gz.parent).encode() not in call.body


def test_an_upload_refused_in_a_200_answer(scripted, stub, gz):
    stub.on("POST", "projects/upload", answer({"error": {"message": "Quota exceeded"}}))
    with pytest.raises(Refused, match="Quota exceeded"):
        scripted.upload("p", gz)


def test_an_upload_is_given_up_after_three_losses(scripted, stub, gz):
    stub.on("POST", "projects/upload", Reply(503), always=True)
    with pytest.raises(PlatformError, match="503"):
        scripted.upload("p", gz)
    assert len(stub.sent("POST", "projects/upload")) == 3


def test_a_missing_archive_is_noticed_before_anything_is_sent(scripted, stub, tmp_path):
    with pytest.raises(Configuration):
        scripted.upload("p", tmp_path / "missing.tar.gz")
    assert not stub.sent("POST", "projects/upload")


def test_a_download_that_is_no_archive_is_refused(scripted, stub):
    stub.on("GET", "projects/a0-1/revisions/latest/archive", Reply(body=b"PK", kind="application/octet-stream"))
    with pytest.raises(UnexpectedAnswer):
        scripted.download_archive("a0-1")
