"""Runs what the store does one transaction at a time, so that a test decides what happens between two of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.database import Database

T = TypeVar("T")


class _Gate:
    """Stands before each transaction of one operation."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.arrived.set()
        await self._opened.wait()
        self._opened.clear()

    async def let_through(self) -> None:
        """Let one transaction run; comes back when the next one stands here, or `arrived` was set otherwise."""
        self.arrived.clear()
        self._opened.set()
        await self.arrived.wait()


_gate: ContextVar[_Gate | None] = ContextVar("gate", default=None)


class GatedDatabase(Database):
    """A database whose transactions wait for their turn where an Operation asks for them; others run at once."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Wait for a turn, then as Database."""
        await _wait_for_turn()
        async with super().read() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Wait for a turn, then as Database."""
        await _wait_for_turn()
        async with super().write() as connection:
            yield connection


async def _wait_for_turn() -> None:
    gate = _gate.get()
    if gate is not None:
        await gate.pass_through()


class Operation(Generic[T]):
    """Work over a GatedDatabase that stands still before each of its transactions."""

    def __init__(self, gate: _Gate, task: asyncio.Task[T]) -> None:
        self._gate = gate
        self._task = task

    @classmethod
    async def begin(cls, work: Coroutine[Any, Any, T]) -> "Operation[T]":
        """Start it; it stands before its first transaction, or is over if it has none."""
        gate = _Gate()
        context = copy_context()
        context.run(_gate.set, gate)
        task = asyncio.get_running_loop().create_task(work, context=context)
        task.add_done_callback(lambda _: gate.arrived.set())
        await gate.arrived.wait()
        return cls(gate, task)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return self._task.done()

    async def step(self) -> None:
        """Run one transaction and what follows from it."""
        await self._gate.let_through()

    def result(self) -> T:
        """Give what came of it."""
        return self._task.result()

    async def abandon(self) -> None:
        """Cut it off where it stands: its next transaction never begins."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
