"""How many folders are worked on at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow_ae5_server.gc.stores import map_adaptively


@pytest.mark.parametrize(
    ("seconds", "near"),
    [(0.0, True), (0.0005, True), (0.002, False), (0.2, False)],
    ids=["at once", "a disk", "a network", "a slow one"],
)
def test_only_slow_items_are_worked_on_several_at_a_time(seconds: float, near: bool) -> None:
    now = 0.0
    meeting = threading.Barrier(1 if near else 2, timeout=10)  # two at a time, or nobody gets past

    def measure(number: int) -> int:
        nonlocal now
        if threading.current_thread() is threading.main_thread():
            now += seconds
        elif number % 20 == 0:
            meeting.wait()
        return number * number

    with ThreadPoolExecutor(4) as threads:
        results, found = map_adaptively(threads, measure, range(60), clock=lambda: now)
    assert results == [number * number for number in range(60)]
    assert found is near


def test_no_items() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert map_adaptively(threads, lambda number: number, ()) == ([], False)
