"""Looking names up without a neighbour's dead name server in the way, and judging what they mean.

One thread for each name under way, shared by all who ask for it: neither the event loop's few threads wait for a
dead server, nor, since they are daemons, does the end of the process.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from app.outbound.guard import AddressRefused, AddrInfo, Judge

LOOKUP_SECONDS: Final = 5.0
LARGEST_CROWD: Final = 256

_Answer = list[AddrInfo] | OSError
_Key = tuple[str, int, int]
_Ask = Callable[[str, int, int], _Answer]


def ask_system(host: str, port: int, family: int) -> _Answer:
    """Ask the system's own resolver, which may take as long as it likes."""
    try:
        infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        return OSError("it is not the name of a host")
    except OSError as error:
        return error
    return list(infos) or OSError("it has no address")


class GuardedResolver(AbstractResolver):
    """Gives a name's addresses if every one of them passes; keeps no answer for later."""

    def __init__(self, judge: Judge, *, ask: _Ask = ask_system, lookup_seconds: float = LOOKUP_SECONDS) -> None:
        self._judge = judge
        self._ask = ask
        self._lookup_seconds = lookup_seconds
        self._under_way: dict[_Key, asyncio.Future[_Answer]] = {}

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
        key = (host, port, family)
        future = self._under_way.get(key)
        if future is None:
            if len(self._under_way) >= LARGEST_CROWD:
                raise OSError(f"{host} was not looked up: {LARGEST_CROWD} other names wait for their servers.")
            future = self._under_way[key] = self._start(key)
            future.add_done_callback(lambda _: self._under_way.pop(key, None))
        try:
            async with asyncio.timeout(self._lookup_seconds):
                answer = await asyncio.shield(future)
        except TimeoutError:
            raise OSError(f"{host} could not be looked up within {self._lookup_seconds:g} s.") from None
        if isinstance(answer, OSError):
            raise OSError(answer.errno, f"{host} could not be looked up: {answer.strerror or answer}") from answer
        return answer

    def _start(self, key: _Key) -> asyncio.Future[_Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()

        def settle(answer: _Answer) -> None:
            if not future.done():
                future.set_result(answer)

        def run() -> None:
            answer = self._ask(*key)
            with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(settle, answer)

        threading.Thread(target=run, name=f"lookup {key[0]}", daemon=True).start()
        return future
