"""The upkeep over both databases: days are there before they are needed, and what is past the retention goes."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest
from sqlalchemy import delete, insert, text, update
from sqlalchemy.event import listen, remove

from app.domain.errors import StoreUnavailable
from app.domain.ids import DEFAULT_TENANT
from app.domain.message import Refusal
from app.store import keys, prune, sources
from app.store.columns import now
from app.store.database import Database
from app.store.days import DAYS_AHEAD, SENTINEL, partition_name, partitions
from app.store.migrate import migrate
from app.store.outbox_schema import attempt, chore, dead_letter, delivery, event, lane, pulse, quarantine
from app.store.partitions import PARENTS
from app.store.schema import api_key, endpoint, replay, source, subscription
from app.store.sources import NewSource
from app.store.upkeep import Upkeep
from tests.bed.stored import SOURCE, Stored, dead, delivered, heard, make_event, make_events, only_lease, owed_by
from tests.contract.test_replay import make as make_replay

OLD: Final = now(-40 * 86_400.0)
QUIET: Final = {"events_per_second": 0.0}
LONG_AGO = datetime.now(UTC).date() - timedelta(days=40)


async def make_partition(stored: Stored, day: date) -> None:
    """Let a day of long ago still be there."""
    for parent in PARENTS:
        name = partition_name(parent, day)
        await stored.execute(
            text(
                f"CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
            )
        )


async def days_of(stored: Stored, parent: str) -> set[date]:
    """Give the days that have a partition."""
    async with stored.database.read() as connection:
        return set(await partitions(connection, parent))


async def test_replicas_that_start_at_once_make_each_day_once(postgres_url: str) -> None:
    """Yesterday to a week ahead, for events and the history, whoever comes first."""
    databases = [Database(postgres_url) for _ in range(3)]
    await migrate(databases[0])

    await asyncio.gather(*(Upkeep(each).run_once() for each in databases))

    today = datetime.now(UTC).date()
    expected = {today + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)}
    assert [await days_of(Stored(databases[0]), parent) for parent in PARENTS] == [expected, expected]
    for each in databases:
        await each.aclose()


async def test_days_past_the_retention_are_dropped(stored_on_postgres: Stored) -> None:
    """Partitions of events and of the history go, the sentinel and the days kept stay."""
    await make_partition(stored_on_postgres, LONG_AGO)
    before = await days_of(stored_on_postgres, "event")

    await Upkeep(stored_on_postgres.database).run_once()

    assert await days_of(stored_on_postgres, "event") == before - {LONG_AGO}
    assert LONG_AGO not in await days_of(stored_on_postgres, "attempt")
    assert await stored_on_postgres.scalar(text("SELECT to_regclass('event_other') IS NOT NULL"))


async def test_a_day_that_something_owed_needs_is_kept(stored_on_postgres: Stored) -> None:
    """Neither a delivery still owed nor a dead letter loses its event."""
    days = [LONG_AGO - timedelta(days=number) for number in range(3)]
    for day in days:
        await make_partition(stored_on_postgres, day)
    await stored_on_postgres.add_subscribed()
    await stored_on_postgres.store.record([heard(*make_events(2))])
    outbox = stored_on_postgres.outbox()
    lease = await only_lease(outbox)
    first, second = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, first)])
    await stored_on_postgres.execute(update(dead_letter).values(event_day=days[0]))
    await stored_on_postgres.execute(update(delivery).where(delivery.c.id == second.row_id).values(event_day=days[1]))

    await Upkeep(stored_on_postgres.database).run_once()

    assert await days_of(stored_on_postgres, "event") & set(days) == {days[0], days[1]}


async def test_dead_letters_and_quarantine_past_the_retention_go(stored: Stored) -> None:
    """What was given up or last seen long ago goes; how a delivery ended stays in the history."""
    await stored.add_subscribed()
    await stored.add_source()
    refusals = [Refusal(reason="not JSON", raw=raw) for raw in (b"old", b"young")]
    await stored.store.record([heard(*make_events(2), refusals=refusals)])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    first, second = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, first), dead(lease, second)])
    long_ago = now(-40 * 86_400)
    await stored.execute(update(dead_letter).where(dead_letter.c.delivery_key == first.key).values(ended_at=long_ago))
    await stored.execute(update(quarantine).where(quarantine.c.raw == b"old").values(last_seen_at=long_ago))

    await Upkeep(stored.database).run_once()

    assert [row.delivery_key for row in await stored.rows("dead_letter")] == [second.key]
    assert [row.raw for row in await stored.rows("quarantine")] == [b"young"]
    assert await stored.count("attempt") == 2


async def test_nothing_new_is_filed_under_a_day_about_to_go(stored_on_postgres: Stored) -> None:
    """Past the retention events are filed under the sentinel, though their day is still there."""
    await make_partition(stored_on_postgres, LONG_AGO)

    await stored_on_postgres.store.record([heard(make_event(1, day=LONG_AGO))])

    (row,) = await stored_on_postgres.rows("event")
    assert row.event_day == SENTINEL


async def test_what_came_long_ago_is_pruned_unless_it_is_needed(stored: Stored) -> None:
    """Events that no delivery and no dead letter needs go by their arrival."""
    await stored.add_subscribed()
    events = [make_event(number, day=LONG_AGO) for number in range(4)]
    await stored.store.record([heard(*events)])
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    rows = await owed_by(outbox, lease)
    await outbox.settle([dead(lease, rows[0]), delivered(lease, rows[1]), delivered(lease, rows[2])])
    await stored.execute(update(event).where(event.c.id != events[2].id).values(recorded_at=now(-40 * 86_400.0)))

    await Upkeep(stored.database).run_once()

    assert {row.id for row in await stored.rows("event")} == {events[0].id, events[2].id, events[3].id}


async def test_history_past_the_retention_is_pruned(stored_on_sqlite: Stored) -> None:
    """Old attempts go, the rest stays."""
    await stored_on_sqlite.add_subscribed()
    await stored_on_sqlite.store.record([heard(*make_events(2))])
    outbox = stored_on_sqlite.outbox()
    lease = await only_lease(outbox)
    rows = await owed_by(outbox, lease)
    await outbox.settle([delivered(lease, each) for each in rows])
    await stored_on_sqlite.execute(update(attempt).where(attempt.c.delivery_key == rows[0].key).values(day=LONG_AGO))

    await Upkeep(stored_on_sqlite.database).run_once()

    (row,) = await stored_on_sqlite.rows("attempt")
    assert row.delivery_key == rows[1].key


async def test_nothing_is_deleted_in_more_than_a_slice(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is past the retention goes in one run, but no statement takes more rows than a slice has."""
    monkeypatch.setattr(prune, "SLICE", 2)
    await stored.add_subscribed()
    await stored.store.record(
        [heard(*make_events(5), refusals=[Refusal(reason="not JSON", raw=bytes([each])) for each in range(5)])]
    )
    outbox = stored.outbox()
    lease = await only_lease(outbox)
    await outbox.settle([dead(lease, each) for each in await owed_by(outbox, lease)])
    await stored.store.record([heard(*(make_event(number, day=LONG_AGO) for number in range(10, 15)))])
    lease_again = await owed_by(outbox, lease)
    await outbox.settle([delivered(lease, each) for each in lease_again])
    await let_all_be_old(stored)
    deleted: list[int] = []

    def note(_c: Any, cursor: Any, statement: str, _p: Any, _x: Any, executed_many: bool) -> None:  # noqa: FBT001 -- SQLAlchemy's
        if statement.lstrip().startswith("DELETE"):
            assert not executed_many
            deleted.append(cursor.rowcount)

    listen(stored.database.engine.sync_engine, "after_cursor_execute", note)
    await Upkeep(stored.database).run_once()
    remove(stored.database.engine.sync_engine, "after_cursor_execute", note)

    assert max(deleted) == 2
    left = {name: await stored.count(name) for name in ("dead_letter", "quarantine", "replay", "endpoint", "source")}
    assert left == {"dead_letter": 0, "quarantine": 0, "replay": 0, "endpoint": 1, "source": 0}
    assert [row.event_day for row in await stored.rows("event") if row.event_day == SENTINEL] == []
    assert (await stored.count("subscription"), await stored.count("pulse")) == (1, 0)


