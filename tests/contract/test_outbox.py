"""The port Outbox over both databases: lanes are held by one replica at a time, what they owe ends exactly once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text, update

from app.domain.delivery import Health, Lease, Owed, Settlement
from app.domain.ids import SubscriptionId
from app.domain.outcome import Outcome
from app.domain.verdict import Verdict
from app.store import lanes
from app.store.cancel import CANCELLED_AT_ONCE
from app.store.columns import FAR, now
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery, lane, replica
from tests.bed.process import until
from tests.bed.stored import (
    LEASE_SECONDS,
    Stored,
    changed,
    dead,
    delivered,
    failed,
    heard,
    make_event,
    make_events,
    only_lease,
    owed_by,
)


async def record(stored: Stored, count: int) -> None:
    """Record that many events."""
    await stored.store.record([heard(*make_events(count))])


async def leased(stored: Stored, *, events: int = 1) -> tuple[SqlOutbox, Lease]:
    """Owe events to one endpoint and lease its lane."""
    await stored.add_subscribed()
    await record(stored, events)
    outbox = stored.outbox()
    return outbox, await only_lease(outbox)


async def endings(stored: Stored) -> list[tuple[int, str | None, str | None]]:
    """Give number, ending and reason of each row of the history, in order."""
    return [(row.number, row.ended, row.reason) for row in await stored.rows("attempt", "number", "ended_at")]


class TestLanes:
    """Who holds a lane."""

    async def test_no_two_replicas_get_the_same_lane(self, stored: Stored) -> None:
        """Replicas that lease at once share the lanes, and each lane goes to one."""
        known = {(await stored.add_subscribed())[0] for _ in range(6)}
        await record(stored, 1)
        replicas = [stored.outbox() for _ in range(3)]

        leases = await asyncio.gather(*(each.lease(4) for each in replicas for _ in range(2)))

        taken = [lease.lane_id for group in leases for lease in group]
        rest = [lease.lane_id for each in replicas for lease in await each.lease(10)]
        assert sorted(taken + rest) == sorted(known)

    async def test_the_lane_served_longest_ago_comes_first(self, stored: Stored) -> None:
        """Leases go by who waited longest, and are handed out in that order."""
        first, second, third = [(await stored.add_subscribed())[0] for _ in range(3)]
        await record(stored, 1)
        for seconds_ago, each in ((10.0, second), (20.0, third), (30.0, first)):
            await stored.execute(update(lane).where(lane.c.id == each).values(last_served=now(-seconds_ago)))
        outbox = stored.outbox()

        leases = await outbox.lease(2)
        await outbox.release(leases)
        again = await outbox.lease(3)

        assert [each.lane_id for each in leases] == [first, third]
        assert again[0].lane_id == second

    async def test_a_lane_taken_over_has_a_higher_fence(self, stored: Stored) -> None:
        """A lease that ran out is another replica's to take; the first one learns it when it renews."""
        stale, lease = await leased(stored)
        await stored.run_out(lease.lane_id)
        other = stored.outbox()

        taken = await only_lease(other)

        assert taken.fence > lease.fence
        assert await stale.renew([lease]) == frozenset()
        assert await other.renew([taken]) == {taken.lane_id}

    async def test_a_valid_lease_is_nobody_elses(self, stored: Stored) -> None:
        """While a lease holds, others find nothing to take; a renewal makes it hold longer."""
        outbox, lease = await leased(stored)
        await stored.execute(update(lane).values(lease_until=now(0.5)))

        assert await outbox.renew([lease]) == {lease.lane_id}
        until = await stored.scalar(select(lane.c.lease_until))
        assert until > datetime.now(UTC) + timedelta(seconds=30)
        assert await stored.outbox().lease(10) == ()

    async def test_a_lease_ends_by_itself(self, stored: Stored) -> None:
        """What a killed replica held is free when its lease is over."""
        await stored.add_subscribed()
        await record(stored, 1)
        lease = await only_lease(stored.outbox(lease_seconds=0.3))
        other = stored.outbox()

        before = await other.lease(1)
        await asyncio.sleep(0.31)  # the lease's own time; nothing tells of its end
        after = await other.lease(1)

        assert before == ()
        assert [each.lane_id for each in after] == [lease.lane_id]

    async def test_a_lane_given_back_is_free_at_once(self, stored: Stored) -> None:
        """Released with something due, the next replica leases it; releasing twice or late does nothing."""
        outbox, lease = await leased(stored)
        await outbox.release([lease])
        other = stored.outbox()
        taken = await only_lease(other)

        await outbox.release([lease])

        assert await other.renew([taken]) == {taken.lane_id}

    async def test_a_lane_leased_anew_loses_only_the_older_claim(self, stored: Stored) -> None:
        """The same replica's newer claim lives on beside its lost one."""
        outbox, lease = await leased(stored)
        await outbox.release([lease])
        newer = await only_lease(outbox)

        assert await outbox.renew([lease]) == frozenset()
        assert await outbox.renew([newer]) == {newer.lane_id}

    async def test_releasing_an_older_claim_keeps_the_newer(self, stored: Stored) -> None:
        """A lane that ran out and was leased anew by the same replica stays its own when the older claim goes."""
        outbox, lease = await leased(stored)
        await stored.run_out(lease.lane_id)
        newer = await only_lease(outbox)

        await outbox.release([lease])

        assert await stored.outbox().lease(1) == ()
        assert await outbox.renew([newer]) == {newer.lane_id}

    async def test_a_replica_that_retires_keeps_what_it_holds(self, stored: Stored) -> None:
        """It is not counted, so the others share all lanes; its leases hold until it leaves."""
        outbox, lease = await leased(stored)
        await outbox.survey()
        other = stored.outbox()

        await outbox.retire()

        survey = await other.survey()
        assert (survey.replicas, survey.waiting) == (1, 0)
        assert await outbox.renew([lease]) == {lease.lane_id}

    async def test_a_replica_that_leaves_gives_everything_back(self, stored: Stored) -> None:
        """After leaving, a replica is not counted and holds nothing."""
        outbox, lease = await leased(stored)
        await outbox.survey()
        other = stored.outbox()
        assert (await other.survey()).replicas == 2

        await outbox.leave()

        survey = await other.survey()
        assert (survey.replicas, survey.waiting) == (1, 1)
        assert (await only_lease(other)).lane_id == lease.lane_id


