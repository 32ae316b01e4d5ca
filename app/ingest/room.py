"""How much may be held at once, in messages and bytes. Who waits for room does so here."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from app.domain.message import Message

# What one source may hold until it is recorded or acknowledged: whoever floods it or hangs fills only this.
SOURCE_MESSAGES: Final = 1000
SOURCE_BYTES: Final = 32 * 1024 * 1024


class Room:
    """A bound that is looked at before a poll: what one poll brings may go over it, and no further."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        """Start empty."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages = 0
        self._bytes = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def is_free(self) -> bool:
        """Tell whether another poll may start."""
        return self._free.is_set()

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is held."""
        return self._messages == 0

    async def free(self) -> None:
        """Wait until another poll may start."""
        await self._free.wait()

    def hold(self, messages: Sequence[Message]) -> "Hold":
        """Count messages in, until they are released."""
        return Hold(self, len(messages), sum(len(message.body) for message in messages))

    def add(self, messages: int, size: int) -> None:
        """Change what is held; `hold` and its release are the way to do it."""
        self._messages += messages
        self._bytes += size
        if self._messages < self._max_messages and self._bytes < self._max_bytes:
            self._free.set()
        else:
            self._free.clear()


class Hold:
    """Messages counted into a room."""

    def __init__(self, room: Room, messages: int, size: int) -> None:
        """Count them in."""
        self._room: Room | None = room
        self._messages = messages
        self._size = size
        room.add(messages, size)

    def release(self) -> None:
        """Count them out; a second time does nothing."""
        room, self._room = self._room, None
        if room is not None:
            room.add(-self._messages, -self._size)


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
