"""How much may be held at once."""

import asyncio

import pytest

from app.ingest.room import Room, first_of
from tests.unit.ingest.parts import message


@pytest.mark.parametrize("bodies", [("a", "b"), ("0123456789",)])
async def test_a_room_is_full_by_messages_or_by_bytes(bodies: tuple[str, ...]) -> None:
    """Either bound is enough; who waits goes on when enough is released."""
    room = Room(max_messages=2, max_bytes=10)
    hold = room.hold([message(body) for body in bodies])
    was_free = room.is_free
    waiting = asyncio.create_task(room.free())

    hold.release()
    await waiting

    assert not was_free
    assert room.is_free
    assert room.is_empty


def test_releasing_twice_counts_once() -> None:
    """A second release takes nothing that others hold."""
    room = Room(max_messages=2, max_bytes=10)
    first, _second = room.hold([message("a")]), room.hold([message("b")])

    first.release()
    first.release()

    assert not room.is_empty


async def test_the_first_to_end_ends_the_wait() -> None:
    """The others are cancelled, and have ended too when the wait is over."""
    ended: list[str] = []
    event = asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("never")

    event.set()
    await first_of(never(), event.wait())

    assert ended == ["never"]
