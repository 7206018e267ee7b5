"""A server on another database than the configured one is noticed; releases see their secrets where AE5 has them."""

from __future__ import annotations

import pytest

from mlflow_ae5_deploy.sandbox import lifecycle
from tests.cli.answers import assert_error
from tests.sandbox.support import PROJECT_FILE, make_project_archive

FOLDER = "/var/run/secrets/user_credentials"
CHECK = "configured database in use"


@pytest.fixture
def foreign(bench, tmp_path):
    """Like upstream's: reads its secrets there only, falls back to a default of its own, and prints what it starts."""
    start = (
        f'echo "mlflow server --backend-store-uri $(cat {FOLDER}/MLFLOW_BACKEND_STORE_URI || echo sqlite:///own.db)"'
    )
    text = PROJECT_FILE.replace("unix: exec python", f"unix: |-\n      {start}; exec python")
    return make_project_archive(tmp_path / "foreign.tar.gz", project_file=text)


def checks_of(done):
    return {check["name"]: check["passed"] for check in done.data["checks"]}


class TestForeignRelease:
    """In order: with the mount it serves what is configured; a configuration that says otherwise fails; without the
    mount nothing of its secrets is seen, which is told before and noticed after."""

    def test_it_sees_its_secrets(self, bench, capsys, foreign):
        if not bench.info.mounts_secrets:
            pytest.skip("this machine allows no mount namespace")
        done = bench.run(capsys, "install", "--sandbox", "--json", "--release", str(foreign))
        verified = bench.run(capsys, "verify", "--sandbox", "--json")

        assert done.code == 0, done.err
        assert FOLDER not in done.err
        assert checks_of(verified)[CHECK] is True

    def test_verify_notices_another_one(self, bench, capsys):
        if not bench.info.mounts_secrets:
            pytest.skip("this machine allows no mount namespace")
        path = bench.configure("server: {backend_store_uri: 'sqlite:///data/another.sqlite'}\n")

        verified = bench.run(capsys, "verify", "--sandbox", "--json", "--config", str(path))

        assert verified.code == 21
        assert checks_of(verified)[CHECK] is False

    def test_without_the_mount_there_is_a_warning_and_an_error(self, bench, capsys, foreign):
        state = bench.folder / "state" / "sandbox"
        lifecycle.down(state)
        lifecycle.up(state, settings={"mount_secrets": False})

        planned = bench.run(capsys, "plan", "--sandbox", "--release", str(foreign))
        refused = bench.run(capsys, "install", "--sandbox", "--json", "--release", str(foreign))
        bundled = bench.run(capsys, "plan", "--sandbox")

        assert f"does not let the sandbox mount {FOLDER}" in planned.err
        assert FOLDER in refused.err
        assert FOLDER not in bundled.err
        assert_error(refused, 20, "stage 8 (deploy)", "another database than the configured one", "sqlite own.db")
        (deployment,) = bench.owner().get("deployments")
        assert "is not mounted; the secrets" in bench.owner().get(f"deployments/{deployment['id']}/logs")["app"]