class TestHealth:
    """How a lane fares stays with the lane, whoever holds it next."""

    async def test_how_it_fares_is_handed_on(self, stored: Stored) -> None:
        """With the settlement that tells of it."""
        outbox, lease = await leased(stored, events=2)
        first, second = await owed_by(outbox, lease)
        await outbox.settle([replace(failed(lease, first), health=Health(failures=1, latency_seconds=0.5))])
        await outbox.settle([failed(lease, second)])
        await outbox.release([lease])
        await stored.make_due()

        again = await only_lease(stored.outbox())

        assert lease.health == Health()
        assert again.health == Health(failures=1, latency_seconds=0.5)
        assert not again.is_on_trial

    async def test_a_suspended_lane_is_nobodys(self, stored: Stored) -> None:
        """Until its time is over; it is counted, and a hint or a sweep does not shorten it."""
        outbox, lease = await leased(stored)
        before = (await outbox.survey()).suspended

        await outbox.suspend(lease, seconds=60)

        async with stored.database.write() as connection:
            await lanes.wake(connection, [lease.lane_id])
        await outbox.sweep()
        survey = await outbox.survey()
        assert await outbox.lease(1) == ()
        assert (before, survey.suspended, survey.waiting, survey.active) == (0, 1, 0, 0)

    async def test_it_is_on_trial_when_it_is_leased_after_that(self, stored: Stored) -> None:
        """By whoever it is, until something was delivered."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([replace(failed(lease, owed), health=Health(failures=5))])
        await outbox.suspend(lease, seconds=0)
        await stored.make_due()

        other = stored.outbox()
        on_trial = await only_lease(other)
        (owed,) = await owed_by(other, on_trial)
        await other.settle([replace(delivered(on_trial, owed), health=Health())])
        await record(stored, 2)
        await other.release([on_trial])

        assert on_trial.is_on_trial
        assert not (await only_lease(stored.outbox())).is_on_trial

    async def test_for_how_long_it_failed_is_handed_on(self, stored: Stored) -> None:
        """By the database's clock, until something was delivered."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([replace(failed(lease, owed), health=Health(failures=5))])
        await stored.execute(update(lane).values(failing_since=now(-600)))
        await outbox.release([lease])
        await stored.make_due()

        again = await only_lease(stored.outbox())

        assert lease.failing_seconds == 0.0
        assert 600 <= again.failing_seconds < 660

    @pytest.mark.parametrize(("outage", "passed", "expected"), [(600, 1100, True), (600, 1300, False)])
    async def test_it_recovers_twice_as_long_as_it_was_away(
        self, stored: Stored, outage: float, passed: float, *, expected: bool
    ) -> None:
        """From the success that ended its trial on, whoever has it then."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([replace(failed(lease, owed), health=Health(failures=5))])
        await outbox.suspend(lease, seconds=0)
        await stored.make_due()
        on_trial = await only_lease(outbox)
        await stored.execute(update(lane).values(failing_since=now(-outage), breaker_until=now(-1)))
        (owed,) = await owed_by(outbox, on_trial)
        await outbox.settle([replace(delivered(on_trial, owed), health=Health())])
        await record(stored, 2)
        await outbox.release([on_trial])
        until = await stored.scalar(select(lane.c.recovering_until))
        await stored.execute(update(lane).values(recovering_until=until - timedelta(seconds=passed)))

        again = await only_lease(stored.outbox())

        assert not on_trial.is_recovering
        assert again.is_recovering is expected

    async def test_a_lane_that_failed_anew_since_it_was_suspended_is_not_on_trial(self, stored: Stored) -> None:
        """What opened its breaker is over."""
        outbox, lease = await leased(stored, events=2)
        first, second = await owed_by(outbox, lease)
        await outbox.suspend(lease, seconds=0)
        again = await only_lease(outbox)
        await outbox.settle([replace(failed(again, first), health=Health(failures=1))])
        await outbox.settle([failed(again, second)])
        await outbox.release([again])
        await stored.make_due()

        assert not (await only_lease(outbox)).is_on_trial

    async def test_a_lost_lease_suspends_nothing(self, stored: Stored) -> None:
        """The lane is another's."""
        outbox, lease = await leased(stored)
        await stored.run_out(lease.lane_id)
        newer = await only_lease(stored.outbox())

        await outbox.suspend(lease, seconds=60)

        assert newer.fence > lease.fence
        assert (await outbox.survey()).suspended == 0


