"""F30: the lane protocol played at random over the real SQL of both databases, every move checked against a model."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from app.domain.verdict import Verdict
from tests.bed.postgres import Databases
from tests.faults.lanes.play import TO_THE_END, Play
from tests.faults.lanes.replica import Holding, Replica
from tests.faults.lanes.stage import LANES, Stage

REPLICAS: Final = 3
IS_LONG: Final = os.environ.get("BUCKETPOST_TEST_FAULTS") == "long"
# The short form plays the same plays each time; the long one new ones, and says how to play again what failed.
SETTINGS: Final = settings(
    max_examples=1_000 if IS_LONG else 50,
    stateful_step_count=100 if IS_LONG else 50,
    derandomize=not IS_LONG,
    print_blob=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
T = TypeVar("T")

_replica = st.integers(0, REPLICAS - 1)
_lane = st.integers(0, len(LANES) - 1)
_which = st.integers(0, 40)
# Most of what the store does runs to its end; some stands still on the way, or its answer is late.
_steps = st.sampled_from([TO_THE_END] * 5 + [0, 1, 1, 2, 3])
_verdict = st.one_of(
    st.none(),
    st.none(),
    st.builds(Verdict, status=st.just("pending"), delay_seconds=st.sampled_from([0.0, 50.0, 150.0])),
    st.just(Verdict(status="dead", reason="exhausted")),
)
_verdicts = st.lists(_verdict, min_size=1, max_size=4)


class LaneProtocol(RuleBasedStateMachine):
    """Replicas A, B and C, receivers, people and time, in any order."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], stage: Stage, count: Callable[[], None]) -> None:
        super().__init__()
        self._run_until_done, self._stage, self._count = run, stage, count
        self._has_failed = False
        self._run(stage.clear())
        self._play = Play(stage, self._run(stage.look()), replicas=REPLICAS)

    @rule(objects=st.lists(st.integers(0, 1), min_size=1, max_size=3), again=st.integers(0, 2), steps=_steps)
    def record(self, objects: list[int], again: int, steps: int) -> None:
        """Events are heard, some again."""
        self._move(self._play.record(objects, again=min(again, len(self._play.events)), steps=steps))

    @rule(number=_replica, limit=st.integers(1, len(LANES)), steps=_steps)
    def lease(self, number: int, limit: int, steps: int) -> None:
        """A replica asks for lanes."""
        self._move(self._play.lease(self._replica(number), limit, steps=steps))

    @rule(which=_which, limit=st.sampled_from([2, 100]), steps=_steps)
    def read(self, which: int, limit: int, steps: int) -> None:
        """A holder reads."""
        self._hold(which, lambda replica, holding: self._play.read(replica, holding, limit, steps=steps))

    @rule(which=_which, verdicts=_verdicts)
    def send(self, which: int, verdicts: list[Verdict | None]) -> None:
        """A holder sends, whatever became of its claim."""
        for _, holding in self._some(self._play.holdings, which):
            self._judge(lambda: self._play.send(holding, len(verdicts), verdicts))

    @rule(number=_replica, most=st.integers(1, 8), steps=_steps)
    def settle(self, number: int, most: int, steps: int) -> None:
        """A replica writes down what it sent, however late."""
        self._move(self._play.settle(self._replica(number), most=most, steps=steps))

    @rule(number=_replica, verdicts=_verdicts)
    def serve(self, number: int, verdicts: list[Verdict | None]) -> None:
        """A replica does its work in one go."""
        self._move(self._play.serve(self._replica(number), verdicts))

    @rule(which=_which, steps=_steps)
    def rest(self, which: int, steps: int) -> None:
        """A holder says that its lane looks empty."""
        self._hold(which, lambda replica, holding: self._play.rest(replica, holding, steps=steps))

    @rule(which=_which, suspended=st.sampled_from([0.0, 50.0, 150.0]), steps=_steps)
    def give_back(self, which: int, suspended: float, steps: int) -> None:
        """A holder gives its lane back, or suspends it."""
        self._hold(
            which, lambda replica, holding: self._play.give_back(replica, holding, suspended=suspended, steps=steps)
        )

    @rule(number=_replica, steps=_steps)
    def renew(self, number: int, steps: int) -> None:
        """A replica prolongs its claims."""
        self._move(self._play.renew(self._replica(number), steps=steps))

    @rule(number=_replica, steps=_steps)
    def sweep(self, number: int, steps: int) -> None:
        """A replica sweeps."""
        self._move(self._play.sweep(self._replica(number), steps=steps))

    @rule(number=_replica)
    def sweep_all(self, number: int) -> None:
        """Nothing is asleep over something due after sweeps that nothing disturbed."""
        self._move(self._play.sweep_all(self._replica(number)))

    @rule(which=_which, steps=st.integers(1, 3))
    def go_on(self, which: int, steps: int) -> None:
        """What stood still goes on."""
        for going in self._some(self._play.under_way, which):
            self._move(self._play.go_on(going, steps))

    @rule(which=_which)
    def abandon(self, which: int) -> None:
        """What stood still is cut off."""
        for going in self._some(self._play.under_way, which):
            self._move(self._play.abandon(going))

    @rule(number=_replica)
    def crash(self, number: int) -> None:
        """A replica is killed."""
        self._move(self._play.crash(self._replica(number)))

    @rule(keeps_leases=st.booleans())
    def pass_time(self, keeps_leases: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        """Time passes."""
        self._move(self._play.pass_time(keeps_leases=keeps_leases))

    @rule(lane=_lane)
    def run_out(self, lane: int) -> None:
        """A lease runs out."""
        self._move(self._play.run_out(self._stage.set_ups[lane]))

    @rule(which=_which)
    def retry(self, which: int) -> None:
        """A person asks for a retry."""
        for key in self._some(list(self._play.model.debts), which):
            self._move(self._play.retry(key))

    @rule(which=_which)
    def grow_old(self, which: int) -> None:
        """A delivery is older than its endpoint allows."""
        for key in self._some(list(self._play.model.debts), which):
            self._move(self._play.grow_old(key))

    @rule(lane=_lane)
    def delete_subscription(self, lane: int) -> None:
        """A subscription is deleted."""
        self._move(self._play.delete_subscription(self._stage.set_ups[lane]))

    @rule(lane=_lane)
    def add_subscription(self, lane: int) -> None:
        """An endpoint is subscribed once more."""
        self._move(self._play.add_subscription(self._stage.set_ups[lane]))

    @rule(lane=_lane, is_paused=st.booleans())
    def stop_or_start(self, lane: int, is_paused: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        """An endpoint is paused, or goes on."""
        self._move(self._play.stop_or_start(self._stage.set_ups[lane], is_paused=is_paused))

    def teardown(self) -> None:
        """All that is owed comes to an end once nothing befalls the replicas any more."""
        try:
            if not self._has_failed:
                self._run(self._play.end())
        finally:
            self._run(self._play.close())

    def _replica(self, number: int) -> Replica:
        return self._play.replicas[number]

    def _hold(self, which: int, move: Callable[[Replica, Holding], Coroutine[Any, Any, None]]) -> None:
        for replica, holding in self._some(self._play.holdings, which):
            self._move(move(replica, holding))

    def _some(self, there: list[T], which: int) -> list[T]:
        """Give one of what is there, or nothing of nothing."""
        return [there[which % len(there)]] if there else []

    def _move(self, move: Coroutine[Any, Any, Any]) -> None:
        self._judge(lambda: self._run(move))

    def _judge(self, move: Callable[[], object]) -> None:
        self._count()
        try:
            move()
        except BaseException:
            self._has_failed = True
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        done: T = self._run_until_done(work)
        return done


def play_at_random(url: str) -> int:
    """Play; gives the number of moves. In a loop of its own: hypothesis does not await."""
    moves = 0

    def count() -> None:
        nonlocal moves
        moves += 1

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stage = Stage(url)
        try:
            runner.run(stage.prepare())
            run_state_machine_as_test(lambda: LaneProtocol(runner.run, stage, count), settings=SETTINGS)
        finally:
            runner.run(stage.database.aclose())
    return moves


def test_no_play_over_sqlite_breaks_a_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost, sent twice without a cause, or overtaken, whatever the moves; on SQLite."""
    moves = play_at_random(f"sqlite:///{tmp_path / 'bucketpost.db'}")

    _report(capsys, f"sqlite: {moves} moves")


def test_no_play_over_postgresql_breaks_a_promise(postgres: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost, sent twice without a cause, or overtaken, whatever the moves; on PostgreSQL."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        url = runner.run(postgres.create())

    moves = play_at_random(url)

    _report(capsys, f"postgresql: {moves} moves")


def _report(capsys: pytest.CaptureFixture[str], figures: str) -> None:
    with capsys.disabled():
        print(f"F30 pass {figures}")  # noqa: T201 -- the line of the experiment
