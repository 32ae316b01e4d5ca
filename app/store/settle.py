"""Settle: write down what tries gave. A few statements, however many deliveries and lanes.

Every move takes its row out of the outbox or changes it under a condition, and tells which rows it found: whatever is
settled twice, or by a replica that lost its lane, finds nothing and writes nothing.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningDelete

from app.domain.delivery import Owed, Settlement
from app.domain.ids import DeliveryKey, LaneId, ReplicaId
from app.store import high_water, history, lane_health, lanes, low_water, operator_events
from app.store.columns import FAR, now, one_of, one_of_named
from app.store.history import DEBT_COLUMNS, Attempt, Debt, debt_of
from app.store.in_order import unpark
from app.store.operator_events import Death
from app.store.outbox_schema import dead_letter, delivery


async def settle(
    connection: AsyncConnection, replica: ReplicaId, settlements: Sequence[Settlement], *, lease_seconds: float
) -> frozenset[LaneId]:
    """Write settlements down and prolong their leases; gives the lanes whose lease is lost."""
    claims = {(each.lease.lane_id, each.lease.fence): each.lease for each in settlements}
    ended = _ended_in_order(settlements)
    if ended:
        # Also those whose lease is lost: putting off and waking must not meet.
        await lanes.lock(connection, {each.lease.lane_id for each in settlements})
    successes = [each for each in settlements if each.verdict.status == "delivered"]
    held = await lanes.renew(
        connection,
        replica,
        list(claims.values()),
        lease_seconds=lease_seconds,
        ending=[each.owed.row_id for each in successes],
    )
    fenced = [each for each in settlements if (each.lease.lane_id, each.lease.fence) in held]
    health = {each.lease.lane_id: each.health for each in fenced if each.health is not None}
    if health:
        await lane_health.note_health(connection, health)
    delivered, places = await _succeed(connection, successes)
    attempts = [
        *delivered,
        *await _postpone(connection, [each for each in fenced if each.verdict.status == "pending"]),
        *await _give_up(connection, [each for each in fenced if each.verdict.status in ("dead", "cancelled")]),
    ]
    failures = [each for each in fenced if each.verdict.status != "delivered"]
    attempts += await _try_in_vain(connection, [*successes, *failures], attempts)
    await history.append(connection, attempts)
    await high_water.rise(connection, successes)
    await low_water.raise_numbers(connection, dict(sorted((each.lane_id, each.row_id) for each in ended)))
    let_go = {(each.lane_id, each.order_key) for each in ended if each.order_key is not None}
    owed_anew = places - let_go
    if owed_anew:
        # Known only now, and so out of turn: should a deadlock come of it, whoever meets it runs again.
        await lanes.lock(connection, {lane_id for lane_id, _ in owed_anew})
    await unpark(connection, let_go | owed_anew)
    return frozenset(lane_id for lane_id, _ in claims) - {lane_id for lane_id, _ in held}


def _ended_in_order(settlements: Sequence[Settlement]) -> Sequence[Owed]:
    """Give what may have got out of the way of what comes after it."""
    return [
        each.owed
        for each in settlements
        if each.owed.order_key is not None and each.verdict.status != "pending" and not each.blocks
    ]


async def _succeed(
    connection: AsyncConnection, settlements: Sequence[Settlement]
) -> tuple[list[Attempt], set[tuple[LaneId, int]]]:
    """Take out what was delivered, also from the dead letters: it is true whoever says so, and however late.

    Gives also from which lanes and order keys: what was owed anew meanwhile may stand under another one than was tried.
    """
    if not settlements:
        return [], set()
    # By key, not by row: a delivery that was owed anew meanwhile has another row.
    by_key = {each.owed.key: each for each in settlements}
    taken = list(await connection.execute(_take_out_statement(connection.dialect.name), {"keys": list(by_key)}))
    # One that blocks stands among the dead letters too, and ended there.
    debts = [debt_of(row) for row in taken if not row.blocks]
    missing = by_key.keys() - {debt.key for debt in debts}
    if missing:
        raised = await _raise_from_the_dead(connection, missing)
        await history.reopen(connection, raised)
        debts += raised
    places = {(LaneId(row.lane_id), row.order_key) for row in taken if row.order_key is not None}
    return [_attempt(by_key[debt.key], debt, ended="delivered") for debt in debts], places


@functools.cache
def _take_out_statement(dialect: str) -> ReturningDelete[*tuple[Any, ...]]:
    return (
        delete(delivery)
        .where(one_of_named(dialect, delivery.c.delivery_key, "keys"))
        .returning(delivery.c.blocks, delivery.c.lane_id, delivery.c.order_key, *DEBT_COLUMNS)
    )


async def _raise_from_the_dead(connection: AsyncConnection, keys: Iterable[DeliveryKey]) -> list[Debt]:
    taken = await connection.execute(
        delete(dead_letter)
        .where(one_of(connection, dead_letter.c.delivery_key, list(keys)))
        .returning(*(dead_letter.c[column.name] for column in DEBT_COLUMNS))
    )
    return [debt_of(row) for row in taken]


async def _postpone(connection: AsyncConnection, settlements: Sequence[Settlement]) -> list[Attempt]:
    """Make failed ones due again later. The number of tries must be as it was, so that settling twice counts once."""
    if not settlements:
        return []
    by_row = {each.owed.row_id: each for each in settlements}
    found = await connection.execute(
        select(delivery.c.id, *DEBT_COLUMNS)
        .where(one_of(connection, delivery.c.id, list(by_row)))
        .order_by(delivery.c.id)
        .with_for_update()
    )
    rows = [row for row in found if row.tries == by_row[row.id].owed.tries]
    if not rows:
        return []
    is_postgresql = connection.dialect.name == "postgresql"
    await connection.exec_driver_sql(
        _POSTPONE_POSTGRESQL if is_postgresql else _POSTPONE_SQLITE,
        [_postponed(row.id, by_row[row.id]) for row in rows],
    )
    tried = [row for row in rows if by_row[row.id].outcome is not None]
    return [_attempt(by_row[row.id], debt_of(row), ended=None) for row in tried]


async def _give_up(connection: AsyncConnection, settlements: Sequence[Settlement]) -> list[Attempt]:
    """Take out those that end without success, and keep the dead ones with their reason."""
    if not settlements:
        return []
    by_row = {each.owed.row_id: each for each in settlements}
    blocking = [row_id for row_id, each in by_row.items() if each.blocks]
    of_dead = (delivery.c.id, delivery.c.lane_id, delivery.c.order_key, *DEBT_COLUMNS)
    taken = await connection.execute(
        delete(delivery)
        .where(one_of(connection, delivery.c.id, [each for each in by_row if each not in blocking]))
        .returning(*of_dead)
    )
    rows = list(taken)
    if blocking:
        found = await connection.execute(
            select(*of_dead)
            .where(one_of(connection, delivery.c.id, blocking), delivery.c.blocks.is_(False))
            .with_for_update()
        )
        # One that was retried since it blocked is the same row: settled again, it has another number of tries.
        stay = [row for row in found if row.tries == by_row[row.id].owed.tries]
        await connection.execute(
            update(delivery)
            .where(one_of(connection, delivery.c.id, [row.id for row in stay]))
            .values(blocks=True, due_at=FAR, tries=delivery.c.tries + 1)
        )
        rows += stay
    dead = [_dead_row(row, by_row[row.id]) for row in rows if by_row[row.id].verdict.status == "dead"]
    await bury(connection, dead)
    return [_attempt(by_row[row.id], debt_of(row), ended=by_row[row.id].verdict.status) for row in rows]


async def _try_in_vain(
    connection: AsyncConnection, settlements: Iterable[Settlement], attempts: Sequence[Attempt]
) -> list[Attempt]:
    """Keep what was tried of deliveries that were cancelled meanwhile: their receivers have seen it."""
    heard = {each.debt.key for each in attempts}
    in_vain = []
    for each in settlements:
        if each.owed.key in heard or each.outcome is None:
            continue
        debt = await history.find_cancelled(connection, each.owed.endpoint_id, each.owed.key)
        # Settled twice, it is known already.
        if debt is not None and each.owed.tries >= debt.tries:
            in_vain.append(_attempt(each, replace(debt, tries=each.owed.tries), ended=None))
            heard.add(each.owed.key)
    return in_vain


async def bury(connection: AsyncConnection, dead: Sequence[Mapping[str, Any]]) -> None:
    """Put rows among the dead letters, and tell of those deaths who wants to hear."""
    if not dead:
        return
    choose = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # One delivery dies twice only when its event was filed under two days: the first death stands.
    buried = await connection.execute(
        choose(dead_letter).values(ended_at=now()).on_conflict_do_nothing().returning(dead_letter), list(dead)
    )
    await operator_events.tell_of_deaths(
        connection, [Death(debt=debt_of(row), reason=row.reason, at=row.ended_at) for row in buried]
    )


def _postponed(row_id: int, settlement: Settlement) -> tuple[int, int, float]:
    return row_id, int(settlement.outcome is not None), float(settlement.verdict.delay_seconds)


def _dead_row(row: Row[*tuple[Any, ...]], settlement: Settlement) -> dict[str, Any]:
    return {
        **{column.name: getattr(row, column.name) for column in DEBT_COLUMNS},
        "lane_id": row.lane_id,
        "order_key": row.order_key,
        "tries": row.tries + int(settlement.outcome is not None),
        "reason": settlement.verdict.reason or "exhausted",
    }


def _attempt(settlement: Settlement, debt: Debt, *, ended: str | None) -> Attempt:
    return Attempt(
        debt=debt,
        outcome=settlement.outcome,
        started_seconds_ago=settlement.started_seconds_ago,
        ended=ended,
        reason=settlement.verdict.reason if ended in ("dead", "cancelled") else None,
    )


_POSTPONE_POSTGRESQL: Final = """
UPDATE delivery SET tries = tries + $2::smallint, failures = failures + $2::smallint,
    due_at = clock_timestamp() + make_interval(secs => $3::float8)
WHERE id = $1
"""
_POSTPONE_SQLITE: Final = """
UPDATE delivery SET tries = tries + ?2, failures = failures + ?2,
    due_at = bucketpost_now() + CAST(?3 * 1000000 AS INTEGER)
WHERE id = ?1
"""
