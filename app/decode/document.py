"""From bytes to one JSON object, with the exact text of each element of its `Records`. What they mean stands elsewhere.

The top level is walked by hand, every value in it is read by the C scanner, which also says where the value ends. Input
may be hostile: whatever is not strict JSON, or would cost more than a message can be worth, is refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.decode.undecodable import Undecodable, shown

RECORDS: Final = "Records"
# Bounds on work: 1 MiB of real messages stays far below each.
MEMBERS_LIMIT: Final = 64
RECORDS_LIMIT: Final = 4096
OBJECTS_LIMIT: Final = 65_536

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SPACE: Final = re.compile(r"[ \t\n\r]*")
# Finds the end of a value whose numbers are too long to be read as numbers.
_LENIENT_SCANNER: Final = json.JSONDecoder(parse_int=str)

Scan = Callable[[str, int], tuple[Any, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of `Records`: its value, its text as it came, and a fault that did not hide where it ends."""

    value: object
    text: str
    fault: str | None

    @property
    def raw(self) -> bytes:
        """The element's bytes. A lone surrogate, which only an envelope can bring in, gets the bytes it would have."""
        return self.text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON object; `records` are the elements of its `Records` if that is an array, then it is not in `members`."""

    members: Mapping[str, object]
    records: tuple[Element, ...] | None


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


def read(text: str) -> Document:
    """Read one JSON object and nothing around it. Raises Undecodable."""
    at = _skip_space(text, 0)
    if not text.startswith("{", at):
        raise Undecodable("is not a JSON object, so it holds no S3 records")
    document, at = _Walk(text).document(at)
    if _skip_space(text, at) != len(text):
        raise Undecodable(f"goes on after its JSON object, at character {at}")
    return document


class _Walk:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._faults: list[str] = []
        self._scan = _scanner(self._faults)

    def document(self, at: int) -> tuple[Document, int]:
        """Read the object that begins here."""
        members: dict[str, object] = {}
        records: tuple[Element, ...] | None = None
        seen: set[str] = set()
        at = _skip_space(self._text, at + 1)
        if self._text.startswith("}", at):
            return Document(members=members, records=None), at + 1
        while True:
            name, at = self._name(at, seen)
            if name == RECORDS and self._text.startswith("[", at):
                records, at = self._elements(at)
            else:
                members[name], at = self._member(at)
            at, is_last = self._next(at, "}")
            if is_last:
                return Document(members=members, records=records), at

    def _name(self, at: int, seen: set[str]) -> tuple[str, int]:
        if not self._text.startswith('"', at):
            raise Undecodable(f"is not valid JSON: no member name at character {at}")
        name, at = self._member(at)
        if name in seen:
            raise Undecodable(f"names the member {shown(name)} twice")
        seen.add(name)
        if len(seen) > MEMBERS_LIMIT:
            raise Undecodable(f"has more than {MEMBERS_LIMIT} members, so it is no S3 message")
        at = _skip_space(self._text, at)
        if not self._text.startswith(":", at):
            raise Undecodable(f"is not valid JSON: no colon at character {at}")
        return name, _skip_space(self._text, at + 1)

    def _elements(self, at: int) -> tuple[tuple[Element, ...], int]:
        elements: list[Element] = []
        at = _skip_space(self._text, at + 1)
        if self._text.startswith("]", at):
            return (), at + 1
        while True:
            if len(elements) == RECORDS_LIMIT:
                raise Undecodable(f"has more than {RECORDS_LIMIT} records")
            value, end, fault = self._value(at)
            elements.append(Element(value=value, text=self._text[at:end], fault=fault))
            at, is_last = self._next(end, "]")
            if is_last:
                return tuple(elements), at

    def _member(self, at: int) -> tuple[Any, int]:
        value, end, fault = self._value(at)
        if fault is not None:
            raise Undecodable(fault)
        return value, end

    def _value(self, at: int) -> tuple[Any, int, str | None]:
        """Read the value that begins here; a fault that leaves its end known does not spoil its neighbours."""
        self._faults.clear()
        try:
            value, end = self._scan(self._text, at)
        except json.JSONDecodeError as error:
            message = error.msg.removesuffix(" at")
            raise Undecodable(f"is not valid JSON: {message} at character {error.pos}") from error
        except ValueError:  # the interpreter's limit on the digits of a number
            value, end = self._skip_value(at)
            return value, end, "holds a number with too many digits"
        except RecursionError as error:
            raise Undecodable("is nested too deeply") from error
        return value, end, self._faults[0] if self._faults else None

    def _skip_value(self, at: int) -> tuple[None, int]:
        try:
            return None, _LENIENT_SCANNER.raw_decode(self._text, at)[1]
        except (ValueError, RecursionError) as error:
            raise Undecodable("is not valid JSON, and holds a number with too many digits") from error

    def _next(self, at: int, end: str) -> tuple[int, bool]:
        at = _skip_space(self._text, at)
        if self._text.startswith(end, at):
            return at + 1, True
        if not self._text.startswith(",", at):
            raise Undecodable(f"is not valid JSON: neither comma nor {end} at character {at}")
        return _skip_space(self._text, at + 1), False


def _scanner(faults: list[str]) -> Scan:
    """Make a scanner that notes what the standard library lets pass: names given twice, and NaN and its kin."""
    objects = 0

    def take_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > OBJECTS_LIMIT:
            raise Undecodable(f"holds more than {OBJECTS_LIMIT} JSON objects")
        members = dict(pairs)
        if len(members) != len(pairs) and not faults:
            faults.append(f"names the member {shown(_first_repeated(pairs))} twice")
        return members

    def take_constant(name: str) -> None:
        if not faults:
            faults.append(f"holds {name}, which is not JSON")

    return json.JSONDecoder(object_pairs_hook=take_object, parse_constant=take_constant).raw_decode


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
