"""The sandbox's pages and the MLflow on it, seen by a real browser. One server, one browser, tests in order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("selenium", reason="selenium is not installed (it comes with the extra [dev])")

from selenium.webdriver.common.keys import Keys

from mlflow_ae5_deploy.sandbox.sandbox import Sandbox
from tests.browser.chromium import Browser, programs
from tests.cli.bench import ACCOUNT
from tests.e2e.site import Site
from tests.sandbox.support import Client, password_of, wait_for

PERSON = "dev-user"
NOTE = "Trained on 2 cores."
# What MLflow itself writes to the console: it asks for the account of its own sign-in, which is not used here, and the
# browser notes a layout that took two turns.
MLFLOW = (
    "/ajax-api/2.0/mlflow/users/current"
    " - Failed to load resource: the server responded with a status of 404 (Not Found)",
    '"ResizeObserver loop completed with undelivered notifications."',
)


@dataclass(frozen=True)
class Place:
    """An installation with an experiment in it."""

    site: Site
    url: str
    experiment: str
    run: str
    view: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    programs()
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        done = site.install()
        assert done.code == 0, done.err
        environment = site.client_environment()
        experiment, run = fill(site, environment)
        deployment = site.deployment()
        view = f"/deployments/detail/{deployment['id']}/view"
        yield Place(site, environment["MLFLOW_TRACKING_URI"], experiment, run, view)
    finally:
        site.reset()


def fill(site: Site, environment: dict[str, str]) -> tuple[str, str]:
    """Log a run with a curve, an artifact, a model version and a trace, as a client does."""

    def post(path: str, body: dict[str, Any]) -> Any:
        return site.call("POST", environment, f"2.0/mlflow/{path}", body)

    now = int(time.time() * 1000)
    experiment = post("experiments/create", {"name": "churn"})["experiment_id"]
    run = post("runs/create", {"experiment_id": experiment, "run_name": "rate 0.1", "start_time": now - 60_000})["run"]
    run_id, folder = run["info"]["run_id"], run["info"]["artifact_uri"]
    curve = [
        {"key": key, "value": value, "timestamp": now - 60_000 + step, "step": step}
        for step in range(20)
        for key, value in (("loss", 1 / (1 + step)), ("accuracy", 1 - 1 / (2 + step)))
    ]
    post("runs/log-batch", {"run_id": run_id, "metrics": curve, "params": [{"key": "rate", "value": "0.1"}]})
    post("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": now})
    post("registered-models/create", {"name": "churn-model"})
    post("model-versions/create", {"name": "churn-model", "source": folder, "run_id": run_id})
    note = f"2.0/mlflow-artifacts/artifacts/{folder.removeprefix('mlflow-artifacts:/')}/note.txt"
    site.send("PUT", environment, f"api/{note}", data=NOTE.encode())
    span = {"traceId": "5b8aa5a2d2c872e8321cf37308d69df2", "spanId": "051581bf3cb55c13", "name": "answer", "kind": 1}
    span |= {"startTimeUnixNano": str((now - 2000) * 10**6), "endTimeUnixNano": str(now * 10**6)}
    span |= {"attributes": [{"key": "mlflow.spanInputs", "value": {"stringValue": '"How many cores?"'}}]}
    spans = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}]}]}
    site.send("POST", environment, "v1/traces", json=spans, headers={"x-mlflow-experiment-id": experiment})
    return experiment, run_id


@pytest.fixture(scope="module")
def window(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    profile = tmp_path_factory.mktemp("profile")
    opened = Browser(place.site.info.hostname, profile)
    yield opened
    opened.quit()
    wait_for(lambda: not users_of(profile), "the browser to end")


def users_of(folder: Path) -> list[int]:
    processes = psutil.process_iter(["pid", "cmdline"])
    return [p.info["pid"] for p in processes if any(str(folder) in text for text in p.info["cmdline"] or ())]


@pytest.fixture
def browser(window: Browser, place: Place, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Afterwards: a picture in the site's folder, and no error on the console but what the test expects."""
    expected = getattr(request.node.get_closest_marker("console"), "args", ())
    window.console()
    yield window
    pictures = place.site.folder / "pictures"
    pictures.mkdir(exist_ok=True)
    window.driver.save_screenshot(str(pictures / f"{request.node.name.replace('/', '_')}.png"))
    found = [line for line in window.console() if not (line.startswith(place.url) and line.endswith(MLFLOW))]
    found = [line for line in found if not any(text in line for text in expected)]
    assert found == []


@pytest.fixture
def signed_in(browser: Browser, place: Place) -> Browser:
    if browser.account != PERSON:
        browser.sign_in(PERSON, password_of(place.site.info, PERSON))
    return browser


# -- signing in -------------------------------------------------------------------------------


def test_wrong_password_then_right_one_with_the_keyboard_alone(browser, place):
    browser.open()
    browser.sees("You are not signed in", "This is a sandbox, not Anaconda Enterprise 5")
    browser.type(Keys.TAB, Keys.TAB, Keys.TAB)
    browser.has_focus("Sign in")
    browser.type(Keys.ENTER)
    browser.has_focus("Username")
    browser.type(PERSON, Keys.TAB, "wrong", Keys.ENTER)
    browser.sees("Invalid username or password.")
    browser.has_focus("Password")
    browser.type(password_of(place.site.info, PERSON), Keys.ENTER)
    browser.sees("Overview", f"Signed in as {PERSON}", "dev.mlflow.tracking.server", "You have no secrets.")


