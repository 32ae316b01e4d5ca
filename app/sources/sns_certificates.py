"""The keys that SNS signs with, by the URL of their certificate: fetched once, kept for a while, in bounded number."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.domain.errors import Forged, SourceError
from app.domain.ports import Now
from app.sources.sns_place import Place
from app.sources.sns_x509 import Certified, Roots, certify

KEPT_FOR: Final = timedelta(hours=24)
# A forger can name any number of files at SNS: each is asked for once in this time.
REFUSED_FOR: Final = timedelta(minutes=5)
# Shorter than the 20 s after which SNS tries again.
UNKNOWN_FOR: Final = timedelta(seconds=5)
MOST_KEPT: Final = 64
MOST_REFUSED: Final = 256
MOST_UNDER_WAY: Final = 16

Fetch = Callable[[Place], Awaitable[bytes]]
"""Give the bytes at a place. Raises Forged when there is nothing, SourceError when that cannot be told for now."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    error: type[Forged | SourceError]
    text: str
    until: datetime


class Certificates:
    """Gives the key of a place's certificate; all who ask for one at a time share one fetch."""

    def __init__(self, *, fetch: Fetch, roots: Roots, now: Now) -> None:
        """Take what fetches, what a chain may end in, and the clock."""
        self._fetch = fetch
        self._roots = roots
        self._now = now
        self._kept: dict[str, Certified] = {}
        self._failed: dict[str, _Failure] = {}
        self._under_way: dict[str, asyncio.Task[Certified | _Failure]] = {}

    async def key(self, place: Place) -> RSAPublicKey:
        """Give the key. Raises Forged, and SourceError when it cannot be told for now."""
        found = self._remembered(place.url)
        if found is None:
            found = await self._wait(self._task(place))
        if isinstance(found, _Failure):
            raise found.error(found.text)
        return found.key

    async def aclose(self) -> None:
        """End the fetches under way; to who waits for one that is SourceError."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, task: asyncio.Task[Certified | _Failure]) -> Certified | _Failure:
        try:
            # One who asks may go away; the fetch goes on for the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if task.cancelled() and asking is not None and not asking.cancelling():
                raise SourceError("The source is closed.") from None
            raise

    def _remembered(self, url: str) -> Certified | _Failure | None:
        now = self._now()
        for memory in (self._kept, self._failed):
            found = memory.get(url)
            if found is not None and found.until > now:
                return found
        return None

    def _task(self, place: Place) -> asyncio.Task[Certified | _Failure]:
        task = self._under_way.get(place.url)
        if task is None:
            if len(self._under_way) >= MOST_UNDER_WAY:
                raise SourceError(f"{MOST_UNDER_WAY} other certificates of SNS are being fetched.")
            task = asyncio.create_task(self._find(place), name=f"certificate {place.url}")
            self._under_way[place.url] = task
            task.add_done_callback(lambda _: self._under_way.pop(place.url, None))
        return task

    async def _find(self, place: Place) -> Certified | _Failure:
        try:
            pem = await self._fetch(place)
            certified = certify(pem, place, now=self._now(), roots=self._roots)
        except (Forged, SourceError) as error:
            return self._note_failure(place, error)
        now = self._now()
        kept = Certified(key=certified.key, until=min(certified.until, now + KEPT_FOR))
        self._failed.pop(place.url, None)
        _remember(self._kept, place.url, kept, limit=MOST_KEPT)
        _log.info("certificate.fetched", url=place.url, until=kept.until.isoformat())
        return kept

    def _note_failure(self, place: Place, error: Forged | SourceError) -> _Failure:
        is_known = isinstance(error, Forged)
        failure = _Failure(
            error=Forged if is_known else SourceError,
            text=str(error),
            until=self._now() + (REFUSED_FOR if is_known else UNKNOWN_FOR),
        )
        _remember(self._failed, place.url, failure, limit=MOST_REFUSED)
        return failure


def _remember(memory: dict[str, _T], url: str, value: _T, *, limit: int) -> None:
    memory.pop(url, None)
    memory[url] = value
    while len(memory) > limit:
        del memory[next(iter(memory))]
