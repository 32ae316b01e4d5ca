"""A destination that does what a test says, and keeps what it saw: batches, sends at once, and who sent what."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome

DELIVERED = Outcome(kind="delivered", latency_seconds=0.01, status_code=200)
# What no destination gives; whoever takes it for an outcome breaks.
NONSENSE = Outcome(kind="delivered", latency_seconds=None, status_code=200)  # type: ignore[arg-type]
FAILED = Outcome(kind="answered", latency_seconds=0.01, status_code=503)


def delivered(_owed: Owed) -> Outcome:
    """Answer 200 to all."""
    return DELIVERED


class FakeDestination:
    """`answer` tells what each delivery gives; a closed gate holds sends until it is opened."""

    def __init__(
        self, *, batch_limit: int = 1, answer: Callable[[Owed], Outcome] = delivered, takes_seconds: float = 0.01
    ) -> None:
        """Take the size of a batch, what sends give, and how long they take."""
        self._batch_limit = batch_limit
        self.answer = answer
        self.takes_seconds = takes_seconds
        self.gate = asyncio.Event()
        self.gate.set()
        self.holds: Callable[[Owed], bool] = lambda _: True
        self.batches: list[list[Owed]] = []
        self.endpoints: list[Endpoint] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.is_closed = False

    @property
    def batch_limit(self) -> int:
        """See the port."""
        return self._batch_limit

    @property
    def started(self) -> Counter[bytes]:
        """Count the sends of each delivery, by its key."""
        return Counter(owed.key for batch in self.batches for owed in batch)

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """See the port."""
        self.batches.append(list(batch))
        self.endpoints.append(endpoint)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.takes_seconds)
            if any(map(self.holds, batch)):
                await self.gate.wait()
            outcomes = [self.answer(owed) for owed in batch]
        finally:
            self.in_flight -= 1
        return outcomes

    async def aclose(self) -> None:
        """See the port."""
        self.is_closed = True
