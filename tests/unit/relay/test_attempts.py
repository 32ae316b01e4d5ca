"""What one try becomes: retried, dead, or a bug that is a failed try; and the line that tells of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED, NONSENSE, FakeDestination
from tests.unit.relay.replica import Replica, all_ended, make_endpoint, make_many, make_owed, one_lane
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until


class Miscounting(FakeDestination):
    """A destination with a bug: it forgets an outcome of every batch with more than one delivery."""

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Give one outcome too few."""
        outcomes = await super().send(endpoint, batch)
        return outcomes[:1]


@in_virtual_time
async def test_a_failed_try_is_repeated_by_the_schedule() -> None:
    """A delivery that fails twice is delivered at the third try, and every try is written down."""
    outbox, set_up = one_lane(schedule_seconds=(1.0, 5.0))
    owed = make_owed()
    destination = FakeDestination()
    destination.answer = lambda _: FAILED if len(destination.batches) < 3 else DELIVERED
    outbox.owe(owed)

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 1}
    assert [each.owed.tries for each in outbox.settled] == [0, 1, 2]


@in_virtual_time
async def test_a_delivery_that_fails_to_the_end_of_the_schedule_is_dead() -> None:
    """After the last failure it is exhausted."""
    outbox, set_up = one_lane(schedule_seconds=(1.0, 1.0))
    destination = FakeDestination(answer=lambda _: FAILED)
    owed = make_owed()
    outbox.owe(owed)

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert (outbox.ended[owed.key].status, outbox.ended[owed.key].reason) == ("dead", "exhausted")
    assert len(destination.batches) == 3


@in_virtual_time
async def test_what_an_endpoint_takes_for_a_success_has_no_error() -> None:
    """The history shows the answer's status, and that it was one."""
    outbox, set_up = one_lane()
    set_up.put(replace(make_endpoint(), answers={"409": "deliver"}))
    conflict = Outcome(kind="answered", latency_seconds=0.01, status_code=409, error="The receiver answered 409.")
    outbox.owe(make_owed())

    async with Replica(outbox, set_up, FakeDestination(answer=lambda _: conflict)):
        await all_ended(outbox)

    (settled,) = outbox.settled
    assert settled.outcome == replace(conflict, error=None)


@in_virtual_time
async def test_a_bug_in_a_destination_is_a_failed_try() -> None:
    """What a send raises is an outcome of its batch; the other deliveries of the lane go on."""
    outbox, set_up = one_lane(schedule_seconds=(1.0,))
    bad, *others = make_many(20)

    def answer(owed: Owed) -> Outcome:
        if owed.key == bad.key:
            raise ZeroDivisionError
        return DELIVERED

    outbox.owe(bad, *others)
    with capture_logs() as lines:
        async with Replica(outbox, set_up, FakeDestination(answer=answer)):
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 19, "dead": 1}
    assert outbox.ended[bad.key].reason == "exhausted"
    assert [line["error"] for line in lines if line["event"] == "delivery.attempted"] == [
        "internal error: ZeroDivisionError"
    ] * 2
    assert {line["log_level"] for line in lines if line["event"] == "delivery.broke"} == {"error"}


@in_virtual_time
async def test_a_wrong_number_of_outcomes_is_a_failed_try() -> None:
    """A destination that miscounts costs its batch a try, never the lane."""
    outbox, set_up = one_lane(max_in_flight=1, schedule_seconds=(1.0,))
    destination = Miscounting(batch_limit=10)
    outbox.owe(*make_many(11))

    with capture_logs() as lines:
        async with Replica(outbox, set_up, destination):
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 1, "dead": 10}
    assert not [line for line in lines if line["event"] in ("lane.broke", "lane.stumbled")]


