"""A list that grows while others wait for it: what receivers and consumers heard, in that order."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Journal(Generic[Entry]):
    """Entries in order of arrival; nothing is ever left out, merged or removed. For one event loop."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._waiting: set[asyncio.Event] = set()

    def append(self, entry: Entry) -> None:
        """Add an entry and wake everybody who waits."""
        self.entries.append(entry)
        for event in self._waiting:
            event.set()

    async def wait_for(self, wanted: int | Callable[[Sequence[Entry]], bool], *, within: float = 10) -> Sequence[Entry]:
        """Wait until there are that many entries or the condition holds, and give all there are.

        TimeoutError past the time, with the last entries in its message.
        """
        woken = asyncio.Event()
        self._waiting.add(woken)
        try:
            async with asyncio.timeout(within):
                while not self._fulfils(wanted):
                    woken.clear()
                    await woken.wait()
        except TimeoutError as error:
            seen = "\n".join(repr(entry)[:500] for entry in self.entries[-5:])
            raise TimeoutError(f"{len(self.entries)} entries in {within} s; the last are\n{seen}") from error
        finally:
            self._waiting.discard(woken)
        return tuple(self.entries)

    def _fulfils(self, wanted: int | Callable[[Sequence[Entry]], bool]) -> bool:
        return len(self.entries) >= wanted if isinstance(wanted, int) else wanted(self.entries)