class TestSurvey:
    """What a replica sees."""

    async def test_lanes_are_counted_by_what_they_need(self, stored: Stored) -> None:
        """Waiting, awake and active lanes are told apart; sleeping ones count nowhere."""
        await stored.add_endpoint()
        known = [(await stored.add_subscribed())[0] for _ in range(3)]
        outbox, other = stored.outbox(), stored.outbox()
        assert (await outbox.survey()).active == 0
        await record(stored, 1)
        waiting = await outbox.survey()

        (mine,) = await outbox.lease(1)
        (theirs,) = await other.lease(1)

        survey, view_of_other = await outbox.survey(), await other.survey()
        assert (waiting.waiting, waiting.active, waiting.awake) == (3, 3, frozenset())
        assert (survey.waiting, survey.active, set(survey.awake)) == (1, 3, {mine.lane_id})
        assert view_of_other.awake == {theirs.lane_id}
        assert view_of_other.replicas == 2
        assert {mine.lane_id, theirs.lane_id} < set(known)

    async def test_a_silent_replica_is_not_counted(self, stored: Stored) -> None:
        """A replica whose leases must have run out counts no more."""
        await stored.outbox().survey()
        await stored.outbox().survey()
        await stored.execute(update(replica).values(seen_at=now(-LEASE_SECONDS)))

        assert (await stored.outbox().survey()).replicas == 1

    async def test_live_replicas_are_in_one_order(self, stored: Stored) -> None:
        """Each knows how many come before it, and no two say the same."""
        replicas = [stored.outbox() for _ in range(3)]
        for each in replicas:
            await each.survey()

        surveys = [await each.survey() for each in replicas]

        assert sorted(each.rank for each in surveys) == [0, 1, 2]
        assert {each.replicas for each in surveys} == {3}


