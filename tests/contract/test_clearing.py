"""Runs through the quarantine over both databases: each thing once, oldest first, in slices, and gone on with."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert

from app.domain.ids import DEFAULT_TENANT, QuarantineId, SourceId, TenantId
from app.domain.message import Refusal
from app.store.clearing import RUN_SECONDS, SLICE, Cleared, Run, discard_all, preview
from app.store.outbox_schema import quarantine
from app.store.quarantine import QuarantineFilter
from app.store.reprocess import Reprocessing
from tests.bed.rows import NOON
from tests.bed.stored import SOURCE, Stored, heard
from tests.bed.words import Words, event_id_of

STRANGER = TenantId(DEFAULT_TENANT + 1)
OTHER = SourceId(b"o" * 16)
ALL = Run(tenant_id=DEFAULT_TENANT, wanted=QuarantineFilter())


@pytest.fixture
def words() -> Words:
    """Give a decoder that got newer since things were put into the quarantine."""
    return Words(is_new=True)


@pytest.fixture
def reprocessing(stored: Stored, words: Words) -> Reprocessing:
    """Give what is under test."""
    return Reprocessing(stored.database, stored.store, words)


async def fill(stored: Stored, raws: Sequence[bytes], **fields: object) -> None:
    """Keep things, each a second after the one before."""
    first = await stored.count("quarantine")
    rows = [
        {
            "id": number.to_bytes(16, "big"),
            "tenant_id": DEFAULT_TENANT,
            "source_id": SOURCE,
            "reason": "Not known.",
            "raw": raw,
            "seen": 1,
            "first_seen_at": NOON + timedelta(seconds=number),
            "last_seen_at": NOON + timedelta(seconds=number),
            **fields,
        }
        for number, raw in enumerate(raws, start=first)
    ]
    async with stored.database.write() as connection:
        for start in range(0, len(rows), 1000):
            await connection.execute(insert(quarantine), rows[start : start + 1000])


async def kept(stored: Stored) -> set[bytes]:
    """Give what is in the quarantine."""
    return {row.raw for row in await stored.rows("quarantine")}


def hurried() -> Callable[[], float]:
    """Give a clock by which the time is over after each slice."""
    return itertools.count(0.0, RUN_SECONDS).__next__


async def test_a_run_reprocesses_everything_in_slices(stored: Stored, reprocessing: Reprocessing) -> None:
    """More than a slice, from the oldest to the newest; what is refused is come to once and left behind."""
    await stored.add_subscribed()
    raws = [f"{'?' if number % 10 == 0 else 'n'}{number}".encode() for number in range(2 * SLICE + 50)]
    await fill(stored, raws)

    cleared = await reprocessing.reprocess_all(ALL)

    refused = {raw for raw in raws if raw.startswith(b"?")}
    assert (cleared.gone, cleared.refused, cleared.remaining) == (len(raws) - len(refused), len(refused), 0)
    assert cleared.rest is None
    assert len(cleared.lanes) == 1
    assert await kept(stored) == refused
    assert [await stored.count(table) for table in ("event", "delivery")] == [cleared.gone, cleared.gone]


async def test_an_empty_quarantine_is_a_run_of_nothing(stored: Stored, reprocessing: Reprocessing) -> None:
    """Whatever is asked."""
    assert await reprocessing.reprocess_all(ALL) == Cleared()
    assert await discard_all(stored.database, ALL) == Cleared()
    assert await preview(stored.database, ALL) == 0


async def test_a_run_goes_on_past_what_was_refused(stored: Stored, words: Words, reprocessing: Reprocessing) -> None:
    """Each call goes on where the one before stopped, though all of it was refused; nothing is tried twice."""
    raws = [f"?{number}".encode() for number in range(2 * SLICE)] + [b"n1"]
    await fill(stored, raws)

    answers: list[Cleared] = []
    run = ALL
    while not answers or answers[-1].rest is not None:
        answers.append(await reprocessing.reprocess_all(run, clock=hurried()))
        run = replace(run, extent=answers[-1].rest)

    assert [(each.gone, each.refused, each.remaining) for each in answers] == [
        (0, SLICE, SLICE + 1),
        (0, SLICE, 1),
        (1, 0, 0),
    ]
    assert len(words.profiles) == len(raws)


async def test_a_run_covers_what_was_there_when_it_began(stored: Stored, reprocessing: Reprocessing) -> None:
    """Neither what comes in between its calls nor pieces that it split off itself are part of it."""
    await fill(stored, [b"n1 ?2"] + [f"?{number}".encode() for number in range(SLICE + 10, 2 * SLICE + 10)])

    first = await reprocessing.reprocess_all(ALL, clock=hurried())
    await stored.store.record([heard(refusals=[Refusal(reason="Not known.", raw=b"n99")])])
    second = await reprocessing.reprocess_all(replace(ALL, extent=first.rest))

    assert (first.gone, first.refused, first.remaining) == (1, SLICE - 1, 1)
    assert (second.gone, second.refused, second.remaining, second.rest) == (0, 1, 0, None)
    assert {b"?2", b"n99"} <= await kept(stored)


async def test_a_run_takes_what_its_filter_says(stored: Stored, reprocessing: Reprocessing) -> None:
    """By source, by a part of the reason, by when it first came; and never what is another tenant's."""
    await fill(stored, [b"n0", b"n1"])
    await fill(stored, [b"n2", b"n3"], source_id=OTHER)
    await fill(stored, [b"n4", b"n5"], reason="100% NOT_a thing")
    await fill(stored, [b"n6"], tenant_id=STRANGER)
    filters = {
        "source": QuarantineFilter(source_id=OTHER, since=NOON + timedelta(seconds=3)),
        "reason": QuarantineFilter(reason="0% not_A"),
        "no wildcard": QuarantineFilter(reason="not%known"),
        "no wildcard either": QuarantineFilter(reason="not_known"),
        "until": QuarantineFilter(until=NOON + timedelta(seconds=1)),
    }

    previews = {name: await preview(stored.database, replace(ALL, wanted=each)) for name, each in filters.items()}
    for each in filters.values():
        await reprocessing.reprocess_all(replace(ALL, wanted=each))

    assert previews == {"source": 1, "reason": 2, "no wildcard": 0, "no wildcard either": 0, "until": 1}
    assert await kept(stored) == {b"n1", b"n2", b"n6"}
    assert await preview(stored.database, ALL) == 2
    assert (await discard_all(stored.database, ALL)).gone == 2
    assert await kept(stored) == {b"n6"}


