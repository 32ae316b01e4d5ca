"""Idempotency records on both databases: whose a request is, for how long, and how the records go."""

from dataclasses import replace

from sqlalchemy import select, update

from app.domain.ids import DEFAULT_TENANT, TenantId
from app.store import idempotency, prune
from app.store.columns import now
from app.store.idempotency import Answered, Asked
from app.store.schema import idempotency_record
from app.store.upkeep import Upkeep
from tests.bed.stored import Stored

ASKED = Asked(tenant_id=DEFAULT_TENANT, key="k", request_hash=b"h" * 32)
FIRST = Answered(status=201, answer=b"first")
SECOND = Answered(status=200, answer=b"second")


async def look(stored: Stored, asked: Asked = ASKED) -> object:
    """Look in a transaction of its own."""
    async with stored.database.write() as connection:
        return await idempotency.look(connection, asked)


async def kept(stored: Stored) -> list[str]:
    """Give the keys that are remembered."""
    async with stored.database.read() as connection:
        its = idempotency_record.c
        return list((await connection.execute(select(its.key).order_by(its.key))).scalars())


async def test_a_request_is_new_until_its_answer_commits(stored: Stored) -> None:
    """What was rolled back never was; what was committed is answered, for this tenant and this request alone."""
    try:
        async with stored.database.write() as connection:
            await idempotency.keep(connection, ASKED, FIRST)
            raise RuntimeError  # noqa: TRY301 -- rolls back
    except RuntimeError:
        before = await look(stored)
    async with stored.database.write() as connection:
        await idempotency.keep(connection, ASKED, FIRST)

    others = (
        await look(stored, replace(ASKED, tenant_id=TenantId(2))),
        await look(stored, replace(ASKED, key="K")),
        await look(stored, replace(ASKED, request_hash=b"i" * 32)),
    )

    assert before == "new"
    assert await look(stored) == FIRST
    assert others == ("new", "new", "other_request")


async def test_a_request_is_one_replica_s_until_its_transaction_ends(stored_on_postgres: Stored) -> None:
    """Whoever else looks meanwhile is told at once, not made to wait; another key is not held up."""
    database = stored_on_postgres.database
    async with database.write() as first:
        mine = await idempotency.look(first, ASKED)
        theirs = await look(stored_on_postgres)
        other = await look(stored_on_postgres, replace(ASKED, key="other"))
        await idempotency.keep(first, ASKED, FIRST)
        still = await look(stored_on_postgres)

    assert (mine, theirs, other, still) == ("new", "in_progress", "new", "in_progress")
    assert await look(stored_on_postgres) == FIRST


async def test_a_try_that_was_taken_over_writes_nothing(stored: Stored) -> None:
    """The lease of the first has ended, a second one has begun: only the second completes or abandons it."""
    async with stored.database.write() as connection:
        first = await idempotency.begin(connection, ASKED, lease_seconds=-1)
    over = await look(stored)
    async with stored.database.write() as connection:
        second = await idempotency.begin(connection, ASKED, lease_seconds=60)
    async with stored.database.write() as connection:
        await idempotency.complete(connection, ASKED, first, FIRST)
        await idempotency.abandon(connection, ASKED, first)
    under_way = await look(stored)
    async with stored.database.write() as connection:
        await idempotency.complete(connection, ASKED, second, SECOND)

    assert (over, under_way) == ("new", "in_progress")
    assert await look(stored) == SECOND


async def test_records_past_the_retention_go_in_slices(stored: Stored) -> None:
    """Those an hour past the span go, however many; those an hour short of it stay."""
    count = prune.SLICE + 1
    async with stored.database.write() as connection:
        for number in range(count):
            await idempotency.keep(connection, replace(ASKED, key=f"old {number}"), FIRST)
        await connection.execute(update(idempotency_record).values(made_at=now(-25 * 3_600.0)))
        await idempotency.keep(connection, replace(ASKED, key="young"), FIRST)
        await connection.execute(
            update(idempotency_record).where(idempotency_record.c.key == "young").values(made_at=now(-23 * 3_600.0))
        )
    async with stored.database.write() as connection:
        slice_of = await prune.delete_old_idempotency_records(connection, 24)

    await Upkeep(stored.database, idempotency_hours=24).run_once()

    assert slice_of == prune.SLICE
    assert await kept(stored) == ["young"]


async def test_the_span_is_a_setting(stored: Stored) -> None:
    """With one hour a record of two hours is gone."""
    async with stored.database.write() as connection:
        await idempotency.keep(connection, ASKED, FIRST)
        await connection.execute(update(idempotency_record).values(made_at=now(-2 * 3_600.0)))

    await Upkeep(stored.database, idempotency_hours=1).run_once()

    assert await kept(stored) == []
