"""What a message is made of: JSON documents, each with its exact text, and stretches that are none.

How they are found is in walk.py and pieces.py; what they mean is in the files of the formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.decode.undecodable import Undecodable

RECORDS: Final = "Records"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One record: its value, its text as it came, and a fault that did not hide where it ends."""

    value: object
    text: str
    fault: str | None

    @property
    def raw(self) -> bytes:
        """The element's bytes. A lone surrogate, which only an envelope can bring in, gets the bytes it would have."""
        return raw_of(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON object; `records` are the elements of its `Records` if that is an array, then it is not in `members`."""

    members: Mapping[str, object]
    records: tuple[Element, ...] | None
    text: str

    @property
    def raw(self) -> bytes:
        """The document's bytes."""
        return raw_of(self.text)

    @property
    def element(self) -> Element:
        """The document as a record that stands alone."""
        return Element(value=self.members, text=self.text, fault=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A stretch of a message that is no document, and why."""

    problem: Undecodable
    raw: bytes


Piece = Document | Unread


def text_of(body: bytes) -> str:
    """Read the text of a message. Raises Undecodable."""
    if not body:
        raise Undecodable("is empty")
    if body.startswith(_BYTE_ORDER_MARK):
        raise Undecodable("begins with a byte order mark, which JSON forbids")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Undecodable(f"is not UTF-8 at byte {error.start}") from error


def raw_of(text: str) -> bytes:
    """Give a text's bytes; half of a surrogate pair gets the bytes it would have."""
    return text.encode("utf-8", "surrogatepass")
