"""Events that are committed after a replay was made: none is missed, none repeated."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text, update

from app.store.columns import now
from app.store.events import EventFilter
from app.store.open_transactions import may_commit
from app.store.outbox_schema import event
from app.store.replay import Wanted
from app.store.schema import replay
from tests.bed.stored import Stored, heard, make_event
from tests.contract.test_replay import do_slice, end_all, get, make

AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


async def test_an_event_that_commits_late_is_replayed(stored_on_postgres: Stored) -> None:
    """It was matched before the subscription was made, and is seen only when the job could have passed it."""
    endpoint_id = await stored_on_postgres.add_endpoint()
    async with stored_on_postgres.database.write() as ingest:
        await stored_on_postgres.store.write(ingest, [heard(make_event(1))])
        later = await stored_on_postgres.add_subscription(endpoint_id)
        job = await make(stored_on_postgres, Wanted(events=EventFilter(), subscription_id=later))
        before = await do_slice(stored_on_postgres, job)

    after = await do_slice(stored_on_postgres, job)

    assert (before.is_last, before.waits) == (False, True)
    assert (after.owed, after.is_last) == (1, True)


async def test_one_that_is_dated_after_the_job_too(stored_on_postgres: Stored) -> None:
    """Its transaction looked at the subscriptions before, and dated it afterwards."""
    endpoint_id = await stored_on_postgres.add_endpoint()
    async with stored_on_postgres.database.write() as ingest:
        await stored_on_postgres.store.write(ingest, [heard(make_event(1))])
        later = await stored_on_postgres.add_subscription(endpoint_id)
        job = await make(stored_on_postgres, Wanted(events=EventFilter(), subscription_id=later))
        await ingest.execute(update(event).values(recorded_at=now()))

    done = await do_slice(stored_on_postgres, job)

    assert (done.owed, done.is_last) == (1, True)


async def test_what_was_owed_after_the_job_was_made_is_not_owed_again(stored: Stored) -> None:
    """It was matched under the set-up that the job knows, and delivered."""
    await stored.add_subscribed()
    job = await make(stored)
    await stored.store.record([heard(make_event(1))])
    await end_all(stored)

    done = await do_slice(stored, job)

    assert (done.owed, done.is_last) == (0, True)
    assert (await get(stored, job)).looked_at == 0


async def test_a_session_left_open_holds_a_job_for_a_minute_at_most(stored_on_postgres: Stored) -> None:
    """No transaction of ours takes as long: it is a person's."""
    await stored_on_postgres.add_subscribed()
    async with stored_on_postgres.database.write() as left_open:
        await left_open.execute(select(1))
        job = await make(stored_on_postgres)
        before = await do_slice(stored_on_postgres, job)
        await stored_on_postgres.execute(update(replay).values(created_at=now(-61.0)))

        after = await do_slice(stored_on_postgres, job)

    assert (before.waits, after.is_last) == (True, True)


async def test_a_session_that_shows_nothing_may_be_anything(stored_on_postgres: Stored) -> None:
    """Such as one that is not tracked: it is waited for like one that is known to be older."""
    async with stored_on_postgres.database.write() as hidden:
        await hidden.execute(text("SET LOCAL track_activities = off"))
        async with stored_on_postgres.database.write() as connection:
            while_there = await may_commit(connection, begun_before=datetime.now(UTC))
    async with stored_on_postgres.database.write() as connection:
        afterwards = await may_commit(connection, begun_before=AN_HOUR_AGO + timedelta(minutes=59, seconds=30))

    assert while_there
    assert not afterwards


async def test_nobody_is_late_where_there_is_one_writer(stored_on_sqlite: Stored) -> None:
    """On SQLite what was recorded before is committed before."""
    async with stored_on_sqlite.database.write() as connection:
        assert not await may_commit(connection, begun_before=AN_HOUR_AGO)
        assert not await may_commit(connection, begun_before=datetime.now(UTC))
