"""The lease: never two holders, always free in the end, in thousands of schedules of requests, faults and kills."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest

from mlflow_ae5_deploy.common.errors import Locked
from tests.runbook.lease_world import Machine, World, assert_free_in_the_end, assert_never_two

MOVES = 8  # of two runs, in every order; after that in turns
LATE = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 3)]  # in how many lists the name of each is missing


# schedules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", LATE, ids=str)
def test_every_order_of_two_runs(late):
    for order in itertools.product((0, 1), repeat=MOVES):
        world, machines = two(late)
        walk(world, machines, order)
        walk(world, machines, (0, 1) * 20)
        assert "done" in [*machines[0].ends, *machines[1].ends], order
        assert_free_in_the_end(world, machines)


@pytest.mark.parametrize("late", LATE[:3], ids=str)
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_a_kill_at_every_request_of_every_order(late, after):
    for order in itertools.product((0, 1), repeat=MOVES - 2):
        for at in range(len(order)):
            world, machines = two(late)
            walk(world, machines, order, kill=at, after=after)
            assert_free_in_the_end(world, machines)


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_an_interrupted_upgrade_keeps_the_others_from_working_until_it_is_resumed(after):
    for order in itertools.product((0, 1), repeat=MOVES - 2):
        for at in (number for number, chosen in enumerate(order) if chosen == 0):
            world, (first, second) = two((0, 0))
            first.verb = first.unfinished = "upgrade"
            walk(world, [first, second], order, kill=at, after=after)
            second.finish()
            world.seconds += 3600
            refused = second.run()
            if first.pending and first.name in [name for name, _ in world.work]:
                assert isinstance(refused, Locked), order
                assert "upgrade was interrupted: root@first" in refused.what
            assert_free_in_the_end(world, [first, second])


def test_an_interrupted_upgrade_is_resumed_however_often_its_machine_was_refused_meanwhile():
    world = World()
    first, second = Machine(world, "first", "upgrade", unfinished="upgrade"), Machine(world, "second", "drill")
    first.start()
    while not first.is_writing:
        first.step()
    first.kill(after=True)
    world.seconds += 3600
    second.start()
    while not second.is_writing:
        second.step()

    refused = [first.run() for _ in range(12)]

    assert {type(end) for end in refused} == {Locked}
    second.finish()
    assert first.run() == "done"
    assert_free_in_the_end(world, [first, second])


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_runs_with_any_trouble(seed):
    chance = random.Random(seed)
    for _ in range(100):
        world = World(late=lambda: chance.choice((0, 0, 0, 1, 4)))
        machines = [
            Machine(
                world,
                f"m{n}",
                writes=chance.randint(1, 4),
                unfinished=chance.choice(("", "", "upgrade", "restore")),
                wait=timedelta(seconds=chance.choice((0, 0, 60, 3000))),
            )
            for n in range(chance.choice((2, 2, 3)))
        ]
        for _ in range(chance.randint(5, 60)):
            machine = chance.choice(machines)
            world.advance(chance.choice((0, 0, 0, 0.3, 2, 20, 100)))
            if not machine.is_running:
                machine.start()
            elif (trouble := chance.random()) < 0.06:
                machine.kill(after=chance.random() < 0.5)
            else:
                if trouble > 0.97:
                    world.advance(2000)  # a machine slept, or was not connected
                machine.step(lost=trouble < 0.16)
            assert_never_two(world, machines)
        assert_free_in_the_end(world, machines)


def two(late) -> tuple[World, list[Machine]]:
    polls = iter((*late, *([0] * 99)))
    world = World(late=lambda: next(polls))
    machines = [Machine(world, "first"), Machine(world, "second")]
    for machine in machines:
        machine.start()
    return world, machines


def walk(world: World, machines: list[Machine], order, kill: int = -1, after: bool = False) -> None:
    for number, chosen in enumerate(order):
        machine = machines[chosen]
        if machine.is_running:
            world.advance(0.5)
            if number == kill:
                machine.kill(after=after)
            else:
                machine.step()
        assert_never_two(world, machines)
