"""What code may ask of a database, and the same over one transaction that is open already."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


class Transactions(Protocol):
    """Opens what reads and what writes. Raises StoreUnavailable, StoreRefused."""

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a connection that changes nothing."""

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits when the block ends well, and is taken back otherwise, cancelled too."""

    async def write_again(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run work in a write transaction, once more where the database asks for it."""


class Joined:
    """Every block is part of one transaction, which commits when its owner's block ends and takes them all back else.

    An error must therefore leave the owner's block as well.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        """Take the connection of the open transaction."""
        self._connection = connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """See also what the transaction wrote so far."""
        yield self._connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Write within the transaction."""
        yield self._connection

    async def write_again(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run work within the transaction, once: it is its owner's to begin again."""
        return await work(self._connection)
