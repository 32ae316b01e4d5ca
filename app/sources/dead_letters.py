"""Where a queue puts what it gave out too often: what may be asked of it. How SQS is asked: sqs_dead_letters.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

RedriveState = Literal["running", "completed", "cancelling", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """Messages on their way back into the source's queue; all counts are approximate.

    `to_move` is how many there were at the start, `failed` how many of them a failed redrive left behind.
    """

    state: RedriveState
    moved: int
    failed: int
    to_move: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQueue:
    """A dead-letter queue of a source; `redrive` is the newest one, if there was any."""

    queue_url: str
    queue_arn: str
    depth: int
    max_receive_count: int
    retention_seconds: int
    redrive: Redrive | None


class DeadLetterQueues(Protocol):
    """The dead-letter queues of one source."""

    async def all(self) -> Sequence[DeadLetterQueue]:
        """List them; none is a normal answer. Changes nothing. Raises SourceError, within half a minute."""

    async def redrive(self) -> Sequence[DeadLetterQueue]:
        """Begin to move what is in them back, or go on with it, and list them as they then are.

        May have moved only a part when it returns: `redrive` says so. A message may be moved and yet be left behind;
        it is never lost. Raises SourceError, within half a minute.
        """
