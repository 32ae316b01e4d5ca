"""A store that pushes: it sends each object's changes in order and keeps a journal of every one that was acknowledged.

A change of an object is sent when the one before it was acknowledged, so "later" means what the gateway promises it of:
received after the earlier one was committed. What is not acknowledged is sent again, the same bytes.
"""

import asyncio
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.bed import s3_messages

BUCKET = "photos"
TIMEOUT = aiohttp.ClientTimeout(total=15)
PAUSE_SECONDS = 0.1


@dataclass(slots=True, kw_only=True)
class Change:
    """One change of an object: the how manieth, when it was first sent, and when it was acknowledged, if it was."""

    key: str
    number: int
    sent_at: float
    acknowledged_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0


class Producer:
    """Changes objects in turn, `rate` a second in all, `batch` to a request, at any of the replicas.

    `urls` gives the URLs of the source that may be asked at the moment.
    """

    def __init__(
        self, urls: Callable[[], Sequence[str]], token: str, keys: Sequence[str], *, rate: float, batch: int = 10
    ) -> None:
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self._free = deque(keys)
        self._numbers: Counter[str] = Counter()
        self._rate, self._batch = rate, batch
        self.changes: list[Change] = []
        self.tally = Tally()

    @property
    def acknowledged(self) -> list[Change]:
        """Give what the gateway said it has."""
        return [each for each in self.changes if each.acknowledged_at is not None]

    async def run(self, stop: asyncio.Event) -> None:
        """Send until stopped, then go on until all that was begun is acknowledged."""
        began_at = time.monotonic()
        async with (
            aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT) as session,
            asyncio.TaskGroup() as group,
        ):
            for turn in itertools.count(1):
                if stop.is_set():
                    return
                batch = [self._change(self._free.popleft()) for _ in range(min(self._batch, len(self._free)))]
                if batch:
                    self.changes += batch
                    group.create_task(self._push(session, batch))
                await asyncio.sleep(max(0.0, began_at + turn * self._batch / self._rate - time.monotonic()))

    async def run_for(self, seconds: float) -> None:
        """Send for a while."""
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await self.run(stop)

    def _change(self, key: str) -> Change:
        self._numbers[key] += 1
        return Change(key=key, number=self._numbers[key], sent_at=time.monotonic())

    async def _push(self, session: aiohttp.ClientSession, batch: Sequence[Change]) -> None:
        body = s3_messages.message(*(s3_messages.record(BUCKET, each.key, size=each.number) for each in batch))
        pause = 0.0
        while not await self._is_acknowledged(session, body, after=pause):
            pause = PAUSE_SECONDS
        now = time.monotonic()
        for each in batch:
            each.acknowledged_at = now
            self._free.append(each.key)

    async def _is_acknowledged(self, session: aiohttp.ClientSession, body: str, *, after: float) -> bool:
        await asyncio.sleep(after)
        urls = self._urls()
        if not urls:
            return False
        try:
            async with session.post(random.choice(urls), data=body) as answer:  # noqa: S311
                self.tally.statuses[answer.status] += 1
                return answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            self.tally.unanswered += 1
            return False
