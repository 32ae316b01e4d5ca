"""Transactions that meet at the worst moment: each is held where it hurts, and the other let run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Lease
from app.domain.ids import DEFAULT_TENANT
from app.store.database import Database
from app.store.epoch import bump_epoch, read_epoch
from app.store.insert import NewEvent, insert_events
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import lane
from tests.bed.process import until
from tests.bed.stored import SOURCE, Stored, delivered, heard, make_event, make_events, only_lease, owed_by


class HeldDatabase(Database):
    """A database whose writes do something right before they commit."""

    before_commit: Callable[[], Awaitable[object]] | None = None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Do it once, then commit."""
        async with super().write() as connection:
            yield connection
            held, self.before_commit = self.before_commit, None
            if held is not None:
                await held()


async def wait_for_blocked(stored: Stored, count: int) -> None:
    """Wait until that many transactions wait for a lock."""
    blocked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def are_blocked() -> bool:
        return bool(await stored.scalar(blocked) == count)

    await until(are_blocked, within=30, what=f"{count} transactions wait for a lock")


async def test_what_commits_while_a_lane_lies_down_keeps_it_awake(copied_postgres_url: str) -> None:
    """It was recorded after the lane's last look and woke nobody, since the lane was still seen awake."""
    database = HeldDatabase(copied_postgres_url)
    stored = Stored(database)
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    await outbox.settle([delivered(lease, each) for each in await owed_by(outbox, lease)])
    database.before_commit = lambda: stored.store.record([heard(make_event(2))])

    is_asleep = await outbox.rest(lease)

    assert not is_asleep
    assert (await outbox.survey()).awake == {lease.lane_id}
    await database.aclose()


async def test_a_lane_that_is_just_being_leased_is_passed_over(copied_postgres_url: str) -> None:
    """Whoever asks meanwhile neither gets it nor waits for it."""
    database = HeldDatabase(copied_postgres_url)
    stored = Stored(database)
    await stored.add_subscribed()
    await stored.store.record([heard(make_event(1))])
    other: list[Lease] = []

    async def ask() -> None:
        other.extend(await stored.outbox().lease(10))

    database.before_commit = ask

    leases = await stored.outbox().lease(10)

    assert (len(leases), other) == (1, [])
    await database.aclose()


@pytest.mark.parametrize("name", ["renew", "release", "settle"])
async def test_lanes_are_locked_in_the_order_of_their_ids(stored_on_postgres: Stored, name: str) -> None:
    """Whoever waits for the second of three holds the first, and not yet the third."""
    known = sorted([(await stored_on_postgres.add_subscribed())[0] for _ in range(3)])
    await stored_on_postgres.store.record([heard(make_event(1))])
    outbox = stored_on_postgres.outbox()
    leases = sorted(await outbox.lease(3), key=lambda each: -each.lane_id)
    work = await prepared(outbox, leases, name)
    free = select(lane.c.id).order_by(lane.c.id).with_for_update(skip_locked=True)
    async with stored_on_postgres.database.write() as connection:
        await connection.execute(select(lane.c.id).where(lane.c.id == known[1]).with_for_update())

        going = asyncio.create_task(work())
        await wait_for_blocked(stored_on_postgres, 1)
        async with stored_on_postgres.database.write() as looking:
            unlocked = list((await looking.execute(free)).scalars())

    await going
    assert unlocked == known[2:]


async def prepared(outbox: SqlOutbox, leases: Sequence[Lease], name: str) -> Callable[[], Coroutine[Any, Any, object]]:
    """Give what locks the lanes of leases."""
    if name == "settle":
        settlements = [delivered(lease, owed) for lease in leases for owed in await owed_by(outbox, lease)]
        return lambda: outbox.settle(settlements)
    return lambda: outbox.renew(leases) if name == "renew" else outbox.release(leases)


async def test_batches_that_hold_the_same_events_never_deadlock(stored_on_postgres: Stored) -> None:
    """They insert in one order, however they heard: neither is run a second time."""
    await stored_on_postgres.add_subscribed()
    events = sorted(make_events(9), key=lambda each: each.id)
    tries = 0

    def recording(said: list[int]) -> asyncio.Task[object]:
        async def work(connection: AsyncConnection) -> object:
            nonlocal tries
            tries += 1
            return await stored_on_postgres.store.write(connection, [heard(*(events[each] for each in said))])

        return asyncio.create_task(stored_on_postgres.store.transact(work))

    async with stored_on_postgres.database.write() as connection:
        held = NewEvent(tenant_id=DEFAULT_TENANT, source_id=SOURCE, event=events[4], day=events[4].day)
        await insert_events(connection, [held])
        one, other = recording([*range(9)]), recording([*range(8, -1, -1)])
        await wait_for_blocked(stored_on_postgres, 2)

    await asyncio.gather(one, other)
    assert tries == 2


async def test_processes_that_read_before_they_write_take_turns_on_sqlite(migrated_sqlite_url: str) -> None:
    """None is told at once that the file is locked, and none writes over what another wrote."""
    databases = [Database(migrated_sqlite_url) for _ in range(2)]
    before = await Stored(databases[0]).scalar(text("SELECT epoch FROM configuration_epoch"))

    async def change(database: Database) -> None:
        for _ in range(10):
            async with database.write() as connection:
                await read_epoch(connection)
                await bump_epoch(connection)

    await asyncio.gather(*map(change, databases))

    async with databases[0].read() as connection:
        assert await read_epoch(connection) == before + 20
    for each in databases:
        await each.aclose()
