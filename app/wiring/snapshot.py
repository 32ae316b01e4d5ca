"""What was seen of a bucket, a queue and a topic at one moment. Values only; who looks is in look.py."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.wiring.rules import Configuration

Versioning = Literal["enabled", "suspended", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who calls, and where: what the ARNs of things not made yet are put together from."""

    id: str
    region: str
    partition: str = "aws"
    # An emulator may not say who calls; what depends on that is then left out.
    is_known: bool = True

    def arn(self, service: str, name: str) -> str:
        """Give the ARN of a queue ("sqs") or a topic ("sns") of this account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.id}:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket and all its rules. `versioning` is None where it may not be read."""

    name: str
    region: str
    versioning: Versioning | None
    configuration: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue with its attributes by SQS's own names."""

    url: str
    attributes: Mapping[str, str]

    @property
    def arn(self) -> str:
        """Give its ARN."""
        return self.attributes.get("QueueArn", "")

    @property
    def name(self) -> str:
        """Give its name."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def policy(self) -> str:
        """Give its policy as text, empty where it has none."""
        return self.attributes.get("Policy", "")

    @property
    def key(self) -> str:
        """Give the KMS key that encrypts it, empty where none does."""
        return self.attributes.get("KmsMasterKeyId", "")

    @property
    def dead_letter_arn(self) -> str:
        """Give the ARN of its dead-letter queue, empty where it has none."""
        return str(self._redrive.get("deadLetterTargetArn", ""))

    @property
    def max_receive_count(self) -> int:
        """Give how often a message is received before it goes to the dead-letter queue; 0 where it never does."""
        return int(self._redrive.get("maxReceiveCount", 0))

    @property
    def waiting(self) -> int:
        """Give about how many messages are in it, hidden ones among them."""
        return sum(
            self.number(f"ApproximateNumberOfMessages{which}", default=0) for which in ("", "NotVisible", "Delayed")
        )

    def number(self, attribute: str, *, default: int) -> int:
        """Give an attribute that is a number."""
        try:
            return int(self.attributes[attribute])
        except (KeyError, ValueError):
            return default

    @property
    def _redrive(self) -> Mapping[str, str | int]:
        try:
            found = json.loads(self.attributes.get("RedrivePolicy") or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A topic's subscription of a queue, with its attributes by SNS's own names."""

    arn: str
    endpoint: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic with its attributes by SNS's own names, and the queues that are subscribed."""

    arn: str
    attributes: Mapping[str, str]
    subscriptions: tuple[Subscription, ...] = ()

    @property
    def name(self) -> str:
        """Give its name."""
        return self.arn.rpartition(":")[2]

    @property
    def policy(self) -> str:
        """Give its policy as text."""
        return self.attributes.get("Policy", "")

    @property
    def key(self) -> str:
        """Give the KMS key that encrypts it, empty where none does."""
        return self.attributes.get("KmsMasterKeyId", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a plan is made from; None for what is not there."""

    account: Account
    bucket: Bucket
    queue: Queue | None
    dead_letter_queue: Queue | None
    topic: Topic | None = None

    @property
    def owner(self) -> str:
        """Give the account whose bucket it is: the caller's, which AWS holds us to."""
        parts = self.queue.arn.split(":") if self.queue and not self.account.is_known else []
        return parts[4] if len(parts) > 4 else self.account.id  # noqa: PLR2004 -- where an ARN has it