class TestFetch:
    """What a lane hands out."""

    async def test_what_is_due_comes_oldest_first(self, stored: Stored) -> None:
        """Rows due come in the order they are due, up to the limit, without those left out."""
        outbox, lease = await leased(stored, events=5)
        rows = await owed_by(outbox, lease)
        await stored.execute(update(delivery).where(delivery.c.id == rows[0].row_id).values(due_at=now(60.0)))
        await stored.execute(update(delivery).where(delivery.c.id == rows[4].row_id).values(due_at=now(-60.0)))

        found = await outbox.fetch(lease, limit=2, leave_out=[rows[1].row_id])
        everything = await owed_by(outbox, lease)

        assert [each.row_id for each in found] == [rows[4].row_id, rows[2].row_id]
        assert [each.row_id for each in everything] == [rows[number].row_id for number in (4, 1, 2, 3)]
        assert all(each.format == "standard" and each.lane_id == lease.lane_id for each in rows)

    async def test_what_was_deleted_is_not_handed_out(self, stored: Stored) -> None:
        """Neither a deleted subscription's nor a deleted endpoint's deliveries are sent."""
        endpoint_id = await stored.add_endpoint()
        kept = await stored.add_subscription(endpoint_id)
        dropped = await stored.add_subscription(endpoint_id)
        await record(stored, 2)
        outbox = stored.outbox()
        lease = await only_lease(outbox)

        await stored.delete_subscription(dropped)
        after_subscription = await owed_by(outbox, lease)
        await stored.delete_endpoint(endpoint_id)

        assert [each.subscription_id for each in after_subscription] == [kept, kept]
        assert await owed_by(outbox, lease) == []
        assert await outbox.rest(lease)

    async def test_an_event_no_longer_kept_is_owed_without_it(self, stored: Stored) -> None:
        """The delivery comes without its event, so that it can end as expired."""
        outbox, lease = await leased(stored)
        await stored.execute(text("DELETE FROM event"))

        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([dead(lease, owed, reason="expired", outcome=None)])

        assert owed.stored is None
        assert await endings(stored) == [(0, "dead", "expired")]


