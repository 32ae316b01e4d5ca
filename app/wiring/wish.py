"""What an operator asks of `connect` and `disconnect`, judged by its spelling before anything is called."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus, unquote_plus

from app.domain.errors import SettingsError
from app.domain.matching import unknown_events

# Everything that makes an object appear, disappear or come back, deletions by lifecycle rules among them.
DEFAULT_EVENTS: Final = (
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectRestore:*",
    "s3:LifecycleExpiration:*",
)
# What S3 leaves as it is when it writes a key into an event.
UNENCODED: Final = "/!*'()"
FILTER_LIMIT: Final = 1024

_BUCKET: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,253}[a-zA-Z0-9]")
# The dead-letter queue's name is five characters longer, and a queue's has 80 at most.
_QUEUE: Final = re.compile(r"[\w-]{1,75}", re.ASCII)
_TOPIC: Final = re.compile(r"[\w-]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One rule from a bucket to a queue, over a topic if one is named. Made by `wish`, which checks it."""

    bucket: str
    queue: str
    topic: str | None = None
    events: tuple[str, ...] = DEFAULT_EVENTS
    prefix: str = ""
    suffix: str = ""

    @property
    def dead_letter_queue(self) -> str:
        """Give the name of the queue's dead-letter queue, where connect makes one."""
        return f"{self.queue}-dead"


def wish(  # noqa: PLR0913 -- the options of the command, each by name
    url: str,
    *,
    queue: str,
    topic: str | None = None,
    events: Iterable[str] = DEFAULT_EVENTS,
    prefix: str = "",
    suffix: str = "",
    encodes_filters: bool = True,
) -> Wish:
    """Check what was asked and give it as a value. `encodes_filters`: the store compares encoded keys, as S3 does.

    Raises SettingsError, one sentence that says what to write instead.
    """
    _check_filter("--prefix", prefix, encodes_filters=encodes_filters)
    _check_filter("--suffix", suffix, encodes_filters=encodes_filters)
    return Wish(
        bucket=bucket_of(url),
        queue=_queue(queue),
        topic=None if topic is None else _topic(topic),
        events=_events(tuple(events)),
        prefix=prefix,
        suffix=suffix,
    )


def bucket_of(url: str) -> str:
    """Give the bucket that s3://BUCKET names. Raises SettingsError."""
    scheme, slashes, rest = url.partition("://")
    name, _, path = rest.partition("/")
    if (scheme.lower(), slashes) != ("s3", "://") or not name:
        raise SettingsError(f"{url!r} names no bucket: write s3://BUCKET.")
    if path:
        raise SettingsError(
            f"{url!r} names more than a bucket: write s3://{name}, and --prefix {path} for a part of it."
        )
    if _BUCKET.fullmatch(name) is None:
        raise SettingsError(f"{name!r} cannot be the name of a bucket: 3 to 255 letters, digits, dots and hyphens.")
    if name.endswith("--x-s3"):
        raise SettingsError(f"{name} is a directory bucket (S3 Express One Zone): those send no notifications.")
    return name


def _queue(name: str) -> str:
    if name.endswith(".fifo"):
        raise SettingsError(f"{name} is a FIFO queue, to which S3 cannot send: name a standard queue.")
    if _QUEUE.fullmatch(name) is None:
        raise SettingsError(
            f"--queue {name!r} is no name of a queue: 1 to 75 letters, digits, hyphens and underscores, "
            f"not its URL or ARN."
        )
    return name


def _topic(name: str) -> str:
    if name.endswith(".fifo"):
        raise SettingsError(f"{name} is a FIFO topic, to which S3 cannot send: name a standard topic.")
    if _TOPIC.fullmatch(name) is None:
        raise SettingsError(
            f"--topic {name!r} is no name of a topic: 1 to 256 letters, digits, hyphens and underscores, not its ARN."
        )
    return name


def _events(names: Sequence[str]) -> tuple[str, ...]:
    full = tuple(dict.fromkeys(each if each.startswith("s3:") else f"s3:{each}" for each in names if each))
    unknown = unknown_events(full)
    if unknown or not full or "s3:*" in full:
        raise SettingsError(
            f"--events takes S3's names separated by commas, such as s3:ObjectCreated:*; "
            f"not {', '.join(unknown) or '*'}."
        )
    return full


def _check_filter(option: str, text: str, *, encodes_filters: bool) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise SettingsError(f"{option} is not valid UTF-8.") from None
    if size > FILTER_LIMIT:
        raise SettingsError(f"{option} has {size} bytes; S3 takes {FILTER_LIMIT} at most.")
    if any(not character.isprintable() for character in text):
        raise SettingsError(f"{option} has a character that cannot be printed; S3 takes none in a rule.")
    if "*" in text:
        raise SettingsError(
            f"{option} {text!r}: S3 knows no wildcards here. A prefix is the beginning of a key and a suffix its end, "
            f"such as --prefix images/ --suffix .jpg."
        )
    # What is encoded already is left as it is.
    encoded = quote_plus(unquote_plus(text), safe=UNENCODED)
    if encodes_filters and any(
        not (each.isascii() and (each.isalnum() or each in f"{UNENCODED}-._+%~")) for each in text
    ):
        raise SettingsError(f"{option}: S3 compares with the encoded key here, so write {option} '{encoded}'.")
