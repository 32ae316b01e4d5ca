"""What becomes of a batch that the database refuses. When batches are made is in test_recorder.py."""

import pytest

from app.domain.errors import StoreUnavailable
from app.domain.ids import DEFAULT_TENANT
from app.domain.message import Decoded, Heard, Refusal
from app.ingest.bisection import record_good
from tests.unit.ingest.parts import FakeStore, decode, source


def _heard(*bodies: str) -> list[Heard]:
    return [
        Heard(source_id=source().id, tenant_id=DEFAULT_TENANT, decoded=decode(body.encode(), tenant_id=DEFAULT_TENANT))
        for body in bodies
    ]


async def test_a_good_batch_is_one_transaction() -> None:
    """Nothing is split that is not refused."""
    store = FakeStore([])

    recorded, hopeless = await record_good(store.record, _heard("a", "b c"))

    assert (recorded.events, len(store.batches), hopeless) == (3, 1, [])


async def test_one_offender_among_many_is_quarantined_alone() -> None:
    """Every neighbour is recorded, and finding the offender takes about two transactions per halving."""
    store = FakeStore([])
    words = [f"word{number}" for number in range(500)]
    words[317] = "bad!"

    recorded, hopeless = await record_good(store.record, _heard(*words))

    assert store.committed == [word for word in words if word != "bad!"]
    assert [each.raw for each in store.quarantine] == [b"bad!"]
    assert (recorded.events, recorded.quarantined, hopeless) == (499, 1, [])
    assert len(store.batches) <= 2 * 9 + 2


async def test_one_offender_within_a_message_is_quarantined_alone() -> None:
    """The other records of its message are recorded, its refusals kept, and the reason is the database's, printable."""
    store = FakeStore([])

    recorded, _ = await record_good(store.record, _heard("a b bad! ?odd c"))

    assert sorted(store.committed) == ["a", "b", "c"]
    assert store.quarantine == [
        Refusal(reason="The database refused this record: a NUL\\x00 in it", raw=b"bad!"),
        Refusal(reason="?odd", raw=b"?odd"),
    ]
    assert recorded.lanes == {1}


async def test_a_refusal_whose_words_are_refused_is_kept_in_plain_ones() -> None:
    """A reason that the database does not take is written in ASCII."""
    store = FakeStore([])
    seen: list[str] = []

    async def record(batch: list[Heard]) -> object:
        reason = batch[0].decoded.refusals[0].reason
        seen.append(reason)
        if not reason.isascii() or "\0" in reason:
            batch = _heard("refused!")
        return await store.record(batch)

    heard = Heard(
        source_id=source().id,
        tenant_id=DEFAULT_TENANT,
        decoded=Decoded(refusals=(Refusal(reason="b\xe4d\0", raw=b"x"),)),
    )
    _, hopeless = await record_good(record, [heard])  # type: ignore[arg-type]  # a fake in front of a fake

    assert seen == ["b\xe4d\0", "b\\xe4d\\x00"]
    assert hopeless == []


async def test_what_cannot_even_be_quarantined_is_named() -> None:
    """It is given back as hopeless, for its message must not be acknowledged; its neighbours are recorded."""
    store = FakeStore([])
    heard = _heard("a", "b ?worse!! c", "d")

    _, hopeless = await record_good(store.record, heard)

    assert sorted(store.committed) == ["a", "b", "c", "d"]
    assert [each for each, _ in hopeless] == [heard[1]]


async def test_a_store_that_goes_away_is_not_a_refusal() -> None:
    """The error comes through: nothing is split and nothing quarantined."""
    store = FakeStore([])
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await record_good(store.record, _heard("a", "b"))

    assert store.quarantine == []
