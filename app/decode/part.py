"""One object inside a record, read member by member with the type that is due. What the members mean is in records.py.

Absent, null and empty are one: None. Text that leaves here can be stored by any database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.decode.undecodable import Undecodable, kind_of, shown

# S3's longest text, a key of 1024 bytes, takes 3072 characters percent-encoded; other stores get some room.
TEXT_LIMIT: Final = 8192
LARGEST_SIZE: Final = 2**63 - 1
_SIZE_DIGITS_LIMIT: Final = 19


@dataclass(frozen=True, slots=True)
class Part:
    """An object of a record, with the path it stands at (`s3.object.`)."""

    members: Mapping[str, Any]
    path: str = ""

    def part(self, name: str) -> "Part":
        """Give an object inside; an absent one has no members. Raises Undecodable."""
        value = self.members.get(name)
        if value is None:
            value = {}
        elif not isinstance(value, dict):
            raise Undecodable(f"gives {kind_of(value)} for {self.path}{name}, not an object")
        return Part(value, f"{self.path}{name}.")

    def text(self, name: str) -> str | None:
        """Give a text. Raises Undecodable for another type and for text that cannot be stored."""
        value = self.members.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise Undecodable(f"gives {kind_of(value)} for {self.path}{name}, not text")
        if len(value) > TEXT_LIMIT:
            raise Undecodable(f"gives {len(value)} characters for {self.path}{name}, more than {TEXT_LIMIT}")
        problem = unstorable(value)
        if problem:
            raise Undecodable(f"has {problem} in {self.path}{name}")
        return value

    def required_text(self, name: str) -> str:
        """Give a text that must be there. Raises Undecodable."""
        value = self.text(name)
        if value is None:
            raise Undecodable(f"gives no {self.path}{name}")
        return value

    def size(self, name: str) -> int | None:
        """Give a number of bytes; Ceph's documentation shows it as text. Raises Undecodable."""
        value = self.members.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str):
            if len(value) > _SIZE_DIGITS_LIMIT or not (value.isascii() and value.isdigit()):
                raise Undecodable(f"gives {shown(value)} for {self.path}{name}, not a number of bytes")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Undecodable(f"gives {_whole_kind(value)} for {self.path}{name}, not a whole number")
        if not 0 <= value <= LARGEST_SIZE:
            raise Undecodable(f"gives a number for {self.path}{name} that is not between 0 and 2^63-1")
        return value


def unstorable(text: str) -> str | None:
    """Say what keeps a text out of a database: a NUL, or half of a surrogate pair."""
    if "\0" in text:
        return "a NUL"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "half of a surrogate pair"
    return None


def _whole_kind(value: object) -> str:
    return "a number with a fraction" if isinstance(value, float) else kind_of(value)
