"""Looking names up without a neighbour's dead name server in the way, and judging what they mean.

One thread for each name under way, shared by all who ask for it: neither the event loop's few threads wait for a
dead server, nor, since they are daemons, does the end of the process. Who waits, waits in a slot of its own lane.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from app.outbound.guard import AddressRefused, AddrInfo, Judge

LOOKUP_SECONDS: Final = 5.0
LARGEST_CROWD: Final = 256
# So many of the threads are for names that answered when last asked for: dead ones, however many, leave them that.
KNOWN_CROWD: Final = LARGEST_CROWD // 4
# A name that has no answer is not asked for again for so long: less than the first retry of a delivery waits.
FAILED_SECONDS: Final = 3.0
# A thread that hangs for so long is given up, so that the name can be asked for again.
STUCK_SECONDS: Final = 60.0
# So many names are remembered at most, of those that answered and of those that did not.
_MOST_NAMES: Final = 10_000

Answer = list[AddrInfo] | OSError
_Key = tuple[str, int, int]
Ask = Callable[[str, int, int], Answer]


def ask_system(host: str, port: int, family: int) -> Answer:
    """Ask the system's own resolver, which may take as long as it likes."""
    try:
        infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        return OSError("it is not the name of a host")
    except OSError as error:
        return error
    return list(infos) or OSError("it has no address")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    """One that is under way; whoever joins it late has only what is left of its time."""

    began_at: float
    answer: asyncio.Future[Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """What a name had instead of an answer, and until when that holds."""

    until: float
    error: OSError


class GuardedResolver(AbstractResolver):
    """Gives a name's addresses if every one of them passes; keeps no answer for later, and a failure for a moment."""

    def __init__(self, judge: Judge, *, ask: Ask = ask_system, lookup_seconds: float = LOOKUP_SECONDS) -> None:
        self._judge = judge
        self._ask = ask
        self._lookup_seconds = lookup_seconds
        self._threads = 0
        self._under_way: dict[_Key, _Lookup] = {}
        self._answered: dict[_Key, None] = {}
        self._failed: dict[_Key, _Failure] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up. Raises AddressRefused when any answer is refused, OSError when there is none in time.

        Any, not all: a name with one private answer among public ones was made to get past a guard.
        """
        infos = await self._look_up(host, port, family)
        for info in infos:
            refusal = self._judge(str(info[4][0]))
            if refusal is not None:
                raise AddressRefused(f"{host}: {refusal}")
        return [
            ResolveResult(
                hostname=host, host=info[4][0], port=port, family=info[0], proto=info[2], flags=socket.AI_NUMERICHOST
            )
            for info in infos
        ]

    async def close(self) -> None:
        """Leave the threads to end by themselves."""

    async def _look_up(self, host: str, port: int, family: int) -> list[AddrInfo]:
        key, now = (host, port, family), asyncio.get_running_loop().time()
        failure = self._failed.get(key)
        if failure is not None and now < failure.until:
            raise _named(host, failure.error)
        lookup = self._under_way.get(key)
        if lookup is None or now >= lookup.began_at + STUCK_SECONDS:
            lookup = self._start(key, now)
        try:
            async with asyncio.timeout_at(lookup.began_at + self._lookup_seconds):
                answer = await asyncio.shield(lookup.answer)
        except TimeoutError:
            self._answered.pop(key, None)
            raise OSError(f"{host} could not be looked up within {self._lookup_seconds:g} s.") from None
        if isinstance(answer, OSError):
            raise _named(host, answer) from answer
        return answer

    def _start(self, key: _Key, now: float) -> _Lookup:
        room = LARGEST_CROWD if key in self._answered else LARGEST_CROWD - KNOWN_CROWD
        if self._threads >= room:
            raise OSError(f"{key[0]} was not looked up: {self._threads} other names wait for their servers.")
        loop = asyncio.get_running_loop()
        lookup = self._under_way[key] = _Lookup(began_at=now, answer=loop.create_future())
        self._threads += 1

        def run() -> None:
            answer = self._ask(*key)
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(self._finish, key, lookup, answer)

        threading.Thread(target=run, name=f"lookup {key[0]}", daemon=True).start()
        return lookup

    def _finish(self, key: _Key, lookup: _Lookup, answer: Answer) -> None:
        self._threads -= 1
        if self._under_way.get(key) is lookup:
            del self._under_way[key]
        now = asyncio.get_running_loop().time()
        # The newest last, so that the oldest goes when there are too many.
        self._answered.pop(key, None)
        self._failed.pop(key, None)
        if isinstance(answer, OSError):
            self._failed[key] = _Failure(until=now + FAILED_SECONDS, error=answer)
        else:
            self._answered[key] = None
        for names in (self._answered, self._failed):
            if len(names) > _MOST_NAMES:
                del names[next(iter(names))]
        if not lookup.answer.done():
            lookup.answer.set_result(answer)


def _named(host: str, error: OSError) -> OSError:
    return OSError(error.errno, f"{host} could not be looked up: {error.strerror or error}")