async def let_all_be_old(stored: Stored) -> None:
    """Let everything there is be of long ago, with three deleted or ended rows of whatever can be deleted or end."""
    for _ in range(3):
        endpoint_id = await stored.add_endpoint()
        await stored.add_subscription(endpoint_id)
        await stored.delete_endpoint(endpoint_id, seconds_ago=40 * 86_400)
        await stored.execute(delete(lane).where(lane.c.endpoint_id == endpoint_id))
        await make_replay(stored)
        async with stored.database.write() as connection:
            made = await sources.create(connection, DEFAULT_TENANT, NewSource(name="x", kind="sqs", config={}))
            await connection.execute(insert(pulse).values(source_id=made.id, replica_id=b"r", seen_at=OLD, **QUIET))
    await stored.execute(update(source).values(deleted_at=OLD))
    await stored.execute(update(replay).values(state="done", ended_at=OLD))
    await stored.execute(update(subscription).where(subscription.c.deleted_at.is_not(None)).values(emptied_at=OLD))
    await stored.execute(update(dead_letter).values(ended_at=OLD))
    await stored.execute(update(quarantine).values(last_seen_at=OLD))
    await stored.execute(update(event).values(recorded_at=OLD))


async def test_what_is_deleted_stays_while_something_needs_it(stored: Stored) -> None:
    """A lane, something owed, quarantine or a younger deletion keeps its row; what is in use stays in any case."""
    await let_all_be_old(stored)
    await stored.execute(update(endpoint).values(created_at=OLD))
    kept, with_lane, young = await stored.add_endpoint(), await stored.add_endpoint(), await stored.add_endpoint()
    for endpoint_id in (kept, with_lane, young):
        await stored.add_subscription(endpoint_id)
    await stored.delete_endpoint(with_lane, seconds_ago=40 * 86_400)
    await stored.delete_endpoint(young)
    await stored.add_source()
    await stored.execute(update(source).values(deleted_at=OLD))
    await stored.store.record([heard(refusals=[Refusal(reason="not JSON", raw=b"x")])])

    await Upkeep(stored.database).run_once()

    assert {row.id for row in await stored.rows("endpoint")} == {kept, with_lane, young}
    assert {row.endpoint_id for row in await stored.rows("subscription")} == {kept, with_lane, young}
    assert [row.id for row in await stored.rows("source")] == [SOURCE]


