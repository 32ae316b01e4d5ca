"""Whose push it is: the source that a path names, as set up now, and whether the token is its own."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.domain.configuration import Configuration, Source
from app.domain.ids import SourceId
from app.domain.message import Road, Token

RoadOf = Callable[[Source], Road | None]
"""Tell by which road a source pushes; None for one that does not."""


class Recognition:
    """Knows the sources by a snapshot, and looks again before it says no: a source may have been made just now."""

    def __init__(
        self,
        *,
        road_of: RoadOf,
        configuration: Callable[[], Configuration],
        refresh: Callable[[], Awaitable[Configuration]],
    ) -> None:
        """Take the snapshot, and what reads it anew."""
        self._road_of = road_of
        self._configuration = configuration
        self._refresh = refresh
        self._looking = asyncio.Lock()
        self._begun = 0
        self._read = 0

    async def recognise(self, road: Road, source_id: SourceId, tokens: Sequence[str]) -> tuple[Source | None, Token]:
        """Give the living source of that road, and how its token compares with those given. Raises StoreUnavailable."""
        source = self._find(road, source_id)
        token = _compare(source, tokens)
        if source is None or token == "wrong":  # noqa: S105 -- no token, but what is said of one
            await self._look_again()
            source = self._find(road, source_id)
            token = _compare(source, tokens)
        return source, token

    def _find(self, road: Road, source_id: SourceId) -> Source | None:
        source = self._configuration().sources.get(source_id)
        return source if source is not None and self._road_of(source) == road else None

    async def _look_again(self) -> None:
        """Read the set-up as it is after this call; all who wait for that share one reading."""
        asked = self._begun
        async with self._looking:
            if self._read > asked:
                return
            self._begun += 1
            await self._refresh()
            self._read = self._begun


def _compare(source: Source | None, tokens: Sequence[str]) -> Token:
    if not tokens:
        return "absent"
    wanted = source.token_hash if source is not None else None
    # Every token is hashed and compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(_digest(token), wanted or _NOBODYS) for token in tokens]
    return "right" if wanted is not None and any(matches) else "wrong"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_NOBODYS: Final = bytes(hashlib.sha256().digest_size)
