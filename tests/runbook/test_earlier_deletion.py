"""A change that lets data be deleted earlier needs consent; one that keeps it for longer does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from runbook_support import Lists, context, job

from mlflow_ae5_deploy.config.settings import BackupSettings
from mlflow_ae5_deploy.resources import earlier_deletion, scheduled_job
from mlflow_ae5_deploy.resources.job_specs import backup_job, gc_job
from mlflow_ae5_deploy.resources.secrets import MADE, SecretState, setting

TTL, ORPHANS = "MLFLOW_TRACKING_GC_TTL", "MLFLOW_TRACKING_GC_ORPHANS"
REGISTERED, DRY_RUN = "MLFLOW_TRACKING_GC_INCLUDE_REGISTERED", "MLFLOW_TRACKING_GC_DRY_RUN"
KEEP = "MLFLOW_TRACKING_BACKUP_ARGUMENTS"
LISTS = "garbage collection deletes again what it only lists now"
LINKED = "garbage collection also deletes artifacts behind registered model versions"
FEWER = "the next scheduled backup deletes snapshots that are kept now"


def purged(age):
    return f"what users deleted more than {age} ago is purged by the next garbage collection"


def orphaned(mode):
    return f"garbage collection deletes orphaned artifact folders ({mode})"


UNKNOWN = "; the value before is not known here"
# variable, before, after (None: not known here), the consequence
CHANGES = [
    (TTL, "30d0h0m0s", "7d", purged("7d")),
    (TTL, "7d", "30d0h0m0s", ""),
    (TTL, "24h", "1d", ""),
    (TTL, "1.5d", "35h59m", purged("35h59m")),
    (TTL, "60d", "", purged("30d0h0m0s")),
    (TTL, "nonsense", "30d", purged("30d")),
    (TTL, "7d", "nonsense", ""),
    (TTL, None, "90d", purged("90d") + UNKNOWN),
    (ORPHANS, "ignore", "show", ""),
    (ORPHANS, "show", "remove", orphaned("remove")),
    (ORPHANS, "remove", "remove-all", orphaned("remove-all")),
    (ORPHANS, "remove-all", "remove", ""),
    (ORPHANS, None, "ignore", ""),
    (ORPHANS, None, "remove", orphaned("remove") + UNKNOWN),
    (ORPHANS, "ignore", None, orphaned("a value that is not shown")),
    (REGISTERED, "false", "true", LINKED),
    (REGISTERED, "no", "On", LINKED),
    (REGISTERED, "true", "false", ""),
    (DRY_RUN, "true", "false", LISTS),
    (DRY_RUN, "true", "unset", LISTS),
    (DRY_RUN, "false", "true", ""),
    (KEEP, "create", "create --keep-last 9", FEWER),
    (KEEP, "create --keep-last 9", "create", ""),
    (KEEP, "create --keep-last 9", "create --keep-last 8 --keep-daily 7", FEWER),
    (KEEP, "create --keep-last 9", "create --keep-last 9 --keep-daily 7", ""),
    (KEEP, "create --keep-last=9 --keep-daily 7", "create --keep-last 30", FEWER),
    ("MLFLOW_HTTP_REQUEST_TIMEOUT", "60", "1", ""),
]


@pytest.mark.parametrize(("name", "before", "after", "text"), CHANGES, ids=[f"{r[0][16:]} {r[1:3]}" for r in CHANGES])
def test_what_a_change_lets_be_deleted(name, before, after, text):
    found = earlier_deletion.consequence_of(name, before, after)

    assert (found.text if found else "") == text


def test_the_defaults_are_those_of_the_project():
    project = yaml.safe_load((Path(__file__).parents[2] / "project_template/anaconda-project.yml").read_text())
    variables = {name: project["variables"][name]["default"] for name in earlier_deletion.DEFAULTS}
    assert variables == earlier_deletion.DEFAULTS


STORED = SecretState("MLFLOW_BACKEND_STORE_URI", "same")
# state of the secret, state of another one, whether consent is asked
SECRETS = [
    (SecretState(TTL, "different", previous="30d", desired="7d"), STORED, True),
    (SecretState(TTL, "different", previous="7d", desired="30d"), STORED, False),
    (SecretState(TTL, "unknown", desired="30d0h0m0s"), STORED, True),
    (SecretState(TTL, "unknown", desired="30d0h0m0s", of_nobody=True), STORED, False),
    (SecretState(TTL, "missing", previous="7d", desired="7d"), STORED, True),
    (SecretState(ORPHANS, "new", desired="remove"), STORED, True),
    (SecretState(ORPHANS, "new", desired="remove"), SecretState("MLFLOW_CRYPTO_KEK_PASSPHRASE", MADE), False),
    (SecretState(TTL, "same", previous="7d", desired="7d"), SecretState("A", "different"), False),
]


@pytest.mark.parametrize(("secret", "other", "asked"), SECRETS, ids=[str(number) for number in range(len(SECRETS))])
def test_a_secret_is_set_only_after_consent_where_data_is_deleted_earlier(secret, other, asked):
    (change,) = setting([other, secret])

    assert change.needs_consent is asked


def of_gc(variables, **settings):
    return lambda where: (gc_job(where.settings), job(variables=variables)), settings


def of_backup(arguments, **keep):
    name = BackupSettings().name

    def both(where):
        there = job(name=name, command="Backup", schedule="0 1 * * *", variables={KEEP: arguments})
        return backup_job(where.settings, "backup", "0 1 * * *"), there

    return both, {"backup": keep}


# the jobs, settings; differences, and the consequences
JOBS = [
    (of_gc({TTL: "60d"}), [f"{TTL}: 60d → not set"], [purged("30d0h0m0s")]),
    (of_gc({TTL: "1d"}), [f"{TTL}: 1d → not set"], []),
    (of_gc({TTL: "60d"}, server={"gc_ttl": "90d"}), [f"{TTL}: 60d → not set"], []),
    (of_gc({}, gc={"variables": {TTL: "60d"}}, server={"gc_ttl": "90d"}), [f"{TTL}: not set → 60d"], [purged("60d")]),
    (of_gc({DRY_RUN: "true"}), [f"{DRY_RUN}: true → not set"], [LISTS]),
    (of_gc({ORPHANS: "\x1b[31m"}), [f"{ORPHANS}: (not shown) → not set"], []),
    (of_gc({"GREETING": "hi", ORPHANS: "remove"}), [f"{ORPHANS}: remove → not set", "variables differ: GREETING"], []),
    (of_backup("create --keep-last 9", keep_last=3), ["keep_last: 9 → 3"], [FEWER]),
    (of_backup("create --keep-last 9", keep_last=9, keep_daily=7), ["keep_daily: not set → 7"], []),
]


@pytest.mark.parametrize(
    ("case", "differences", "consequences"), JOBS, ids=[str(number) for number in range(len(JOBS))]
)
def test_a_job_is_replaced_only_after_consent_where_data_is_deleted_earlier(tmp_path, case, differences, consequences):
    both, settings = case
    desired, there = both(context(tmp_path / "settings", **settings))
    where = context(tmp_path, lists=Lists(jobs_=[there]), **settings)

    state = scheduled_job.observe(where, desired)

    deleted, _created = scheduled_job.diff(state).changes
    assert list(deleted.differences) == differences
    assert [item.text for item in deleted.consequences] == consequences
    (named,) = scheduled_job.recreations(state, named=True)
    assert [item.text for item in named.consequences] == consequences
    (unnamed,) = scheduled_job.recreations(state, named=False)
    assert len(unnamed.consequences) == 1 + len(consequences)
