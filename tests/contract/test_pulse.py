"""How sources fare, over both databases: what replicas measured is joined while it is fresh, and forgotten later."""

import asyncio

from sqlalchemy import update

from app.domain.ids import ReplicaId, SourceId
from app.domain.message import QueueMeasure
from app.domain.pulse import Pulse
from app.store.columns import now
from app.store.outbox_schema import pulse
from app.store.pulse import Fare, SqlPulseStore, read_fares
from app.store.upkeep import Upkeep
from tests.bed.rows import add_quarantined
from tests.bed.stored import Stored

ONE, TWO, THREE = (SourceId(bytes([number]) * 16) for number in (1, 2, 3))


def _replica(stored: Stored, number: int) -> SqlPulseStore:
    return SqlPulseStore(stored.database, ReplicaId(bytes([number]) * 16))


def _queue(depth: int, oldest_seconds: float | None = None) -> QueueMeasure:
    return QueueMeasure(depth=depth, in_flight=depth + 1, delayed=depth + 2, oldest_seconds=oldest_seconds)


async def _fares(stored: Stored, *sources: SourceId) -> dict[SourceId, Fare]:
    async with stored.database.read() as connection:
        return dict(await read_fares(connection, sources))


async def _pulses(stored: Stored, *sources: SourceId) -> list[Pulse]:
    return [each.pulse for each in (await _fares(stored, *sources)).values()]


async def test_a_pulse_reads_back_as_it_was_noted(stored: Stored) -> None:
    """With a queue and without; of a source nobody measured there is none."""
    measured = [
        Pulse(source_id=ONE, events_per_second=1.25, lag_seconds=0.5, queue=_queue(3, 9.5)),
        Pulse(source_id=TWO, events_per_second=2.5),
    ]

    await _replica(stored, 1).note(measured)

    assert await _pulses(stored, ONE, TWO, THREE) == [*measured, Pulse(source_id=THREE)]
    assert await _fares(stored) == {}


async def test_a_newer_pulse_takes_the_place_of_the_older(stored: Stored) -> None:
    """All of it, also what is no more."""
    replica = _replica(stored, 1)
    await replica.note([Pulse(source_id=ONE, events_per_second=9, lag_seconds=1, queue=_queue(3, 9.5))])

    await replica.note([Pulse(source_id=ONE, events_per_second=1)])

    assert await _pulses(stored, ONE) == [Pulse(source_id=ONE, events_per_second=1)]
    assert await stored.count("pulse") == 1


async def test_what_replicas_measured_is_joined(stored: Stored) -> None:
    """Rates add up, the worst lag holds, and a queue that several looked at is as the newest look found it."""
    await _replica(stored, 1).note([Pulse(source_id=ONE, events_per_second=1, lag_seconds=7, queue=_queue(100, 4.0))])
    await _replica(stored, 2).note([Pulse(source_id=ONE, events_per_second=2, lag_seconds=3, queue=_queue(90, 2.0))])
    await _replica(stored, 3).note([Pulse(source_id=ONE, events_per_second=4)])

    assert await _pulses(stored, ONE) == [
        Pulse(source_id=ONE, events_per_second=7, lag_seconds=7, queue=_queue(90, 4.0))
    ]


async def test_a_replica_that_went_silent_counts_no_more(stored: Stored) -> None:
    """After fifteen seconds, and at once when it says that it leaves."""
    await _replica(stored, 1).note([Pulse(source_id=ONE, events_per_second=1)])
    await stored.execute(update(pulse).values(seen_at=now(-16.0)))
    await _replica(stored, 2).note([Pulse(source_id=ONE, events_per_second=2)])
    leaving = _replica(stored, 3)
    await leaving.note([Pulse(source_id=ONE, events_per_second=4)])

    with_leaving = await _pulses(stored, ONE)
    await leaving.leave()
    without = await _pulses(stored, ONE)

    assert [each.events_per_second for each in (*with_leaving, *without)] == [6, 2]


async def test_the_upkeep_forgets_what_dead_replicas_left(stored: Stored) -> None:
    """Rows of replicas silent for an hour go, those of the living stay."""
    await _replica(stored, 1).note([Pulse(source_id=ONE, events_per_second=1)])
    await stored.execute(update(pulse).values(seen_at=now(-3601.0)))
    await _replica(stored, 2).note([Pulse(source_id=ONE, events_per_second=2)])

    await Upkeep(stored.database).run_once()

    assert [row.events_per_second for row in await stored.rows("pulse")] == [2]


async def test_many_sources_and_absurd_figures_are_noted(stored: Stored) -> None:
    """More than one statement holds, from replicas at once; a depth beyond the column is as good as its largest."""
    sources = [SourceId(number.to_bytes(16, "big")) for number in range(1200)]
    absurd = QueueMeasure(depth=10**15, in_flight=10**15, delayed=0, oldest_seconds=None)
    pulses = [Pulse(source_id=each, events_per_second=1, queue=absurd) for each in sources]

    await asyncio.gather(*(_replica(stored, number).note(pulses) for number in (1, 2)))

    fares = await _fares(stored, *sources[:500])
    assert {each.pulse.events_per_second for each in fares.values()} == {2}
    assert {each.pulse.queue.depth for each in fares.values() if each.pulse.queue} == {2**31 - 1}
    assert await stored.count("pulse") == 2400


async def test_what_is_in_quarantine_is_counted_by_source(stored: Stored) -> None:
    """Each source its own, none where nothing is."""
    async with stored.database.write() as connection:
        for number, source_id in enumerate((ONE, ONE, THREE)):
            await add_quarantined(connection, number, source_id=source_id)

    fares = await _fares(stored, ONE, TWO)

    assert {source_id: fare.quarantined for source_id, fare in fares.items()} == {ONE: 2, TWO: 0}
