"""What the store is doing, one transaction at a time, and what stands in the database after each."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.faults.lanes.gates import Operation
from tests.faults.lanes.model import Model
from tests.faults.lanes.replica import Replica
from tests.faults.lanes.seen import Seen
from tests.faults.lanes.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What follows in the model and in its actor's memory.

    `begun` from the first transaction, `stepped` from each, `done` from the last with what was seen before it,
    `answered` from the answer, `dropped` where none comes.
    """

    begun: Callable[[], None] = lambda: None
    stepped: Callable[[Seen], None] = lambda _: None
    done: Callable[[Any, Seen], None] = lambda *_: None
    answered: Callable[[Any], None] = lambda _: None
    dropped: Callable[[], None] = lambda: None


@dataclass(slots=True, kw_only=True, eq=False)
class UnderWay:
    """Something the store is doing, for a replica or for others."""

    what: object
    actor: Replica | None
    operation: Operation[Any]
    following: Following
    has_begun: bool = False


class Board:
    """Runs it."""

    def __init__(self, stage: Stage, model: Model, seen: Seen) -> None:
        self.seen = seen
        self.under_way: list[UnderWay] = []
        self._stage = stage
        self._model = model

    def is_doing(self, what: object) -> bool:
        """Tell whether something is under way."""
        return any(each.what == what for each in self.under_way)

    async def start(
        self,
        what: object,
        work: Coroutine[Any, Any, Any],
        following: Following,
        *,
        steps: int,
        actor: Replica | None = None,
    ) -> None:
        """Begin something, unless the same is under way: a replica does one thing of a kind at a time."""
        if self.is_doing(what):
            work.close()
            return
        operation = await Operation.begin(work)
        going = UnderWay(what=what, actor=actor, operation=operation, following=following)
        self.under_way.append(going)
        await self.go_on(going, steps)

    async def go_on(self, going: UnderWay, steps: int) -> None:
        """Let something run so many transactions further; its answer counts as one."""
        for _ in range(steps):
            if going.operation.is_over:
                self.under_way.remove(going)
                going.following.answered(going.operation.result())
                return
            await self._step(going)

    async def abandon(self, going: UnderWay) -> None:
        """Cut something off: nobody learns what became of it."""
        self.under_way.remove(going)
        await going.operation.abandon()
        going.following.dropped()

    async def look(self) -> None:
        """Look at the database, and compare it with the model."""
        self.seen = await self._stage.look()
        self._model.compare(self.seen)

    async def _step(self, going: UnderWay) -> None:
        before = self.seen
        has_written = await going.operation.step()
        if going.operation.is_over:
            going.operation.result()  # raises what went wrong
        if not going.has_begun:
            going.has_begun = True
            going.following.begun()
        if has_written:
            self.seen = await self._stage.look()
        going.following.stepped(self.seen)
        if going.operation.is_over:
            going.following.done(going.operation.result(), before)
        self._model.compare(self.seen)