async def test_a_slice_with_events_the_database_refuses(stored: Stored, reprocessing: Reprocessing) -> None:
    """Its neighbours are recorded, and the refused ones stay: wholly, or as pieces."""
    await stored.add_subscribed()
    await fill(stored, [b"n1", b"d2", b"n3 d4 n5", b"?6", b"n7"])

    cleared = await reprocessing.reprocess_all(ALL)

    assert (cleared.gone, cleared.refused, cleared.remaining) == (3, 2, 0)
    assert len(cleared.lanes) == 1
    assert await kept(stored) == {b"d2", b"d4", b"?6"}
    assert {row.record for row in await stored.rows("event")} == {b"n1", b"n3", b"n5", b"n7"}
    assert await stored.count("delivery") == 4


async def test_a_slice_holds_so_many_bytes(stored: Stored, words: Words) -> None:
    """What is read at once is bounded; a thing larger than the bound is a slice for itself, and nothing is left out."""
    reprocessing = Reprocessing(stored.database, stored.store, words, slice_bytes=10)
    await fill(stored, [b"n1", b"n2" + b" " * 50, b"n3", b"n4", b"n5"])

    first = await reprocessing.reprocess_all(ALL, clock=hurried())
    rest = await reprocessing.reprocess_all(replace(ALL, extent=first.rest))

    assert (first.gone, first.remaining) == (1, 4)
    assert (rest.gone, rest.remaining) == (4, 0)
    assert len(words.profiles) == 5


async def test_decoding_that_takes_long_ends_its_slice(stored: Stored, words: Words) -> None:
    """What was decoded by then is recorded, and the run goes on with the next; none is passed over."""
    reprocessing = Reprocessing(stored.database, stored.store, words, slice_seconds=0.0)
    await fill(stored, [b"n1", b"?2", b"n3"])

    first = await reprocessing.reprocess_all(ALL, clock=hurried())
    rest = await reprocessing.reprocess_all(replace(ALL, extent=first.rest))

    assert (first.gone, first.refused, first.remaining) == (1, 0, 2)
    assert (rest.gone, rest.refused, rest.remaining) == (1, 1, 0)
    assert len(words.profiles) == 3


async def test_things_that_go_meanwhile_are_not_counted(stored: Stored) -> None:
    """A thing that somebody else dealt with between the look and the work is nobody's twice."""
    await fill(stored, [b"n1", b"n2"])
    reprocessing = Reprocessing(stored.database, stored.store, Words(is_new=True))

    both = await asyncio.gather(reprocessing.reprocess_all(ALL), reprocessing.reprocess_all(ALL))

    assert sum(each.gone for each in both) == 2
    assert await stored.count("event") == 2


