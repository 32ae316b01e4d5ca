"""An event loop whose time passes only when everybody waits: hours of leases in milliseconds, the same in every run.

A program that can never go on, or that goes round without ever waiting, is an error instead of a test that hangs.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, ParamSpec

P = ParamSpec("P")

# So many turns of the loop without time passing are no work but a spin.
SPIN_TURNS: Final = 50_000
PATIENCE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.001
_BEGINNING: Final = datetime(2026, 3, 1, tzinfo=UTC)


class Standstill(BaseException):
    """Nothing can happen any more, or everything happens and no time passes."""


class _Selector(selectors.DefaultSelector):
    """Never waits: tells the loop's clock to go on instead."""

    def __init__(self, pass_time: Callable[[float | None], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Give what is ready now; with nothing ready, time jumps to the next timer."""
        ready = super().select(0)
        if not ready:
            self._pass_time(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, which starts at 1000."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._turns = 0
        super().__init__(_Selector(self._pass_time))

    def time(self) -> float:
        """Give virtual seconds."""
        return self._now

    def _pass_time(self, seconds: float | None) -> None:
        if seconds is None:
            raise Standstill("everything waits and nothing will come")
        self._turns = self._turns + 1 if seconds <= 0 else 0
        if self._turns > SPIN_TURNS:
            raise Standstill("a loop goes round without waiting")
        self._now += max(0.0, seconds)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in a loop of virtual time of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """Give the running loop's time."""
    return asyncio.get_running_loop().time()


def moment() -> datetime:
    """Give the running loop's time as a database would."""
    return _BEGINNING + timedelta(seconds=now())


async def until(condition: Callable[[], object], *, within_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition to become true; a test that waits in vain fails with the condition's place."""
    deadline = now() + within_seconds
    while not condition():
        if now() > deadline:
            where = getattr(condition, "__code__", None)
            raise AssertionError(f"never became true: {where}")
        await asyncio.sleep(_LOOK_SECONDS)


async def pass_time(seconds: float) -> None:
    """Let virtual time go by, for tests that show that something does not happen."""
    await asyncio.sleep(seconds)