@in_virtual_time
async def test_a_failed_attempt_is_always_logged() -> None:
    """One wide line tells of the try, what it gave and what follows, also with `log.delivered` off."""
    outbox, set_up = one_lane(schedule_seconds=(7.0,))
    owed = make_owed()
    destination = FakeDestination()
    destination.answer = lambda _: FAILED if len(destination.batches) < 2 else DELIVERED
    outbox.owe(owed)

    with capture_logs() as lines:
        async with Replica(outbox, set_up, destination, logs_delivered=False):
            await all_ended(outbox)

    told = [line for line in lines if line["event"] == "delivery.attempted"]
    assert len(told) == 1
    assert told[0]["delivery_id"] == owed.idempotency_key
    expected = {
        "log_level": "warning",
        "kind": "fake",
        "number": 1,
        "outcome": "answered",
        "status_code": 503,
        "latency_ms": 10,
        "status": "pending",
        "reason": None,
        "delay_seconds": 7.0,
    }
    assert expected.items() <= told[0].items()
    assert {"event_id", "subscription_id", "endpoint_id"} <= told[0].keys()


@in_virtual_time
async def test_a_delivered_attempt_is_logged_when_asked_for() -> None:
    """With `log.delivered` on, deliveries are told of at info level."""
    outbox, set_up = one_lane()
    outbox.owe(make_owed())

    with capture_logs() as lines:
        async with Replica(outbox, set_up, FakeDestination(), logs_delivered=True):
            await all_ended(outbox)

    told = [line for line in lines if line["event"] == "delivery.attempted"]
    assert [(line["log_level"], line["outcome"], line["delay_seconds"]) for line in told] == [
        ("info", "delivered", None)
    ]


@in_virtual_time
async def test_a_bug_while_reading_one_lane_leaves_its_sends_alone() -> None:
    """What is in flight is settled once, and the lane is tried again after a pause."""
    outbox, set_up = one_lane(max_in_flight=4)
    destination = FakeDestination(takes_seconds=5.0)
    outbox.owe(*make_many(40))

    with capture_logs() as lines:
        async with Replica(outbox, set_up, destination):
            outbox.bugs_after["fetch"] = 2
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 40}
    assert set(destination.started.values()) == {1}
    assert 1 <= len([line for line in lines if line["event"] == "lane.stumbled"]) < 40


@in_virtual_time
async def test_a_bug_while_one_is_concluded_cuts_off_no_other() -> None:
    """The others under way end in their own time, each sent once; the one it was met with is tried again."""
    outbox, set_up = one_lane(max_in_flight=4)
    bad, *others = make_many(8)
    destination = FakeDestination()
    destination.holds = lambda owed: owed.key != bad.key
    destination.gate.clear()
    destination.answer = lambda owed: (
        NONSENSE if owed.key == bad.key and destination.started[bad.key] == 1 else DELIVERED
    )
    outbox.owe(bad, *others)

    with capture_logs() as lines:
        async with Replica(outbox, set_up, destination):
            await pass_time(1.0)
            destination.gate.set()
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 8}
    assert destination.started == {bad.key: 2, **{owed.key: 1 for owed in others}}
    assert len([line for line in lines if line["event"] == "lane.stumbled"]) == 1


@in_virtual_time
async def test_words_the_database_refuses_are_left_out() -> None:
    """An answer that cannot be kept does not keep its delivery, or any other, from being settled."""
    outbox, set_up = one_lane(max_in_flight=20)
    odd = replace(DELIVERED, response=b"odd")
    bad, *others = make_many(40)
    outbox.refuses = lambda each: each.outcome is not None and each.outcome.response == b"odd"
    outbox.owe(bad, *others)

    async with Replica(outbox, set_up, FakeDestination(answer=lambda owed: odd if owed.key == bad.key else DELIVERED)):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 40}
    assert len(outbox.settled) == 40


@in_virtual_time
async def test_a_settlement_refused_in_every_form_holds_up_no_other() -> None:
    """It is logged for a person to see, and its delivery is not sent again while this process lives."""
    outbox, set_up = one_lane(max_in_flight=20)
    bad, *others = make_many(40)
    destination = FakeDestination()
    outbox.refuses = lambda each: each.owed.key == bad.key
    outbox.owe(bad, *others)

    with capture_logs() as lines:
        async with Replica(outbox, set_up, destination) as replica:
            await until(lambda: len(outbox.ended) == len(others))
            await pass_time(60.0)
            replica.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await replica.task

    assert [line["delivery_id"] for line in lines if line["event"] == "settlement.refused"] == [bad.idempotency_key]
    assert set(destination.started.values()) == {1}
    assert list(outbox.debts) == [bad.row_id]
