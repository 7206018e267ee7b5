"""The alert rules, run by promtool on scrapes: its clock is stepped, so that days take no time."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

RULES = Path(__file__).parents[1] / "runbooks" / "monitoring" / "alerts.yml"
USED = set(re.findall(r"mlflow_ae5_\w+", RULES.read_text()))
MINUTES = 75  # of a phase: longer than any `for`
RAMP = 20  # minutes in which the counters of a phase rise
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package: prometheus)"
)


@dataclass(frozen=True)
class Scrape:
    """What a scrape found, and when. A series is written as in Prometheus: name{label="value"}."""

    samples: Mapping[str, float]
    time: float

    def later(self, seconds: float) -> Scrape:
        """The same, seen when so much time has passed."""
        return Scrape(self.samples, self.time + seconds)


def scrape(text: str | None, time: float, more: str | None = None) -> Scrape:
    """text: of `/metrics`, None where there was no answer. more: of the textfile collector."""
    where = {"instance": "mlflow", "job": "mlflow"}
    found = {series("up", where): float(text is not None)}
    for content, labels in ((text, where), (more, {"instance": "node", "job": "node"})):
        for family in text_string_to_metric_families(content or ""):
            found |= {series(s.name, {**s.labels, **labels}): s.value for s in family.samples if s.name in USED}
    return Scrape(found, time)


def series(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={value!r}' for key, value in sorted(labels.items()))}}}"


@dataclass(frozen=True)
class Case:
    """A fault: scrapes before, during and after it, and the alerts that it must raise, `name` or `name label`."""

    scrapes: Sequence[Scrape]
    alerts: frozenset[str]


def check(folder: Path, cases: Mapping[str, Case]) -> None:
    """No alert before, exactly these during the fault, none at the end."""
    tests = [_test(name, case) for name, case in cases.items()]
    file = folder / "tests.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}, width=10**6)
    )
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _test(name: str, case: Case) -> dict[str, object]:
    before, during, after = (MINUTES * (phase + 1) - 1 for phase in range(3))
    now = 'count by (alertname, kind, code) (ALERTS{alertstate="firing"})'
    fired = f'count by (alertname, kind, code) (max_over_time(ALERTS{{alertstate="firing"}}[{MINUTES - 1}m]))'
    names = sorted({name for found in case.scrapes for name in found.samples})
    expected = [{"labels": _labels(alert), "value": 1} for alert in sorted(case.alerts)]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": name, "values": _values(name, case.scrapes)} for name in names],
        "promql_expr_test": [
            {"expr": fired, "eval_time": f"{before}m", "exp_samples": []},
            {"expr": fired, "eval_time": f"{during}m", "exp_samples": expected},
            {"expr": now, "eval_time": f"{after}m", "exp_samples": []},
        ],
    }


def _labels(alert: str) -> str:
    name, _, more = alert.partition(" ")
    label = "kind" if more in ("backup", "check", "drill", "gc", "prune") else "code"
    return f'{{alertname="{name}"' + (f', {label}="{more}"}}' if more else "}")


def _values(name: str, scrapes: Sequence[Scrape]) -> str:
    """A value for each minute of all phases, on promtool's clock, which begins at 0. Ages do not grow in a phase."""
    metric = name.partition("{")[0]
    words, previous = [], 0.0
    for phase, found in enumerate(scrapes):
        value = found.samples.get(name)
        for minute in range(MINUTES):
            if value is None:
                words.append("_")
            elif metric.endswith("_timestamp_seconds"):
                words.append(f"{value - found.time + (phase * MINUTES + minute) * 60:.0f}")
            elif metric.endswith(("_total", "_bucket")) and phase > 0:
                words.append(f"{previous + (value - previous) * min(1, (minute + 1) / RAMP):.6f}")
            else:
                words.append(f"{value:.6f}")
        previous = value if value is not None else previous
    return " ".join(words)
