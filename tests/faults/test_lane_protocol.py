"""F30: the lane protocol played at random over the real SQL of both databases, every move checked against a model."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from app.domain.verdict import Verdict
from tests.bed.faults.figures import Figures, is_long
from tests.bed.postgres import Databases
from tests.faults.lanes import choices
from tests.faults.lanes.model import WHOLE_LOOK
from tests.faults.lanes.play import TO_THE_END, Change, Play
from tests.faults.lanes.stage import HALF_TICK_SECONDS, LANES, MINDING_PLACES, Stage, Terms

REPLICAS: Final = 3
MOST_DEBTS: Final = 75
MOST_CHANGES: Final = 2
IS_LONG: Final = is_long()
# The short form plays the same plays each time; the long one new ones, and says how to play again what failed. A long
# play takes about a second of a core: 500 take some ten minutes on each database.
SETTINGS: Final = settings(
    max_examples=500 if IS_LONG else 55,
    stateful_step_count=50 if IS_LONG else 25,
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
    st.builds(
        Verdict,
        status=st.just("pending"),
        delay_seconds=st.sampled_from([0.0, HALF_TICK_SECONDS, 3 * HALF_TICK_SECONDS]),
    ),
    st.just(Verdict(status="dead", reason="exhausted")),
)
_verdicts = st.lists(_verdict, min_size=1, max_size=4)
# Stores say little of some changes, and the same of two now and then.
_change = st.tuples(st.integers(0, 1), st.one_of(st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 5])))
_changes = st.lists(_change, min_size=1, max_size=3)


class LaneProtocol(RuleBasedStateMachine):
    """Replicas A, B and C, receivers, people and time, in any order."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], stage: Stage, count: Callable[[], None]) -> None:
        super().__init__()
        self._run_until_done, self._stage, self._count = run, stage, count
        self._has_failed = False
        self._run(stage.clear())

    @initialize(changes=_changes, terms=st.sampled_from(MINDING_PLACES))
    def begin(self, changes: list[Change], terms: Terms) -> None:
        """Let something be owed, and somebody have begun to work on it."""
        self._run(self._stage.agree([*LANES[:-1], terms]))
        self._play = Play(self._stage, self._run(self._stage.look()), replicas=REPLICAS)
        self._move(self._play.record(changes, again=0, steps=TO_THE_END))
        self._move(self._play.lease(self._play.replicas[0], len(LANES), steps=TO_THE_END))
        for replica, holding in self._play.holdings:
            self._move(self._play.read(replica, holding, WHOLE_LOOK, steps=TO_THE_END))

    @precondition(lambda self: len(self._play.model.debts) < MOST_DEBTS)
    @rule(changes=_changes, again=st.integers(0, 2), steps=_steps)
    def record(self, changes: list[Change], again: int, steps: int) -> None:
        """Let events be heard, some again."""
        self._move(self._play.record(changes, again=min(again, len(self._play.events)), steps=steps))

    @precondition(lambda self: bool(choices.waiting(self._play)))
    @rule(number=_replica, limit=st.integers(1, len(LANES)), steps=_steps)
    def lease(self, number: int, limit: int, steps: int) -> None:
        """Let a replica ask for lanes."""
        self._move(self._play.lease(self._play.replicas[number], limit, steps=steps))

    @precondition(lambda self: bool(choices.readers(self._play)))
    @rule(which=_which, limit=st.sampled_from([WHOLE_LOOK, 2]), steps=_steps)
    def read(self, which: int, limit: int, steps: int) -> None:
        """Let a holder read."""
        replica, holding = _one(choices.readers(self._play), which)
        self._move(self._play.read(replica, holding, limit, steps=steps))

    @precondition(lambda self: bool(choices.senders(self._play)))
    @rule(which=_which, verdicts=_verdicts)
    def send(self, which: int, verdicts: list[Verdict | None]) -> None:
        """Let a holder send, whatever became of its claim."""
        self._judge(lambda: self._play.send(_one(choices.senders(self._play), which), verdicts))

    @precondition(lambda self: bool(choices.settlers(self._play)))
    @rule(which=_which, most=st.sampled_from([MOST_DEBTS, 1, 3]), steps=_steps)
    def settle(self, which: int, most: int, steps: int) -> None:
        """Let a replica write down what it sent, however late."""
        self._move(self._play.settle(_one(choices.settlers(self._play), which), most=most, steps=steps))

    @rule(number=_replica, verdicts=_verdicts, other=_replica, served=st.integers(0, 2))
    def settle_too_late(self, number: int, verdicts: list[Verdict | None], other: int, served: int) -> None:
        """Let a replica stall with sends under way, another go on in its place, and then it write down what it sent."""
        stalled = self._play.replicas[number]
        if self._move(self._play.send_all(stalled, verdicts)):
            lease = next(each for each in stalled.holdings if each.sent).lease
            self._move(self._play.take_over(lease.lane_id, self._play.replicas[other], served=served))
            self._move(self._play.settle(stalled, most=MOST_DEBTS, steps=TO_THE_END))

    @rule(
        number=_replica,
        verdicts=_verdicts,
        meanwhile=st.sampled_from(["nothing", "retry", "record", "serve"]),
        other=_replica,
    )
    def settle_twice(self, number: int, verdicts: list[Verdict | None], meanwhile: str, other: int) -> None:
        """Let a replica write down what it sent, not learn of it, and write it down again."""
        replica = self._play.replicas[number]
        if not self._move(self._play.send_all(replica, verdicts)) or replica not in choices.settlers(self._play):
            return
        self._move(self._play.settle(replica, most=MOST_DEBTS, steps=1))
        self._move(self._play.abandon(self._play.under_way[-1]))
        retriable = choices.retriable(self._play)
        if meanwhile == "retry" and retriable:
            self._move(self._play.people.retry(retriable[-1]))
        elif meanwhile == "record":
            self._move(self._play.record([(0, 3), (1, 3)], again=0, steps=TO_THE_END))
        elif meanwhile == "serve":
            self._move(self._play.serve(self._play.replicas[other], [None]))
        self._move(self._play.settle(replica, most=MOST_DEBTS, steps=TO_THE_END))

    @rule(number=_replica, verdicts=_verdicts, which=_which, steps=st.integers(0, 2))
    def settle_while_reading(self, number: int, verdicts: list[Verdict | None], which: int, steps: int) -> None:
        """Let a holder read on while what it sent is written down, and have its answer last."""
        replica = self._play.replicas[number]
        self._move(self._play.send_all(replica, verdicts))
        able = [holding for each, holding in choices.reading_settlers(self._play) if each is replica]
        if able:
            self._move(self._play.record([(0, 3), (1, 3)], again=0, steps=TO_THE_END))
            before = list(self._play.under_way)
            self._move(self._play.read(replica, _one(able, which), WHOLE_LOOK, steps=steps))
            reading = [each for each in self._play.under_way if each not in before]
            self._move(self._play.settle(replica, most=MOST_DEBTS, steps=TO_THE_END))
            for each in reading:
                self._move(self._play.go_on(each, TO_THE_END))

    @rule(number=_replica, verdicts=_verdicts)
    def serve(self, number: int, verdicts: list[Verdict | None]) -> None:
        """Let a replica do its work in one go."""
        self._move(self._play.serve(self._play.replicas[number], verdicts))

    @precondition(lambda self: bool(choices.idlers(self._play)))
    @rule(which=_which, steps=_steps)
    def rest(self, which: int, steps: int) -> None:
        """Let a holder say that its lane looks empty."""
        replica, holding = _one(choices.idlers(self._play), which)
        self._move(self._play.rest(replica, holding, steps=steps))

    @precondition(lambda self: bool(choices.givers(self._play)))
    @rule(which=_which, suspended=st.sampled_from([0.0, HALF_TICK_SECONDS, 3 * HALF_TICK_SECONDS]), steps=_steps)
    def give_back(self, which: int, suspended: float, steps: int) -> None:
        """Let a holder give its lane back, or suspend it."""
        replica, holding = _one(choices.givers(self._play), which)
        self._move(self._play.give_back(replica, holding, suspended=suspended, steps=steps))

    @precondition(lambda self: self._play.holdings)
    @rule(which=_which, steps=_steps)
    def renew(self, which: int, steps: int) -> None:
        """Let a replica prolong its claims."""
        replica, _ = _one(self._play.holdings, which)
        self._move(self._play.renew(replica, steps=steps))

    @rule(number=_replica, steps=_steps)
    def sweep(self, number: int, steps: int) -> None:
        """Let a replica sweep."""
        self._move(self._play.sweep(self._play.replicas[number], steps=steps))

    @precondition(lambda self: self._play.seen.sleeping_over_due)
    @rule(number=_replica)
    def sweep_undisturbed(self, number: int) -> None:
        """Let a replica sweep while nothing disturbs it: nothing sleeps over something due then."""
        self._move(self._play.sweep_undisturbed(self._play.replicas[number]))

    @precondition(lambda self: self._play.under_way)
    @rule(which=_which, steps=st.integers(1, 3))
    def go_on(self, which: int, steps: int) -> None:
        """Let what stood still go on."""
        self._move(self._play.go_on(_one(self._play.under_way, which), steps))

    @precondition(lambda self: self._play.under_way)
    @rule(which=_which)
    def abandon(self, which: int) -> None:
        """Cut off what stood still."""
        self._move(self._play.abandon(_one(self._play.under_way, which)))

    @precondition(lambda self: self._play.holdings)
    @rule(which=_which)
    def crash(self, which: int) -> None:
        """Kill a replica."""
        replica, _ = _one(self._play.holdings, which)
        self._move(self._play.crash(replica))

    @rule(keeps_leases=st.booleans())
    def pass_time(self, keeps_leases: bool) -> None:  # noqa: FBT001 -- hypothesis passes it by name
        """Let time pass."""
        self._move(self._play.pass_time(keeps_leases=keeps_leases))

    @precondition(lambda self: self._play.holdings)
    @rule(which=_which, number=_replica, served=st.integers(0, 2))
    def take_over(self, which: int, number: int, served: int) -> None:
        """Let a holder stall for longer than its lease, and another go on in its place."""
        _, holding = _one(self._play.holdings, which)
        self._move(self._play.take_over(holding.lease.lane_id, self._play.replicas[number], served=served))

    @precondition(lambda self: bool(choices.retriable(self._play)))
    @rule(which=_which)
    def retry(self, which: int) -> None:
        """Let a person ask for a retry."""
        self._move(self._play.people.retry(_one(choices.retriable(self._play), which)))

    @precondition(lambda self: bool(choices.young(self._play)))
    @rule(which=_which)
    def grow_old(self, which: int) -> None:
        """Let a delivery be older than its endpoint allows."""
        self._move(self._play.people.grow_old(_one(choices.young(self._play), which)))

    @precondition(lambda self: choices.deleted(self._play)[1] < MOST_CHANGES)
    @rule(lane=_lane)
    def delete_subscription(self, lane: int) -> None:
        """Let a subscription be deleted."""
        self._move(self._play.people.delete_subscription(self._stage.set_ups[lane]))

    @precondition(lambda self: len(self._play.model.lane_of) < len(LANES) + MOST_CHANGES)
    @rule(lane=_lane)
    def add_subscription(self, lane: int) -> None:
        """Let an endpoint be subscribed once more."""
        self._move(self._play.people.add_subscription(self._stage.set_ups[lane]))

    @precondition(lambda self: choices.deleted(self._play)[0] < 1)
    @rule(lane=_lane)
    def delete_endpoint(self, lane: int) -> None:
        """Let an endpoint be deleted."""
        self._move(self._play.people.delete_endpoint(self._stage.set_ups[lane]))

    @precondition(lambda self: choices.deleted(self._play)[0] < MOST_CHANGES)
    @rule(number=_replica, verdicts=_verdicts, other=_replica, steps=st.integers(2, 9), lasts=st.booleans())
    def delete_while_sending(
        self, number: int, verdicts: list[Verdict | None], other: int, steps: int, *, lasts: bool
    ) -> None:
        """Let an endpoint be deleted with sends under way, and be swept before they are written down."""
        sender, sweeper = self._play.replicas[number], self._play.replicas[other]
        if not self._move(self._play.send_all(sender, verdicts)):
            return
        self._move(self._play.people.delete_endpoint(_one(choices.sending(self._play, sender), steps)))
        self._move(self._play.sweep(sweeper, steps=steps))
        if lasts:
            self._move(self._play.pass_time(keeps_leases=True))
            self._move(self._play.sweep(self._play.replicas[other - 1], steps=TO_THE_END))
        self._move(self._play.settle(sender, most=MOST_DEBTS, steps=TO_THE_END))

    @rule(lane=_lane)
    def stop_or_start(self, lane: int) -> None:
        """Let an endpoint be paused, or go on."""
        self._move(self._play.people.stop_or_start(self._stage.set_ups[lane]))

    def teardown(self) -> None:
        """Let all that is owed come to an end, once nothing befalls the replicas any more."""
        try:
            if not self._has_failed:
                self._run(self._play.end())
        finally:
            self._run(self._play.close())

    def _move(self, move: Coroutine[Any, Any, T]) -> T:
        return self._judge(lambda: self._run(move))

    def _judge(self, move: Callable[[], T]) -> T:
        self._count()
        try:
            return move()
        except BaseException:
            self._has_failed = True
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        done: T = self._run_until_done(work)
        return done


def _one(there: Sequence[T], which: int) -> T:
    return there[which % len(there)]


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
            run_state_machine_as_test(
                lambda: LaneProtocol(runner.run, stage, count),  # type: ignore[arg-type]  # hypothesis takes any maker
                settings=SETTINGS,
            )
        finally:
            runner.run(stage.database.aclose())
    return moves


def test_no_play_over_sqlite_breaks_a_promise(tmp_path: Path, figures: Figures) -> None:
    """Nothing is lost, sent twice without a cause, or overtaken, whatever the moves; on SQLite."""
    moves = play_at_random(f"sqlite:///{tmp_path / 'bucketpost.db'}")

    figures.report("F30 sqlite", {"moves": moves}, {"no move breaks a promise": moves > 0})


def test_no_play_over_postgresql_breaks_a_promise(postgres: Databases, figures: Figures) -> None:
    """Nothing is lost, sent twice without a cause, or overtaken, whatever the moves; on PostgreSQL."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        url = runner.run(postgres.create())

    moves = play_at_random(url)

    figures.report("F30 postgresql", {"moves": moves}, {"no move breaks a promise": moves > 0})
