"""Which endpoints the sweep disables over both databases: those whose attempts all failed for days, and no others."""

from dataclasses import replace
from typing import Final

import pytest
from sqlalchemy import update

from app.domain.delivery import Health
from app.domain.ids import DEFAULT_TENANT, EndpointId
from app.store import endpoints
from app.store.columns import now
from app.store.epoch import lock_changes
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import lane
from tests.bed.stored import Stored, failed, heard, make_event, only_lease, owed_by

DAY: Final = 86_400.0


async def fail_one(stored: Stored, outbox: SqlOutbox, number: int) -> None:
    """Let an event come, and fail under a lease of its own."""
    await stored.store.record([heard(make_event(number))])
    await outbox.sweep()
    lease = await only_lease(outbox)
    *_, owed = await owed_by(outbox, lease)
    health = Health(failures=lease.health.failures + 1)
    await outbox.settle([replace(failed(lease, owed, delay_seconds=9 * DAY), health=health)])
    await outbox.release([lease])


async def pass_days(stored: Stored, days: float) -> None:
    """Let days pass for how lanes fared."""
    moved = {name: now(-days * DAY) for name in ("failing_since", "last_failed_at")}
    await stored.execute(update(lane).where(lane.c.failing_since.is_not(None)).values(**moved))


async def reasons(stored: Stored) -> list[str | None]:
    """Give why endpoints are disabled."""
    return [row.disabled_reason for row in await stored.rows("endpoint", "created_at")]


async def test_an_endpoint_that_failed_for_days_is_disabled(stored: Stored) -> None:
    """With the reason; its lane is leased no more, and one that failed for less is left alone."""
    await stored.add_subscribed()
    await stored.add_subscribed()
    first, second = await stored.rows("lane", "id")
    await stored.store.record([heard(make_event(1))])
    for row, days in ((first, 5.1), (second, 4.9)):
        failing = {"failing_since": now(-days * DAY), "last_failed_at": now(-1.0)}
        await stored.execute(update(lane).where(lane.c.id == row.id).values(**failing))
    outbox = stored.outbox()

    await outbox.sweep()

    disabled = {row.id: row.disabled_reason for row in await stored.rows("endpoint", "id")}
    assert disabled == {first.endpoint_id: "Every attempt failed for 5 days.", second.endpoint_id: None}
    assert [each.lane_id for each in await outbox.lease(10)] == [second.id]


async def test_failures_day_after_day_disable(stored: Stored) -> None:
    """A day between them does not make two failures one of two troubles."""
    await stored.add_subscribed()
    outbox = stored.outbox()
    await fail_one(stored, outbox, 1)
    for number in (2, 3, 4):
        # As if all of it had been a day and a half earlier.
        await stored.execute(
            update(lane).values(failing_since=now(-1.5 * DAY * (number - 1)), last_failed_at=now(-1.5 * DAY))
        )
        await fail_one(stored, outbox, number)
    await stored.execute(update(lane).values(failing_since=now(-5.1 * DAY)))

    await outbox.sweep()

    assert await reasons(stored) == ["Every attempt failed for 5 days."]


async def test_a_look_after_a_failure_and_silence_disables_nothing(stored: Stored) -> None:
    """Its lane is leased for what comes after days, and a sweep passes before that is tried."""
    await stored.add_subscribed()
    outbox = stored.outbox()
    await fail_one(stored, outbox, 1)
    await pass_days(stored, 6)
    await stored.store.record([heard(make_event(2))])

    await outbox.sweep()
    lease = await only_lease(outbox)
    await outbox.sweep()

    assert lease.health.failures == 1
    assert await reasons(stored) == [None]


async def test_a_failure_after_a_failure_and_silence_is_a_new_trouble(stored: Stored) -> None:
    """Nobody asked in between, so nothing is known of those days."""
    await stored.add_subscribed()
    outbox = stored.outbox()
    await fail_one(stored, outbox, 1)
    await pass_days(stored, 6)

    await fail_one(stored, outbox, 2)
    await outbox.sweep()

    assert await reasons(stored) == [None]


@pytest.mark.parametrize("days", [1.0, 6.0])
async def test_a_pause_for_repair_is_no_failing(stored: Stored, days: float) -> None:
    """Neither while it lasts nor when it ends: a resumed endpoint starts from a clean slate, and at once."""
    lane_id, _ = await stored.add_subscribed()
    outbox = stored.outbox()
    await fail_one(stored, outbox, 1)
    await stored.execute(update(lane).values(failing_since=now(-4.5 * DAY), breaker_until=now(600.0)))
    endpoint_id = EndpointId((await stored.rows("endpoint"))[0].id)

    await pause(stored, endpoint_id, is_paused=True)
    past = {"failing_since": now(-(4.5 + days) * DAY), "last_failed_at": now(-days * DAY)}
    await stored.execute(update(lane).values(**past))
    await outbox.sweep()
    await pause(stored, endpoint_id, is_paused=False)
    await fail_one(stored, outbox, 2)
    await outbox.sweep()

    assert await reasons(stored) == [None]
    assert [row.failures for row in await stored.rows("lane") if row.id == lane_id] == [1]


async def pause(stored: Stored, endpoint_id: EndpointId, *, is_paused: bool) -> None:
    """Pause an endpoint, or let it go on, as the API does."""
    async with stored.database.write() as connection:
        await lock_changes(connection)
        found = await endpoints.find(connection, DEFAULT_TENANT, endpoint_id)
        assert found is not None
        await endpoints.change(connection, replace(found, is_paused=is_paused))
