"""How one thing leaves the quarantine, over both databases: recorded with all it owes, or refused and kept."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app.domain.errors import StoreError, StoreUnavailable
from app.domain.ids import DEFAULT_TENANT, QuarantineId, TenantId
from app.domain.message import Decoded, Refusal
from app.store.clearing import discard
from app.store.columns import now
from app.store.days import SENTINEL
from app.store.outbox_schema import event, lane, quarantine
from app.store.reprocess import Reprocessed, Reprocessing
from app.store.schema import source
from app.store.upkeep import Upkeep
from tests.bed.stored import SOURCE, Stored, changed, heard, make_event
from tests.bed.words import Words, event_id_of, event_of

STRANGER = TenantId(DEFAULT_TENANT + 1)


@pytest.fixture
def words() -> Words:
    """Give a decoder that got newer since things were put into the quarantine."""
    return Words(is_new=True)


@pytest.fixture
def reprocessing(stored: Stored, words: Words) -> Reprocessing:
    """Give what is under test."""
    return Reprocessing(stored.database, stored.store, words)


async def keep(stored: Stored, raw: bytes, reason: str = "Not known.") -> QuarantineId:
    """Put bytes into the quarantine as a batch does."""
    await stored.store.record([heard(refusals=[Refusal(reason=reason, raw=raw)])])
    return QuarantineId(await stored.scalar(select(quarantine.c.id).where(quarantine.c.raw == raw)))


async def reprocess(reprocessing: Reprocessing, made: QuarantineId) -> Reprocessed:
    """Reprocess what is there."""
    done = await reprocessing.reprocess(DEFAULT_TENANT, made)
    assert done is not None
    return done


async def kept(stored: Stored) -> dict[bytes, str]:
    """Give what is in the quarantine, with its reason."""
    return {row.raw: row.reason for row in await stored.rows("quarantine")}


async def test_what_can_be_decoded_now_is_recorded_with_what_it_owes(
    stored: Stored, reprocessing: Reprocessing
) -> None:
    """Its events are there as if they came now and owe through each subscription, the lane wakes, the row is gone."""
    lane_id, subscription_id = await stored.add_subscribed()
    made = await keep(stored, b"n1 n2")

    done = await reprocess(reprocessing, made)

    assert done == Reprocessed(
        outcome="recorded", events=[event_id_of(b"n1"), event_id_of(b"n2")], reason=None, lanes=frozenset({lane_id})
    )
    assert await kept(stored) == {}
    assert {(row.id, row.source_id, row.record) for row in await stored.rows("event")} == {
        (event_id_of(b"n1"), SOURCE, b"n1"),
        (event_id_of(b"n2"), SOURCE, b"n2"),
    }
    owed = await stored.rows("delivery", "id")
    assert [(row.event_id, row.subscription_id) for row in owed] == [(each, subscription_id) for each in done.events]
    assert await stored.scalar(select(lane.c.wake_at <= now()).where(lane.c.id == lane_id))


async def test_the_set_up_of_now_decides_what_is_owed(stored: Stored, reprocessing: Reprocessing) -> None:
    """A subscription made after the bytes came is owed their events, one deleted meanwhile is not."""
    endpoint_id = await stored.add_endpoint()
    old = await stored.add_subscription(endpoint_id)
    made = await keep(stored, b"n1")
    await stored.delete_subscription(old)
    new = await stored.add_subscription(endpoint_id)

    await reprocess(reprocessing, made)

    assert [row.subscription_id for row in await stored.rows("delivery")] == [new]


async def test_known_events_are_told_and_owed_no_second_time(stored: Stored, reprocessing: Reprocessing) -> None:
    """An event that came by another road meanwhile is named, and stays one event and one delivery."""
    await stored.add_subscribed()
    made = await keep(stored, b"n1 n1 n2")
    await stored.store.record([heard(event_of(b"n1"))])

    done = await reprocess(reprocessing, made)

    assert done.events == [event_id_of(b"n1"), event_id_of(b"n2")]
    assert [await stored.count(table) for table in ("event", "delivery", "quarantine")] == [2, 2, 0]


async def test_what_is_refused_again_stays_with_the_new_reason(stored: Stored, reprocessing: Reprocessing) -> None:
    """The same row: its id, how often it came and when are as they were; only the reason is new."""
    made = await keep(stored, b"?1")
    (before,) = await stored.rows("quarantine")

    done = await reprocess(reprocessing, made)

    (after,) = await stored.rows("quarantine")
    assert done == Reprocessed(outcome="refused", events=[], reason="The newer version does not know ?1.")
    assert after._mapping == {**before._mapping, "reason": done.reason}


async def test_several_refusals_are_one_reason(stored: Stored, reprocessing: Reprocessing) -> None:
    """A thing of which nothing can be read stays whole; the reason tells of the first, and how many more there are."""
    made = await keep(stored, b"?1 ?2 ?3")

    done = await reprocess(reprocessing, made)

    assert await kept(stored) == {b"?1 ?2 ?3": "The newer version does not know ?1. (And 2 more.)"}
    assert done.reason == "The newer version does not know ?1. (And 2 more.)"


async def test_good_pieces_are_recorded_and_bad_ones_kept_alone(stored: Stored, reprocessing: Reprocessing) -> None:
    """What held good and bad goes: the good are events, each bad piece is a row of its own with its source."""
    await stored.add_subscribed()
    made = await keep(stored, b"n1 ?2 n3 ?4")

    done = await reprocess(reprocessing, made)

    assert (done.outcome, done.events) == ("recorded", [event_id_of(b"n1"), event_id_of(b"n3")])
    assert done.reason == "The newer version does not know ?2. (And 1 more.)"
    assert set(await kept(stored)) == {b"?2", b"?4"}
    assert {row.source_id for row in await stored.rows("quarantine")} == {SOURCE}
    assert await stored.count("delivery") == 2


async def test_a_piece_with_the_id_of_the_whole_is_kept(stored: Stored) -> None:
    """Where a piece has all the bytes of what it was cut from, and the same reason, it is there afterwards."""
    made = await keep(stored, b"all")
    odd = Decoded(events=(make_event(1),), refusals=(Refusal(reason="Not known.", raw=b"all"),))

    done = await reprocess(Reprocessing(stored.database, stored.store, lambda *_, **__: odd), made)

    assert done.outcome == "recorded"
    assert await kept(stored) == {b"all": "Not known."}
    assert await stored.count("event") == 1


@pytest.mark.parametrize("said", [Decoded(), Decoded(is_test_event=True)], ids=["nothing", "a test event"])
async def test_what_says_nothing_leaves(stored: Stored, said: Decoded) -> None:
    """Bytes that turn out to hold no event, and nothing refused, are done with."""
    made = await keep(stored, b"[]")

    done = await reprocess(Reprocessing(stored.database, stored.store, lambda *_, **__: said), made)

    assert done == Reprocessed(outcome="recorded", events=[], reason=None)
    assert await kept(stored) == {}


async def test_the_profile_of_the_source_is_used(stored: Stored, reprocessing: Reprocessing, words: Words) -> None:
    """As it is now; a source that was deleted has none, and its bytes are decoded all the same."""
    await stored.add_source()
    await stored.execute(update(source).values(config={"profile": "minio"}))
    first, second = await keep(stored, b"n1"), await keep(stored, b"n2")

    await reprocess(reprocessing, first)
    await stored.execute(update(source).values(deleted_at=now()))
    await reprocess(reprocessing, second)

    assert words.profiles == ["minio", "auto"]
    assert await stored.count("event") == 2


async def test_other_tenants_things_are_not_there(stored: Stored, reprocessing: Reprocessing) -> None:
    """Neither to reprocess nor to discard."""
    made = await keep(stored, b"n1")

    done = await reprocessing.reprocess(STRANGER, made)
    async with stored.database.write() as connection:
        is_discarded = await discard(connection, STRANGER, made)

    assert done is None
    assert not is_discarded
    assert set(await kept(stored)) == {b"n1"}


async def test_an_event_the_database_refuses_stays(stored: Stored, reprocessing: Reprocessing) -> None:
    """It is refused with what the database said; nothing is lost, and asked again it says the same."""
    made = await keep(stored, b"d1")

    done, again = await reprocess(reprocessing, made), await reprocess(reprocessing, made)

    assert done == again
    assert (done.outcome, done.events) == ("refused", [])
    assert done.reason is not None
    assert done.reason.startswith("The database refused this record: ")
    assert await kept(stored) == {b"d1": done.reason}


async def test_events_the_database_refuses_among_good_ones(stored: Stored, reprocessing: Reprocessing) -> None:
    """They stay as their own rows; the others are recorded, each once, with what they owe."""
    await stored.add_subscribed()
    made = await keep(stored, b"n1 d2 n3 ?4 d5 n6 n7")

    done = await reprocess(reprocessing, made)

    assert done.events == [event_id_of(word) for word in (b"n1", b"n3", b"n6", b"n7")]
    assert set(await kept(stored)) == {b"d2", b"?4", b"d5"}
    assert [await stored.count(table) for table in ("event", "delivery")] == [4, 4]


async def test_postgresql_refuses_a_nul(stored_on_postgres: Stored) -> None:
    """Also when only the server finds the fault: what is tried leaves no trace and breaks no transaction."""
    odd = Decoded(events=(make_event(1), changed(make_event(2), actor="a\x00b", record=b"odd")))
    reprocessing = Reprocessing(stored_on_postgres.database, stored_on_postgres.store, lambda *_, **__: odd)
    made = await keep(stored_on_postgres, b"both")

    done = await reprocess(reprocessing, made)

    assert done.events == [make_event(1).id]
    assert set(await kept(stored_on_postgres)) == {b"odd"}


async def test_a_decoder_that_fails_loses_nothing(stored: Stored) -> None:
    """A bug is a reason like any other."""

    def decode(*_: object, **__: object) -> Decoded:
        raise RuntimeError("a bug")

    made = await keep(stored, b"x")

    done = await reprocess(Reprocessing(stored.database, stored.store, decode), made)

    assert (done.outcome, done.reason) == ("refused", "Decoding failed: RuntimeError.")
    assert set(await kept(stored)) == {b"x"}


async def test_a_failure_midway_undoes_all(stored: Stored, reprocessing: Reprocessing) -> None:
    """When the deliveries cannot be written there is no event either, and the bytes are still kept."""
    await stored.add_subscribed()
    made = await keep(stored, b"n1 ?2")
    await stored.execute(text("ALTER TABLE delivery RENAME TO delivery_away"))

    with pytest.raises(StoreUnavailable):
        await reprocessing.reprocess(DEFAULT_TENANT, made)

    await stored.execute(text("ALTER TABLE delivery_away RENAME TO delivery"))
    assert await kept(stored) == {b"n1 ?2": "Not known."}
    assert await stored.count("event") == 0
    assert (await reprocess(reprocessing, made)).outcome == "recorded"
    assert await stored.count("delivery") == 1


async def test_a_day_dropped_meanwhile_loses_nothing(stored_on_postgres: Stored, words: Words) -> None:
    """The event is filed under the sentinel day, with others of its thing that the database refuses or not."""
    reprocessing = Reprocessing(stored_on_postgres.database, stored_on_postgres.store, words)
    made = await keep(stored_on_postgres, b"n1 d2")
    await stored_on_postgres.store.record([heard(make_event(3))])
    await stored_on_postgres.execute(text(f"DROP TABLE event_{make_event(3).day:%Y%m%d}"))

    done = await reprocess(reprocessing, made)

    assert done.events == [event_id_of(b"n1")]
    assert await stored_on_postgres.scalar(select(event.c.event_day)) == SENTINEL


async def test_of_two_clicks_one_finds_it(stored: Stored, reprocessing: Reprocessing) -> None:
    """Several who reprocess one thing at once: one records it, the others find nothing, and it is owed once."""
    await stored.add_subscribed()
    made = [await keep(stored, f"n{number}".encode()) for number in range(5)]

    answers = await asyncio.gather(*(reprocessing.reprocess(DEFAULT_TENANT, each) for each in made for _ in range(4)))

    assert sum(each is not None for each in answers) == 5
    assert [await stored.count(table) for table in ("event", "delivery", "quarantine")] == [5, 5, 0]


async def test_reprocessed_or_discarded_but_never_both(stored: Stored, reprocessing: Reprocessing) -> None:
    """Who comes second finds nothing: what was discarded is no event, and what was recorded cannot be discarded."""

    async def throw_away(each: QuarantineId) -> bool:
        async with stored.database.write() as connection:
            return await discard(connection, DEFAULT_TENANT, each)

    made = [await keep(stored, f"n{number}".encode()) for number in range(10)]

    recorded, discarded = await asyncio.gather(
        asyncio.gather(*(reprocessing.reprocess(DEFAULT_TENANT, each) for each in made)),
        asyncio.gather(*(throw_away(each) for each in reversed(made))),
    )

    found = [each is not None for each in recorded]
    assert [not each for each in reversed(discarded)] == found
    assert await stored.count("event") == sum(found)
    assert await kept(stored) == {}


async def test_the_same_bytes_come_again_meanwhile(stored: Stored, reprocessing: Reprocessing) -> None:
    """An older replica that refuses them at the same moment keeps them again or before: they are never nowhere."""
    await stored.add_subscribed()
    raws = [f"n{number}".encode() for number in range(20)]
    made = {raw: await keep(stored, raw) for raw in raws}
    again = [heard(event_of(raw), refusals=[Refusal(reason="Not known.", raw=raw)]) for raw in raws]

    await asyncio.gather(
        *(reprocessing.reprocess(DEFAULT_TENANT, each) for each in made.values()),
        *(stored.store.record([again[number], again[(number + 7) % 20]]) for number in range(20)),
    )

    assert {row.record for row in await stored.rows("event")} == set(raws)
    assert await stored.count("delivery") == 20
    assert set(await kept(stored)) <= set(raws)


async def test_a_cancelled_reprocessing_can_be_repeated(stored: Stored, reprocessing: Reprocessing) -> None:
    """Wherever it is cut off, the bytes are in the quarantine or the events are recorded."""
    await stored.add_subscribed()
    made = await keep(stored, b"n1 d2 ?3")

    for steps in range(1, 40, 3):
        task = asyncio.create_task(reprocessing.reprocess(DEFAULT_TENANT, made))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await stored.count("event") or b"n1 d2 ?3" in await kept(stored)
    await reprocessing.reprocess(DEFAULT_TENANT, made)

    assert set(await kept(stored)) == {b"d2", b"?3"}
    assert [await stored.count(table) for table in ("event", "delivery")] == [1, 1]


async def test_refused_again_is_kept_no_longer(stored: Stored, reprocessing: Reprocessing) -> None:
    """The retention counts from when something last came, not from when somebody tried it."""
    made = await keep(stored, b"?1")
    await stored.execute(update(quarantine).values(last_seen_at=now(-40 * 86_400.0)))

    await reprocess(reprocessing, made)
    await Upkeep(stored.database).run_once()

    assert await kept(stored) == {}


async def test_what_was_discarded_may_come_again(stored: Stored) -> None:
    """The second time there is nothing to discard; the same bytes are kept anew when they come anew."""
    made = await keep(stored, b"?1")

    async with stored.database.write() as connection:
        answers = [await discard(connection, DEFAULT_TENANT, made) for _ in range(2)]

    assert answers == [True, False]
    assert await keep(stored, b"?1") == made


async def test_a_batch_with_poison_commits_its_good_at_once(stored: Stored) -> None:
    """Nine good messages and a bad one are one transaction: when the bad one is kept, the good are there and owed."""
    await stored.add_subscribed()
    poison = heard(refusals=[Refusal(reason="not JSON", raw=b"{")])
    good = [heard(make_event(number)) for number in range(9)]

    recorded = await stored.store.record([*good[:4], poison, *good[4:]])

    assert (recorded.events, recorded.deliveries, recorded.quarantined) == (9, 9, 1)
    if stored.database.dialect == "postgresql":
        tables = ("event", "delivery", "quarantine")
        transactions = {await _transactions_of(stored, table) for table in tables}
        assert len(transactions) == 1


async def test_poison_and_good_go_down_together(stored: Stored) -> None:
    """Where the quarantine cannot be written nothing is: the batch comes again whole."""
    await stored.execute(text("ALTER TABLE quarantine RENAME TO quarantine_away"))

    with pytest.raises(StoreError):
        await stored.store.record([heard(make_event(1), refusals=[Refusal(reason="not JSON", raw=b"{")])])

    assert await stored.count("event") == 0


async def _transactions_of(stored: Stored, table: str) -> Any:
    return await stored.scalar(text(f"SELECT DISTINCT CAST(xmin AS text) FROM {table}"))  # noqa: S608 -- names of ours