class TestSettle:
    """What becomes of deliveries."""

    async def test_a_success_ends_a_delivery(self, stored: Stored) -> None:
        """It leaves the outbox, and the history says when and how it ended."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)

        lost = await outbox.settle([delivered(lease, owed)])

        (row,) = await stored.rows("attempt")
        assert lost == frozenset()
        assert await stored.count("delivery") == 0
        assert (row.number, row.ended, row.outcome, row.status_code, row.latency_ms) == (
            1,
            "delivered",
            "delivered",
            200,
            12,
        )
        assert row.created_at == owed.owed_at
        assert row.day == row.ended_at.date()
        assert timedelta(seconds=0.4) < row.ended_at - row.started_at < timedelta(seconds=0.6)

    async def test_a_failure_is_due_again_later(self, stored: Stored) -> None:
        """It counts a try and a failure, and its history goes on."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)

        await outbox.settle([failed(lease, owed, delay_seconds=300.0)])

        (row,) = await stored.rows("delivery")
        assert (row.tries, row.failures) == (1, 1)
        assert timedelta(seconds=290) < row.due_at - datetime.now(UTC) < timedelta(seconds=310)
        assert await endings(stored) == [(1, None, None)]
        assert await owed_by(outbox, lease) == []

    async def test_a_delivery_given_up_is_kept_with_its_reason(self, stored: Stored) -> None:
        """It moves to the dead letters with all that is needed to owe it again."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        (before,) = await stored.rows("delivery")

        await outbox.settle([dead(lease, owed, reason="gone")])

        (letter,) = await stored.rows("dead_letter")
        names = ("delivery_key", "tenant_id", "lane_id", "endpoint_id", "subscription_id", "event_day", "event_id")
        assert await stored.count("delivery") == 0
        assert [getattr(letter, each) for each in names] == [getattr(before, each) for each in names]
        assert (letter.order_key, letter.created_at) == (before.order_key, before.created_at)
        assert (letter.tries, letter.reason) == (1, "gone")
        assert await endings(stored) == [(1, "dead", "gone")]

    async def test_many_lanes_are_settled_at_once(self, stored: Stored) -> None:
        """Settlements of many lanes and verdicts go together; each ends as it should."""
        for _ in range(3):
            await stored.add_subscribed()
        await record(stored, 4)
        outbox = stored.outbox()
        leases = await outbox.lease(3)
        owed = [(lease, list(await owed_by(outbox, lease))) for lease in leases]
        settlements: list[Settlement] = []
        for lease, rows in owed:
            settlements += [delivered(lease, rows[0]), failed(lease, rows[1]), dead(lease, rows[2])]

        assert await outbox.settle(settlements) == frozenset()

        assert await stored.count("delivery") == 6
        assert await stored.count("dead_letter") == 3
        assert (
            sorted(str(row.ended) for row in await stored.rows("attempt"))
            == ["None"] * 3 + ["dead"] * 3 + ["delivered"] * 3
        )

    async def test_settling_twice_is_settling_once(self, stored: Stored) -> None:
        """The same settlements again change nothing, whatever they said."""
        outbox, lease = await leased(stored, events=3)
        first, second, third = await owed_by(outbox, lease)
        settlements = [delivered(lease, first), failed(lease, second), dead(lease, third)]

        for _ in range(3):
            assert await outbox.settle(settlements) == frozenset()

        (row,) = await stored.rows("delivery")
        assert (row.tries, row.failures) == (1, 1)
        assert await stored.count("dead_letter") == 1
        assert await stored.count("attempt") == 3

    async def test_a_settle_prolongs_the_lease(self, stored: Stored) -> None:
        """Whoever settles is at work: the lane stays its own."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await stored.run_out(lease.lane_id)

        await outbox.settle([failed(lease, owed)])

        assert await stored.scalar(select(lane.c.lease_until > now(30.0)))

    async def test_a_replica_that_lost_its_lane_may_only_tell_of_successes(self, stored: Stored) -> None:
        """Its retries and deaths are not written, its successes are; it learns which lane it lost."""
        stale, lease = await leased(stored, events=3)
        first, second, third = await owed_by(stale, lease)
        await stored.run_out(lease.lane_id)
        other = stored.outbox()
        taken = await only_lease(other)

        lost = await stale.settle([delivered(lease, first), failed(lease, second), dead(lease, third)])

        assert lost == {lease.lane_id}
        assert [each.row_id for each in await owed_by(other, taken)] == [second.row_id, third.row_id]
        assert await stored.count("dead_letter") == 0
        assert await endings(stored) == [(1, "delivered", None)]

    async def test_a_late_success_takes_a_delivery_from_the_dead_letters(self, stored: Stored) -> None:
        """Given up by one replica and delivered by another, it ends delivered, and only so."""
        stale, lease = await leased(stored)
        (owed,) = await owed_by(stale, lease)
        await stored.run_out(lease.lane_id)
        other = stored.outbox()
        taken = await only_lease(other)
        await other.settle([dead(taken, owed)])

        await stale.settle([delivered(lease, owed)])
        await stale.settle([delivered(lease, owed)])

        assert await stored.count("dead_letter") == 0
        assert await endings(stored) == [(1, None, None), (2, "delivered", None)]

    async def test_a_success_finds_a_delivery_that_is_owed_anew(self, stored: Stored) -> None:
        """A dead letter owed again has another row; a success of the first claim ends it all the same."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await stored.execute(update(delivery).values(id=owed.row_id + 1000))

        await outbox.settle([delivered(lease, owed)])

        assert await stored.count("delivery") == 0

    async def test_texts_of_receivers_are_made_fit(self, stored: Stored) -> None:
        """Control characters, surrogates and long answers do not stop a settle."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        odd = Outcome(
            kind="answered",
            latency_seconds=10.0**12,
            status_code=500,
            error="nul \x00 surrogate \ud800" + "x" * 5000,
            response=b"\x00\xff" * 5000,
        )

        await outbox.settle([failed(lease, owed, outcome=odd)])

        (row,) = await stored.rows("attempt")
        assert row.error.startswith("nul \N{REPLACEMENT CHARACTER} surrogate ?xxx")
        assert len(row.error) <= 1000
        assert row.response == b"\x00\xff" * 1024

    async def test_a_delivery_put_off_without_a_try_leaves_no_trace(self, stored: Stored) -> None:
        """Pending without an outcome moves only the time it is due."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        put_off = Settlement(
            lease=lease,
            owed=owed,
            outcome=None,
            verdict=Verdict(status="pending", delay_seconds=60.0),
            started_seconds_ago=0.0,
        )

        await outbox.settle([put_off])

        (row,) = await stored.rows("delivery")
        assert (row.tries, row.failures, await stored.count("attempt")) == (0, 0, 0)

    async def test_concurrent_settles_end_each_delivery_once(self, stored: Stored) -> None:
        """Two replicas that both delivered, in opposite order, write one ending a delivery and do not deadlock."""
        stale, lease = await leased(stored, events=200)
        rows = await owed_by(stale, lease)
        await stored.run_out(lease.lane_id)
        other = stored.outbox()
        taken = await only_lease(other)

        await asyncio.gather(
            stale.settle([delivered(lease, each) for each in rows]),
            other.settle([delivered(taken, each) for each in reversed(rows)]),
        )

        assert await stored.count("delivery") == 0
        assert await stored.count("attempt") == 200

    async def test_a_missing_day_of_the_history_is_made(self, stored_on_postgres: Stored) -> None:
        """Deliveries end even where the upkeep was not done."""
        outbox, lease = await leased(stored_on_postgres)
        (owed,) = await owed_by(outbox, lease)
        await stored_on_postgres.execute(text(f"DROP TABLE attempt_{datetime.now(UTC):%Y%m%d}"))

        await outbox.settle([delivered(lease, owed)])

        assert await endings(stored_on_postgres) == [(1, "delivered", None)]


class TestRest:
    """A held lane that looks empty."""

    async def test_an_empty_lane_sleeps(self, stored: Stored) -> None:
        """With nothing owed nothing is due, and the lane is not awake."""
        outbox, lease = await leased(stored)
        await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])

        assert await outbox.rest(lease)

        assert (await outbox.survey()).awake == frozenset()
        assert await stored.scalar(select(lane.c.wake_at)) == FAR

    async def test_a_lane_wakes_by_itself_for_a_retry(self, stored: Stored) -> None:
        """It sleeps until its next delivery is due."""
        outbox, lease = await leased(stored)
        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([failed(lease, owed, delay_seconds=300.0)])

        assert await outbox.rest(lease)

        (row,) = await stored.rows("delivery")
        assert await stored.scalar(select(lane.c.wake_at)) == row.due_at

    async def test_something_due_keeps_a_lane_from_sleeping(self, stored: Stored) -> None:
        """What came in since the last look makes it look again."""
        outbox, lease = await leased(stored)

        assert not await outbox.rest(lease)

        assert (await outbox.survey()).awake == {lease.lane_id}

    async def test_what_comes_in_while_a_lane_lies_down_is_seen(self, stored: Stored) -> None:
        """However rest and record interleave, the lane is awake or rest said to look again."""
        outbox, lease = await leased(stored)
        await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])
        for number in range(1, 16):
            event = changed(make_event(1000 + number))

            is_asleep, _ = await asyncio.gather(outbox.rest(lease), stored.store.record([heard(event)]))

            is_awake = lease.lane_id in (await outbox.survey()).awake
            assert is_awake or not is_asleep
            await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])

    async def test_a_hint_waits_for_a_lane_that_is_just_lying_down(self, stored_on_postgres: Stored) -> None:
        """What commits after the lane's last look, and before it sleeps, still wakes it."""
        outbox, lease = await leased(stored_on_postgres)
        (owed,) = await owed_by(outbox, lease)
        await outbox.settle([failed(lease, owed)])
        assert await outbox.rest(lease)
        await stored_on_postgres.execute(update(lane).values(wake_at=FAR))
        async with stored_on_postgres.database.write() as connection:
            assert await lanes.set_alarm(connection, outbox._replica, lease)

            recording = asyncio.create_task(stored_on_postgres.store.record([heard(make_event(2))]))
            await until(lambda: is_recorded(stored_on_postgres), within=30, what="the batch is committed")

        await recording
        assert (await outbox.survey()).awake == {lease.lane_id}

    async def test_a_lost_lease_has_nothing_to_look_for(self, stored: Stored) -> None:
        """A replica that lost the lane neither puts it to sleep nor looks again."""
        stale, lease = await leased(stored)
        await stored.run_out(lease.lane_id)
        await only_lease(stored.outbox())

        assert await stale.rest(lease)

        assert await stored.scalar(select(lane.c.wake_at <= now()))


