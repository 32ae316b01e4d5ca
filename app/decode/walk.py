"""From text to JSON documents, one after another, each with its exact text and that of each element of its `Records`.

The upper levels are walked by hand, every value in them is read by the C scanner, which also says where it ends. Input
may be hostile: whatever is not strict JSON, or would cost more than a message can be worth, is refused.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from app.decode.budget import MEMBERS_LIMIT, Budget
from app.decode.document import RECORDS, Document, Element, Piece, Unread, raw_of
from app.decode.scanners import LENIENT, STRICT
from app.decode.undecodable import Excessive, Undecodable, Unending, shown

_SPACE: Final = re.compile(r"[ \t\n\r]*")
# Where a document begins like this, its records are looked for at once; elsewhere it is read first.
_BEFORE_RECORDS: Final = re.compile(r'\{[ \t\n\r]*"(?:Records|EventName|EventType)"')
_RECORDS_NAME: Final = f'"{RECORDS}"'
_TOO_MANY_MEMBERS: Final = f"has more than {MEMBERS_LIMIT} members, so it is no S3 message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The documents of a text up to its end, or up to the trouble that hid where the one at `at` ends."""

    pieces: list[Piece]
    problem: Unending | None
    at: int


def walk(text: str, budget: Budget) -> Walked:
    """Read JSON documents, those in arrays included, one after another. Raises Excessive, nothing else."""
    pieces: list[Piece] = []
    steps = _Walk(text, budget)
    at = _skip_space(text, 0)
    while at < len(text):
        try:
            found, end = steps.array(at) if text.startswith("[", at) else steps.alone(at)
        except Unending as problem:
            return Walked(pieces=pieces, problem=problem, at=at)
        pieces += found
        at = _skip_space(text, end)
    return Walked(pieces=pieces, problem=None, at=at)


class _Walk:
    """One pass over one text."""

    def __init__(self, text: str, budget: Budget) -> None:
        self._text = text
        self._budget = budget

    def alone(self, at: int) -> tuple[list[Piece], int]:
        """Read the document that begins here."""
        piece, end = self._piece(at)
        return [piece], end

    def array(self, at: int) -> tuple[list[Piece], int]:
        """Read the documents in the array that begins here."""
        pieces: list[Piece] = []
        begin, at = at, _skip_space(self._text, at + 1)
        if self._text.startswith("]", at):
            empty = Undecodable("is an empty array, so it holds no S3 records")
            return [Unread(problem=empty, raw=raw_of(self._text[begin : at + 1]))], at + 1
        while True:
            piece, at = self._piece(at)
            pieces.append(piece)
            at, is_last = self._next(at, "]")
            if is_last:
                return pieces, at

    def _piece(self, at: int) -> tuple[Piece, int]:
        self._budget.take_document()
        if not self._text.startswith("{", at):
            return self._unread(at, Undecodable("is not a JSON object, so it holds no S3 records"))
        if not _BEFORE_RECORDS.match(self._text, at):
            value, end, fault = self._value(at)
            # The name can be spelled with escapes, which only its value tells.
            has_records = self._text.find(_RECORDS_NAME, at, end) >= 0 or (fault is None and RECORDS in value)
            if not has_records:
                return self._without_records(value, fault, self._text[at:end]), end
        try:
            return self._document(at)
        except (Unending, Excessive):
            raise
        except Undecodable as problem:
            return self._unread(at, problem)

    @staticmethod
    def _without_records(value: dict[str, object], fault: str | None, text: str) -> Piece:
        if fault is None and len(value) > MEMBERS_LIMIT:
            fault = _TOO_MANY_MEMBERS
        if fault is not None:
            return Unread(problem=Undecodable(fault), raw=raw_of(text))
        return Document(members=value, records=None, text=text)

    def _unread(self, at: int, problem: Undecodable) -> tuple[Unread, int]:
        end = self._end(at, problem)
        return Unread(problem=problem, raw=raw_of(self._text[at:end])), end

    def _document(self, begin: int) -> tuple[Document, int]:
        members: dict[str, object] = {}
        records: tuple[Element, ...] | None = None
        seen: set[str] = set()
        at = _skip_space(self._text, begin + 1)
        is_last = self._text.startswith("}", at)
        at += is_last
        while not is_last:
            name, at = self._name(at, seen)
            if name == RECORDS and self._text.startswith("[", at):
                records, at = self._elements(at)
            else:
                members[name], at = self._member(at)
            at, is_last = self._next(at, "}")
        return Document(members=members, records=records, text=self._text[begin:at]), at

    def _name(self, at: int, seen: set[str]) -> tuple[str, int]:
        if not self._text.startswith('"', at):
            raise Unending(f"is not valid JSON: no member name at character {at}")
        name, at = self._member(at)
        if name in seen:
            raise Undecodable(f"names the member {shown(name)} twice")
        seen.add(name)
        if len(seen) > MEMBERS_LIMIT:
            raise Undecodable(_TOO_MANY_MEMBERS)
        at = _skip_space(self._text, at)
        if not self._text.startswith(":", at):
            raise Unending(f"is not valid JSON: no colon at character {at}")
        return name, _skip_space(self._text, at + 1)

    def _elements(self, at: int) -> tuple[tuple[Element, ...], int]:
        elements: list[Element] = []
        at = _skip_space(self._text, at + 1)
        if self._text.startswith("]", at):
            return (), at + 1
        while True:
            self._budget.take_record()
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
        try:
            value, end = STRICT.raw_decode(self._text, at)
        except Excessive:
            raise
        except Undecodable as problem:
            return None, self._end(at, problem), str(problem)
        except json.JSONDecodeError as error:
            message = error.msg.removesuffix(" at")
            raise Unending(f"is not valid JSON: {message} at character {error.pos}") from error
        except ValueError:  # the interpreter's limit on the digits of a number
            number = Undecodable("is not valid JSON, and holds a number with too many digits")
            return None, self._end(at, number), "holds a number with too many digits"
        except RecursionError as error:
            raise Unending("is nested too deeply") from error
        return value, end, None

    def _end(self, at: int, problem: Undecodable) -> int:
        """Tell where a value ends that has a fault. Raises Unending, with the fault, where it ends nowhere."""
        try:
            return LENIENT.raw_decode(self._text, at)[1]
        except (ValueError, RecursionError) as error:
            raise Unending(str(problem)) from error

    def _next(self, at: int, end: str) -> tuple[int, bool]:
        at = _skip_space(self._text, at)
        if self._text.startswith(end, at):
            return at + 1, True
        if not self._text.startswith(",", at):
            raise Unending(f"is not valid JSON: neither comma nor {end} at character {at}")
        return _skip_space(self._text, at + 1), False


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
