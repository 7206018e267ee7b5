"""How many folders are worked on at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow_ae5_server.gc.stores import spread


@pytest.mark.parametrize(
    ("seconds", "near"),
    [(0.0, True), (0.0005, True), (0.002, False), (0.2, False)],
    ids=["at once", "a disk", "a network", "a slow one"],
)
def test_only_what_takes_long_is_done_several_at_a_time(seconds: float, near: bool) -> None:
    now = 0.0
    meeting = threading.Barrier(1 if near else 2, timeout=10)  # two at a time, or nobody gets past

    def look(number: int) -> int:
        nonlocal now
        if threading.current_thread() is threading.main_thread():
            now += seconds
        elif number % 20 == 0:
            meeting.wait()
        return number * number

    with ThreadPoolExecutor(4) as hands:
        results, found = spread(hands, look, range(60), clock=lambda: now)
    assert results == [number * number for number in range(60)]
    assert found is near


def test_nothing_to_look_at() -> None:
    with ThreadPoolExecutor(1) as hands:
        assert spread(hands, lambda number: number, ()) == ([], False)