async def test_runs_beside_each_other_and_beside_what_comes_in(stored: Stored, reprocessing: Reprocessing) -> None:
    """Two runs, single ones and batches that refuse the same bytes again: everything is recorded, and owed once."""
    await stored.add_subscribed()
    raws = [f"n{number}".encode() for number in range(SLICE + 40)]
    batch = [heard(refusals=[Refusal(reason="Not known.", raw=raw)]) for raw in raws]
    await stored.store.record(batch)
    ids = [QuarantineId(row.id) for row in await stored.rows("quarantine")]

    await asyncio.gather(
        reprocessing.reprocess_all(ALL),
        reprocessing.reprocess_all(ALL),
        *(reprocessing.reprocess(DEFAULT_TENANT, each) for each in ids[::30]),
        *(stored.store.record(batch[start::5][::-1]) for start in range(5)),
    )
    await reprocessing.reprocess_all(ALL)

    assert await kept(stored) == set()
    assert [await stored.count(table) for table in ("event", "delivery")] == [len(raws), len(raws)]


async def test_a_run_discards_in_slices_and_goes_on(stored: Stored) -> None:
    """As many as a slice holds by each look at the clock; counted only, nothing goes."""
    await fill(stored, [f"n{number}".encode() for number in range(2 * SLICE + 1)])

    counted = await preview(stored.database, ALL)
    first = await discard_all(stored.database, ALL, clock=hurried())
    second = await discard_all(stored.database, replace(ALL, extent=first.rest))

    assert counted == 2 * SLICE + 1
    assert (first.gone, first.remaining) == (SLICE, SLICE + 1)
    assert (second.gone, second.remaining, second.rest) == (SLICE + 1, 0, None)
    assert await kept(stored) == set()
    assert await stored.count("event") == 0


async def test_a_run_that_ends_with_its_time_says_that_it_is_over(stored: Stored) -> None:
    """When nothing remains there is nothing to go on with, even if the clock stopped it."""
    await fill(stored, [b"n1"])

    cleared = await discard_all(stored.database, ALL, clock=hurried())

    assert (cleared.gone, cleared.remaining, cleared.rest) == (1, 0, None)


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_ever_lost(stored: Stored, seed: int) -> None:
    """Whatever comes, is tried again, in whichever order and version: each word is an event or in the quarantine."""
    chance = random.Random(seed)  # noqa: S311 -- repeatable, no secret
    words = Words()
    reprocessing = Reprocessing(stored.database, stored.store, words)
    await stored.add_subscribed()
    said: set[bytes] = set()

    async def hear() -> None:
        raw = b" ".join(f"{chance.choice('ennnd?')}{chance.randrange(12)}".encode() for _ in range(chance.randrange(5)))
        said.update(raw.split())
        whole = chance.random() < 0.5
        refusals = [Refusal(reason="Not known.", raw=raw)] if whole else words(raw, tenant_id=DEFAULT_TENANT).refusals
        events = () if whole else words(raw, tenant_id=DEFAULT_TENANT).events
        await stored.store.record([heard(*(each for each in events if each.size != 2**70), refusals=refusals)])
        if not whole:
            said.difference_update(each.record for each in events if each.size == 2**70)

    async def one() -> None:
        ids = [row.id for row in await stored.rows("quarantine", "id")]
        if ids:
            await reprocessing.reprocess(DEFAULT_TENANT, QuarantineId(chance.choice(ids)))

    async def everything() -> None:
        await reprocessing.reprocess_all(ALL)

    for _ in range(25):
        await chance.choice([hear, hear, one, everything])()
        words.is_new = words.is_new or chance.random() < 0.05
        recorded = {row.id for row in await stored.rows("event")}
        left = {word for raw in await kept(stored) for word in raw.split()}
        lost = {word for word in said - left if word[:1] in b"?" or event_id_of(word) not in recorded}
        assert lost == set()
    words.is_new = True
    await everything()

    assert {word[:1] for raw in await kept(stored) for word in raw.split()} <= {b"?", b"d"}
    owed = [row.event_id for row in await stored.rows("delivery")]
    assert sorted(owed) == sorted(row.id for row in await stored.rows("event"))


async def test_an_id_bound_is_in_the_order_of_places(stored: Stored) -> None:
    """Things that came in the same microsecond are told apart by their id, also where a run is cut between them."""
    await fill(stored, [f"n{number}".encode() for number in range(SLICE + 5)], first_seen_at=NOON)

    first = await discard_all(stored.database, ALL, clock=hurried())
    left = {QuarantineId(row.id) for row in await stored.rows("quarantine")}
    second = await discard_all(stored.database, replace(ALL, extent=first.rest))

    assert left == {number.to_bytes(16, "big") for number in range(SLICE, SLICE + 5)}
    assert (first.remaining, second.gone) == (5, 5)
