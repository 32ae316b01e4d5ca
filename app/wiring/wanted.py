"""What an operator asks for: which bucket's events, through which queue and topic. Checked by spelling. Pure."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.domain.errors import SettingsError
from app.outbound.chosen import checked_url

# What a consumer of a bucket's whole story needs; tags, ACLs and replication are asked for by name.
DEFAULT_EVENTS: Final = (
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectRestore:*",
    "s3:LifecycleExpiration:*",
)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_QUEUE: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_EVENT: Final = re.compile(r"s3:[A-Za-z]+(?::(?:[A-Za-z]+|\*))?")
_LONGEST_FILTER: Final = 1024
_DEAD_LETTERS: Final = "-dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One wiring. `account` owns the bucket; None takes the caller's."""

    bucket: str
    queue: str
    topic: str | None = None
    events: tuple[str, ...] = DEFAULT_EVENTS
    prefix: str = ""
    suffix: str = ""
    account: str | None = None

    @property
    def dead_letter_queue(self) -> str:
        """Name the queue for what is received too often."""
        return f"{self.queue[: 80 - len(_DEAD_LETTERS)]}{_DEAD_LETTERS}"


def bucket_in(text: str) -> str:
    """Read `s3://BUCKET`. Raises SettingsError with a sentence that says what to write."""
    name = text.removeprefix("s3://").rstrip("/")
    if not text.startswith("s3://") or "/" in name:
        raise SettingsError(f"{text} is no bucket: write s3://BUCKET, and keys by --prefix and --suffix.")
    if name.endswith("--x-s3"):
        raise SettingsError(f"{name} is a directory bucket, and those send no notifications.")
    if _BUCKET.fullmatch(name) is None:
        raise SettingsError(f"{name!r} is no name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens.")
    return name


def checked(wanted: Wanted) -> Wanted:
    """Judge what is asked for by its spelling and give it back. Raises SettingsError."""
    if wanted.queue.endswith(".fifo"):
        raise SettingsError("S3 cannot send to a FIFO queue: name a standard one.")
    if _QUEUE.fullmatch(wanted.queue) is None:
        raise SettingsError("--queue is the name of a queue: 1 to 80 letters, digits, hyphens and underscores.")
    if wanted.topic is not None and _TOPIC.fullmatch(wanted.topic) is None:
        raise SettingsError("--topic is the name of a topic: 1 to 256 letters, digits, hyphens and underscores.")
    for event in wanted.events:
        if _EVENT.fullmatch(event) is None:
            raise SettingsError(f"--events: {event!r} is no event of S3; s3:ObjectCreated:* is one.")
    if not wanted.events:
        raise SettingsError("--events names at least one event.")
    for option, value in (("--prefix", wanted.prefix), ("--suffix", wanted.suffix)):
        if len(value.encode()) > _LONGEST_FILTER or not value.isprintable():
            raise SettingsError(f"{option} is at most {_LONGEST_FILTER} bytes of printable text.")
        if "*" in value:
            raise SettingsError(f"{option} is compared letter for letter: S3 knows no * in it.")
    return wanted


def checked_endpoint(url: str | None) -> str | None:
    """Judge the address of what speaks like AWS. Raises SettingsError."""
    if url is None:
        return None
    try:
        checked_url(url)
    except ValueError as error:
        raise SettingsError(f"--endpoint-url {error}.") from None
    if urlsplit(url).path.strip("/"):
        raise SettingsError("--endpoint-url is a scheme, a host and a port, without a path.")
    return url.rstrip("/")


def partition_of(region: str) -> str:
    """Give the partition of a region."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