def test_everything_on_the_overview_is_reached_with_tab(signed_in):
    signed_in.open()
    reached = []
    for _ in range(6):
        signed_in.type(Keys.TAB)
        reached.append(signed_in.focused())
    server = "dev.mlflow.tracking.server"
    assert reached[:5] == ["Skip to the content", "AE5 sandbox", "Sign out", server, f"Open MLflow of {server}"]


@pytest.mark.parametrize("width", [1280, 400])
def test_the_owners_overview_fits_the_window(browser, place, width):
    browser.resize(width, 900)
    try:
        browser.sign_in(ACCOUNT, password_of(place.site.info, ACCOUNT))
        browser.sees("garbage collection", "MLFLOW_TRACKING_TOKEN")
        wider = "return document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
        assert browser.driver.execute_script(wider) == 0
    finally:
        browser.resize(1280, 900)
        browser.forget()


# -- MLflow -----------------------------------------------------------------------------------

# What MLflow shows at an address and not at the one before.
PAGES = {
    "home": ("#/", "Welcome to MLflow"),
    "experiments": ("#/experiments", "Time created", "churn"),
    "runs": ("#/experiments/{experiment}/runs", "1 matching run", "rate 0.1"),
    "run": ("#/experiments/{experiment}/runs/{run}", "About this run", "Finished"),
    "charts": ("#/experiments/{experiment}/runs/{run}/model-metrics", "accuracy", "loss"),
    "artifact": ("#/experiments/{experiment}/runs/{run}/artifacts/note.txt", NOTE),
    "models": ("#/models", "churn-model", "Latest version"),
    "model": ("#/models/churn-model", "Version 1"),
    "traces": ("#/experiments/{experiment}/traces", "How many cores?"),
}


SHOWN = [("frame", page) for page in PAGES] + [("tab", page) for page in ("home", "runs", "artifact")]


@pytest.mark.parametrize(("where", "page"), SHOWN, ids=[f"{where}-{page}" for where, page in SHOWN])
def test_mlflow_shows(signed_in, place, where, page):
    fragment, *texts = PAGES[page]
    fragment = fragment.format(experiment=place.experiment, run=place.run)
    if where == "tab":
        signed_in.open(f"{place.url}/{fragment}")
    else:
        if signed_in.where() != place.view:
            signed_in.open()
            signed_in.follow("Open MLflow")
        signed_in.enter_frame()
        signed_in.driver.execute_script("location.hash = arguments[0]", fragment)
    signed_in.sees(*texts)
    if page == "charts":
        signed_in.draws(".js-plotly-plot .scatterlayer path.js-line", 2)


# -- who is not let in ------------------------------------------------------------------------


def test_without_signing_in_there_is_only_the_login(browser, place):
    for address in (place.url, place.view):
        browser.forget()
        browser.open(address)
        browser.has_focus("Username")
    browser.type(PERSON, Keys.TAB, password_of(place.site.info, PERSON), Keys.ENTER)
    browser.find("iframe")
    assert browser.where() == place.view


@pytest.mark.console("403 (The deployment is not shared with you)", "404 (Deployment not found)")
def test_somebody_it_is_not_shared_with_is_rejected(signed_in, place):
    owner = place.site.owner()
    path = f"deployments/{place.site.deployment()['id']}/collaborators"
    before = owner.get(path)
    owner.call("PUT", path, json=[])
    try:
        signed_in.open()
        signed_in.sees("No deployment is yours or shared with you.")
        signed_in.open(place.view)
        signed_in.sees("Not found", "it is not shared with you")
        signed_in.open(place.url)
        signed_in.sees("You may not open this", "Its owner can share it with you")
    finally:
        owner.call("PUT", path, json=before)


def test_signing_out_ends_the_session_of_mlflow_too(signed_in, place):
    signed_in.open()
    signed_in.follow("Sign out")
    signed_in.sees("You are not signed in")
    signed_in.open(place.url)
    signed_in.sees("Username")


# -- endpoints on sub-domains, as on a cluster --------------------------------------------------


def test_sub_domains_keep_the_session_and_stand_in_the_frame(tmp_path, project_archive):
    """Deployed with endpoints on ports, because not every machine resolves names below localhost. Chromium does."""
    programs()
    state = tmp_path / "state"
    with Sandbox(state, {"addressing": "ports", "clock": "still"}) as server:
        client = Client(server.info, PERSON)
        label = client.deploy(client.upload(project_archive, "p").json()["id"], static_endpoint="served")["id"]
    with Sandbox(state, {"addressing": "vhost"}) as server:

        def started() -> bool:
            return json.loads((state / "state.json").read_text())["deployments"][label]["state"] == "started"

        wait_for(started, "the deployment")
        browser = Browser(server.info.hostname, tmp_path / "profile")
        try:
            browser.open(f"https://served.{server.info.hostname}/version")
            browser.has_focus("Username")
            browser.type(PERSON, Keys.TAB, password_of(server.info, PERSON), Keys.ENTER)
            browser.sees("3.17.2")
            browser.open()
            browser.follow("Open MLflow")
            browser.enter_frame()
            browser.sees("no such page")
            application = f"https://served.{server.info.hostname}/"
            assert [line for line in browser.console() if not line.startswith(application)] == []
        finally:
            browser.quit()
