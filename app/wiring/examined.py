"""What the doctor saw of one source and of one bucket, as far as it could see. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.wiring.snapshot import Account, Bucket, Queue, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A call that did not succeed, and why."""

    action: str
    reason: str
    is_denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSource:
    """A source as the gateway has it, and its queue as AWS has it; None for what could not be seen.

    `refused` are calls that reading the queue needs; `unseen` are those that only the doctor makes. `key_policy` is
    None where it was not or could not be read. `topics` are those that may send to the queue.
    """

    name: str
    queue_url: str
    state: str = "ok"
    last_error: str | None = None
    is_paused: bool = False
    has_test_event: bool = True
    account: Account | None = None
    queue: Queue | None = None
    dead_letter_queue: Queue | None = None
    key_policy: str | None = None
    topics: Mapping[str, Topic | None] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    unseen: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBucket:
    """A bucket, and the queues and topics its rules name: None for one that is not there, absent when not seen.

    `owner` is its account, where AWS confirmed it.
    """

    name: str
    owner: str | None = None
    bucket: Bucket | None = None
    queues: Mapping[str, Queue | None] = field(default_factory=dict)
    topics: Mapping[str, Topic | None] = field(default_factory=dict)
    unseen: tuple[Refused, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything the doctor saw. `asked_for` is the bucket it was asked about, if it was."""

    sources: tuple[SeenSource, ...]
    buckets: tuple[SeenBucket, ...]
    asked_for: str | None = None
