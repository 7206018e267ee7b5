"""A platform of names, and machines whose runs want its lease: one request at a time, in any order, with any fault."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow_ae5_deploy.common.errors import AnswerLost, DeployError, Locked
from mlflow_ae5_deploy.engine.lease import parse
from mlflow_ae5_deploy.engine.lease_claim import Claim, Claimant, Delete, List, Listed, Make, Pause
from mlflow_ae5_deploy.engine.records import PendingOperation

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = "0a0a0a0a"
LONGEST = 100.0  # seconds that a write is under way
ATTEMPTS = 3  # of the client, for a write whose answer is lost


@dataclass
class World:
    """late: in how many lists a new name is missing at first."""

    late: Callable[[], int] = lambda: 0
    seconds: float = 0.0
    hidden: dict[str, int] = field(default_factory=dict)
    work: list[tuple[str, str]] = field(default_factory=list)  # of whom, under which lease
    runs: int = 0
    sent: dict[str, float] = field(default_factory=dict)  # machine -> when it sent the write that is under way

    def advance(self, seconds: float) -> None:
        """No write is under way for longer than its connection lasts."""
        self.seconds = min([self.seconds + seconds, *(sent + LONGEST for sent in self.sent.values())])

    @property
    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)

    def make(self, name: str) -> None:
        self.hidden.setdefault(name, self.late())

    def list(self) -> Listed:
        names = frozenset(name for name, polls in self.hidden.items() if polls <= 0)
        self.hidden = {name: polls - 1 for name, polls in self.hidden.items()}
        return Listed(names, self.now.replace(microsecond=0))


@dataclass(frozen=True)
class Work:
    """A write to the installation, sent with the lease in hand."""


@dataclass
class Machine:
    """Where runs are started, one after the other. Its disk remembers `left` and `pending` when a run is killed.

    ends: of each run: "done", or who won.
    """

    world: World
    name: str
    verb: str = "install"
    writes: int = 2
    unfinished: str = ""  # what a run is from its first write to its last
    wait: timedelta = timedelta()
    break_lock: bool = False
    left: tuple[str, ...] = ()
    pending: str = ""
    ends: list[DeployError | str] = field(default_factory=list)
    _steps: Generator[Any, Any, None] | None = None
    _request: Any = None
    _attempts: int = 0
    claim: Claim | None = None
    nonce: str = ""

    @property
    def who(self) -> str:
        return f"root@{self.name}"

    @property
    def is_running(self) -> bool:
        return self._steps is not None

    @property
    def is_writing(self) -> bool:
        """It has looked whether it holds the lease, and sends its write."""
        return isinstance(self._request, Work)

    @property
    def holds(self) -> bool:
        """It has the lease, which has not expired."""
        return self.claim is not None and self.claim.held and self.claim.current.is_live(self.world.now)

    def start(self) -> None:
        self.world.runs += 1
        self.nonce = f"{self.world.runs:08x}"
        run = Claimant(SCOPE, self.verb, self.who, self.nonce, self.left, self.break_lock)
        self.claim = Claim(
            run,
            lambda: self.world.now + timedelta(seconds=1),
            lambda: PendingOperation(self.pending, "") if self.pending else None,
        )
        self.left = self.claim.nonces
        self._steps = self._script(self.claim)
        self._go_on(lambda steps: next(steps))

    def _script(self, claim: Claim) -> Generator[Any, Any, None]:
        try:
            yield from claim.take(self.wait)
            self.left = claim.nonces
            for _ in range(self.writes):
                self.pending = self.unfinished
                yield from claim.keep(write=True)
                yield Work()
                self.world.work.append((self.name, self.nonce))
            self.pending = ""
            self.ends.append("done")
        except DeployError as error:
            self.ends.append(error)
        yield from claim.give_back()

    def _go_on(self, move: Callable[[Generator[Any, Any, None]], Any]) -> None:
        assert self._steps is not None
        try:
            self._request, self._attempts = move(self._steps), 0
        except StopIteration:
            self._steps = self._request = None
        self.world.sent.pop(self.name, None)
        if self.is_writing:
            self.world.sent[self.name] = self.world.seconds

    def step(self, *, lost: bool = False) -> None:
        """Do what the run asks for. lost: its answer does not arrive."""
        answer = self._effect()
        if not lost or isinstance(self._request, (Pause, Work)):
            self._go_on(lambda steps: steps.send(answer))
            return
        self._attempts += 1
        if self._attempts == ATTEMPTS:
            self._go_on(lambda steps: steps.throw(AnswerLost("lost")))

    def kill(self, *, after: bool) -> None:
        """Before or after its request takes effect."""
        if after:
            self._effect()
        if isinstance(self._request, Work) and after:
            self.world.work.append((self.name, self.nonce))
        self._steps = self._request = self.claim = None
        self.world.sent.pop(self.name, None)

    def finish(self) -> None:
        while self.is_running:
            self.world.advance(0.5)
            self.step()

    def run(self) -> DeployError | str:
        self.start()
        self.finish()
        return self.ends[-1]

    def _effect(self) -> Listed | None:
        request, world = self._request, self.world
        if isinstance(request, Make):
            world.make(request.name)
        elif isinstance(request, Delete):
            world.hidden.pop(request.name, None)
        elif isinstance(request, List):
            return world.list()
        elif isinstance(request, Pause):
            world.advance(request.seconds)
        return None


def assert_never_two(world: World, machines: list[Machine]) -> None:
    """Nobody else works between two writes under one lease, nor holds one while it lives."""
    order = list(dict.fromkeys(world.work))
    blocks = [world.work[n] for n in range(len(world.work)) if n == 0 or world.work[n] != world.work[n - 1]]
    assert blocks == order, f"work is mixed: {world.work}"
    holding = [machine.name for machine in machines if machine.holds]
    assert len(holding) <= 1, f"two holders: {holding}"


def assert_free_in_the_end(world: World, machines: list[Machine]) -> None:
    """Runs end, killed ones are run again, and another machine gets the lease; nothing is left."""
    while running := [machine for machine in machines if machine.is_running]:
        world.advance(0.5)
        for machine in running:
            machine.step()
        assert_never_two(world, machines)
    world.seconds += 3600
    for _ in machines:  # what one has left unfinished keeps the others from working
        for machine in machines:
            machine.run()
    assert [machine.ends[-1] for machine in machines] == ["done"] * len(machines)
    world.seconds += 1
    assert Machine(world, "another").run() == "done"
    assert_never_two(world, machines)
    assert not world.hidden, sorted(world.hidden)
    others = {machine.who for machine in machines}
    for machine in machines:
        for end in machine.ends:
            if isinstance(end, Locked) and "lost its lock." not in end.what:  # to a run that has ended since
                assert any(who in end.what for who in others - {machine.who}), end.what


def left(world: World) -> list[str]:
    """In words: what the names that exist say."""
    return [f"{lease.verb} {lease.who}" for name in world.hidden if (lease := parse(name)) is not None]