class TestSweep:
    """The guarantee behind the hints."""

    async def test_a_lane_that_sleeps_over_something_due_is_woken(self, stored: Stored) -> None:
        """A lost hint costs a second, no more; lanes with nothing due sleep on."""
        lane_id, _ = await stored.add_subscribed()
        await record(stored, 1)
        await stored.add_endpoint()
        await stored.execute(update(lane).values(wake_at=FAR))
        outbox = stored.outbox()

        woken = await outbox.sweep()

        assert woken == 1
        assert (await only_lease(outbox)).lane_id == lane_id
        assert await outbox.sweep() == 0

    async def test_one_replica_sweeps_at_a_time(self, stored: Stored) -> None:
        """Of two that sweep at once one does the work."""
        await stored.add_subscribed()
        await record(stored, 1)
        await stored.execute(update(lane).values(wake_at=FAR))

        woken = await asyncio.gather(stored.outbox().sweep(), stored.outbox().sweep())

        assert sum(woken) == 1

    async def test_what_a_deleted_subscription_owed_is_cancelled_in_slices(self, stored: Stored) -> None:
        """Each ends as cancelled without a try; others' deliveries stay; when nothing is left that is noted."""
        endpoint_id = await stored.add_endpoint()
        dropped = await stored.add_subscription(endpoint_id)
        count = CANCELLED_AT_ONCE + 10
        await record(stored, count)
        kept = await stored.add_subscription(endpoint_id)
        await stored.store.record([heard(make_event(count + 1))])
        await stored.delete_subscription(dropped)

        await stored.outbox().sweep()

        (row,) = await stored.rows("delivery")
        assert row.subscription_id == kept
        assert set(await endings(stored)) == {(0, "cancelled", None)}
        assert await stored.count("attempt") == count + 1
        assert await emptied(stored, dropped) is False
        await stored.delete_subscription(dropped, seconds_ago=61.0)
        await stored.outbox().sweep()
        assert await emptied(stored, dropped) is True

    async def test_many_deletions_do_not_wait_for_those_that_owe_nothing(self, stored: Stored) -> None:
        """A hundred subscriptions deleted at once are done with after a few sweeps, not after minutes."""
        endpoint_id = await stored.add_endpoint()
        dropped = [await stored.add_subscription(endpoint_id) for _ in range(100)]
        await record(stored, 1)
        for subscription_id in dropped:
            await stored.delete_subscription(subscription_id)

        for _ in range(3):
            await stored.outbox().sweep()

        assert await stored.count("delivery") == 0
        assert await endings(stored) == [(0, "cancelled", None)] * 100

    async def test_what_is_owed_on_a_deleted_endpoints_lane_is_cancelled(self, stored: Stored) -> None:
        """Also what a subscription owed that has moved to another endpoint; the lane goes when it is empty."""
        old, new = await stored.add_endpoint(), await stored.add_endpoint()
        subscription_id = await stored.add_subscription(old)
        await record(stored, 3)
        await stored.execute(
            text("UPDATE subscription SET endpoint_id = :new").bindparams(new=new),
        )
        await stored.delete_endpoint(old, seconds_ago=61.0)

        await stored.outbox().sweep()

        assert await stored.count("delivery") == 0
        assert await endings(stored) == [(0, "cancelled", None)] * 3
        assert [row.endpoint_id for row in await stored.rows("lane")] == [new]
        assert await emptied(stored, subscription_id) is False

    async def test_what_a_moved_subscription_owes_goes_where_it_was_owed(self, stored: Stored) -> None:
        """Deliveries owed before a subscription moved still go to the endpoint it had."""
        old, new = await stored.add_endpoint(), await stored.add_endpoint()
        await stored.add_subscription(old)
        await record(stored, 2)
        await stored.execute(text("UPDATE subscription SET endpoint_id = :new").bindparams(new=new))
        outbox = stored.outbox()

        rows = await owed_by(outbox, await only_lease(outbox))

        assert [each.endpoint_id for each in rows] == [old, old]

    @pytest.mark.parametrize("settled", [delivered, failed])
    async def test_a_try_of_a_delivery_that_was_cancelled_meanwhile_is_kept(
        self, stored: Stored, settled: Callable[..., Settlement]
    ) -> None:
        """What a person cancelled stays so; that its receiver has seen it is told once, however often settled."""
        _, subscription_id = await stored.add_subscribed()
        await record(stored, 1)
        outbox = stored.outbox()
        lease = await only_lease(outbox)
        (owed,) = await owed_by(outbox, lease)
        await stored.delete_subscription(subscription_id)
        await outbox.sweep()

        for _ in range(2):
            await outbox.settle([settled(lease, owed)])

        tries = [(row.number, row.outcome is None, row.ended) for row in await stored.rows("attempt", "number")]
        assert tries == [(0, True, "cancelled"), (1, False, None)]

    async def test_replicas_long_silent_are_forgotten(self, stored: Stored) -> None:
        """Rows of replicas that died long ago do not pile up."""
        await stored.execute(insert(replica).values(id=b"x" * 16, started_at=now(-9000.0), seen_at=now(-8000.0)))
        outbox = stored.outbox()
        await outbox.survey()

        await outbox.sweep()

        assert await stored.count("replica") == 1


