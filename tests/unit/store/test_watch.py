"""The snapshot of the set-up follows the epoch, and survives a database that is away."""

import asyncio

from app.domain.configuration import Configuration
from app.domain.errors import StoreUnavailable
from app.store.watch import ConfigurationWatch


class FakeStore:
    """A set-up of which only the epoch matters."""

    def __init__(self) -> None:
        self.newest = 1
        self.is_away = False
        self.loads = 0

    async def epoch(self) -> int:
        """Give the newest epoch."""
        if self.is_away:
            raise StoreUnavailable
        return self.newest

    async def load(self) -> Configuration:
        """Give an empty set-up at the newest epoch."""
        self.loads += 1
        return Configuration(epoch=await self.epoch(), endpoints={}, subscriptions={}, sources={})


async def test_it_loads_only_when_the_epoch_moved() -> None:
    """A look that finds the same epoch loads nothing."""
    store = FakeStore()
    watch = ConfigurationWatch(store)

    await watch.refresh()
    await watch.refresh()
    store.newest = 2
    await watch.refresh()

    assert store.loads == 2
    assert watch.current().epoch == 2


async def test_a_hint_brings_the_next_look_at_once() -> None:
    """After a change in this process nobody waits for the next turn; an outage leaves the last snapshot."""
    store = FakeStore()
    watch = ConfigurationWatch(store)
    await watch.refresh()
    stop = asyncio.Event()
    running = asyncio.create_task(watch.run(stop))
    store.is_away = True
    watch.hint()
    await asyncio.sleep(0)
    store.is_away = False
    store.newest = 2

    watch.hint()
    async with asyncio.timeout(5):
        while watch.current().epoch != 2:  # noqa: ASYNC110 -- the watch gives no signal
            await asyncio.sleep(0)
    stop.set()
    watch.hint()
    await running

    assert watch.current().epoch == 2
