"""`status` in Prometheus form, for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from mlflow_ae5_deploy.common.text import Target
from mlflow_ae5_deploy.operations.health_problem import CODES
from mlflow_ae5_deploy.operations.status.run import Status

_NO_TARGET = ("--release", "--database", "--session")  # options that say how, and not which installation
Samples = list[tuple[Mapping[str, str], float]]


def exposition(status: Status, target: Target) -> str:
    """target: what the command line named, a label of every sample: files of several installations can be combined."""
    return _text(_families(status), target)


def failed_exposition(reason: str, now: datetime, target: Target) -> str:
    """The same where the check itself failed: nothing that was not observed."""
    comment = "".join(f"# {line}\n" for line in reason.splitlines())
    return comment + _text(_of_the_check(now, failed=True), target)


def _families(status: Status) -> Iterator[tuple[str, str, Samples]]:
    state = status.state
    yield from _of_the_check(status.observed, failed=False)
    yield "status_duration_seconds", "How long the check took.", [({}, status.seconds)]
    yield "installed", "Whether the project exists.", [({}, state.installed)]
    yield "healthy", "Whether no problem is an error.", [({}, status.healthy)]
    found = {problem.code for problem in status.problems}
    problems: Samples = [({"code": row.code, "severity": row.severity}, row.code in found) for row in CODES.values()]
    yield "problem", "Whether `status` reports this problem.", problems
    version = {"host": status.host, "project": status.project, "mlflow_version": state.version or ""}
    yield "installation_info", "The installation that was checked.", [(version, 1)]
    if newest := state.backups.newest:
        yield "newest_backup_timestamp_seconds", "When the newest snapshot was taken.", _at(newest.finished)
        if newest.verified is not None:
            text = "When the newest snapshot was last checked in full."
            yield "newest_backup_verified_timestamp_seconds", text, _at(newest.verified)
    if state.gc.last is not None and state.gc.last.began is not None:
        yield "gc_last_run_timestamp_seconds", "When the last garbage collection began.", _at(state.gc.last.began)
    tokens: Samples = [
        ({"account": token.account}, token.expires.timestamp()) for token in state.token.stored if token.expires
    ]
    yield "token_expiry_timestamp_seconds", "When the stored token of an account expires.", tokens


def _of_the_check(now: datetime, *, failed: bool) -> Iterator[tuple[str, str, Samples]]:
    yield "status_failed", "Whether the check itself failed, so that nothing else is known.", [({}, failed)]
    yield "status_timestamp_seconds", "When the check ended.", _at(now)


def _at(time: datetime) -> Samples:
    return [({}, time.timestamp())]


def _text(families: Iterator[tuple[str, str, Samples]], target: Target) -> str:
    which = " ".join(word for option in target if option[0] not in _NO_TARGET for word in option)
    named = {"target": which} if which else {}
    lines = []
    for name, text, samples in families:
        if samples:
            lines += [f"# HELP mlflow_ae5_{name} {text}", f"# TYPE mlflow_ae5_{name} gauge"]
        lines += [f"mlflow_ae5_{name}{_labels({**labels, **named})} {float(value):.15g}" for labels, value in samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