async def test_a_life_in_full_ends_every_delivery_once(stored: Stored) -> None:
    """Events recorded while replicas lease, fail, stall and take over: each delivery ends delivered, exactly once."""
    known = [(await stored.add_subscribed())[0] for _ in range(4)]
    outboxes = [stored.outbox() for _ in range(2)]

    async def work(outbox: SqlOutbox, number: int) -> None:
        for turn in range(12):
            leases = await outbox.lease(2)
            for lease in leases:
                rows = await outbox.fetch(lease, limit=20, leave_out=())
                if (turn + number) % 4 == 3:
                    await stored.run_out(lease.lane_id)  # a stall: another replica may take it now
                await outbox.settle([settled(lease, owed) for owed in rows])
                await outbox.rest(lease)
            await outbox.release(leases)
            await stored.make_due()
            await outbox.sweep()

    async def produce() -> None:
        for number in range(10):
            await stored.store.record([heard(*(make_event(number * 10 + each) for each in range(10)))])

    await asyncio.gather(produce(), *(work(outbox, number) for number, outbox in enumerate(outboxes)))
    while await stored.count("delivery"):
        await stored.make_due()
        await outboxes[0].sweep()
        for lease in await outboxes[0].lease(4):
            await outboxes[0].settle([settled(lease, owed) for owed in await owed_by(outboxes[0], lease)])
            await outboxes[0].release([lease])

    ended = await stored.scalar(text("SELECT count(*) FROM attempt WHERE ended = 'delivered'"))
    distinct = await stored.scalar(text("SELECT count(DISTINCT delivery_key) FROM attempt WHERE ended = 'delivered'"))
    assert (ended, distinct) == (100 * len(known), 100 * len(known))


def settled(lease: Lease, owed: Owed) -> Settlement:
    """Fail every first try of every third delivery."""
    is_first_of_a_third = owed.tries == 0 and owed.key[-1] % 3 == 0
    return failed(lease, owed, delay_seconds=0.0) if is_first_of_a_third else delivered(lease, owed)


async def is_recorded(stored: Stored) -> bool:
    """Tell whether a second event is there."""
    return await stored.count("event") == 2


async def emptied(stored: Stored, subscription_id: SubscriptionId) -> bool:
    """Tell whether a subscription is marked as owing nothing any more."""
    (row,) = [each for each in await stored.rows("subscription") if each.id == subscription_id]
    return row.emptied_at is not None