async def test_revoked_keys_go_but_never_the_last_sign_of_one(stored: Stored) -> None:
    """The newest key stays, though it was revoked long ago: a start makes a key only where there never was one."""
    async with stored.database.write() as connection:
        *_, newest = [(await keys.create(connection, name="operator"))[0] for _ in range(3)]
    await stored.execute(update(api_key).values(revoked_at=OLD))

    await Upkeep(stored.database).run_once()

    assert [row.id for row in await stored.rows("api_key")] == [newest]
    async with stored.database.write() as connection:
        assert await keys.create_first(connection, name="operator") is None


async def test_a_running_replay_stays(stored: Stored) -> None:
    """However long ago it was made."""
    await make_replay(stored)
    await stored.execute(update(replay).values(created_at=OLD, updated_at=OLD))

    await Upkeep(stored.database).run_once()

    assert await stored.count("replay") == 1


async def test_one_replica_prunes_and_not_again_within_the_hour(stored_on_postgres: Stored) -> None:
    """The next run leaves the drop to the hour's end."""
    upkeep = Upkeep(stored_on_postgres.database)
    await upkeep.run_once()
    await make_partition(stored_on_postgres, LONG_AGO)

    await upkeep.run_once()
    kept = await days_of(stored_on_postgres, "event")
    await stored_on_postgres.execute(update(chore).values(due_at=now(-1.0)))
    await upkeep.run_once()

    assert LONG_AGO in kept
    assert LONG_AGO not in await days_of(stored_on_postgres, "event")


async def test_a_day_in_use_is_dropped_another_time(stored_on_postgres: Stored) -> None:
    """Whoever reads the events is not waited for, and the upkeep goes on with the history."""
    await make_partition(stored_on_postgres, LONG_AGO)
    async with stored_on_postgres.database.write() as connection:  # a transaction: its locks last
        await connection.execute(text("SELECT count(*) FROM event"))

        await Upkeep(stored_on_postgres.database).run_once()

    assert LONG_AGO in await days_of(stored_on_postgres, "event")
    assert LONG_AGO not in await days_of(stored_on_postgres, "attempt")


async def test_it_runs_at_once_and_until_told_to_stop(stored: Stored) -> None:
    """The loop does its work before it waits, and ends when asked."""
    stop = asyncio.Event()

    class Told(Upkeep):
        async def run_once(self) -> None:
            await super().run_once()
            stop.set()

    async with asyncio.timeout(30):
        await Told(stored.database).run(stop)

    (row,) = [each for each in await stored.rows("chore") if each.name == "upkeep"]
    assert row.owner is None
    assert row.due_at > datetime.now(UTC) + timedelta(minutes=59)


async def test_a_database_that_is_away_does_not_end_the_loop(stored: Stored) -> None:
    """A run that fails is logged, and the loop waits for the next."""
    stop = asyncio.Event()

    class Failing(Upkeep):
        async def run_once(self) -> None:
            stop.set()
            raise StoreUnavailable

    async with asyncio.timeout(30):
        await Failing(stored.database).run(stop)
