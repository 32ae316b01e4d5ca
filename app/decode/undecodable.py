"""How decoding says no: one exception inside this package, which becomes a Refusal before it leaves."""

from typing import Final

from app.domain.errors import GatewayError
from app.domain.message import Refusal

REASON_LIMIT: Final = 200
_SHOWN_LIMIT: Final = 40


class Undecodable(GatewayError):  # noqa: N818 -- names the state, reads well in except
    """Cannot be decoded.

    The text is a predicate ("gives no eventTime"): whoever catches it knows the subject. It never leaves this package.
    """


class Unending(Undecodable):
    """Is not JSON, or too deep, so that nobody can say where it ends and what comes next begins."""


class Excessive(Undecodable):
    """Holds more of something than a message is given work for, so that the walk over it ends at once."""


def refusal(subject: str, problem: Undecodable, raw: bytes) -> Refusal:
    """Make one sentence of subject and problem, short enough for a list and a log."""
    return Refusal(reason=_cut(f"{subject} {problem}."), raw=raw)


def within(place: str, refused: Refusal) -> Refusal:
    """Say in which place of a message something was refused."""
    return Refusal(reason=_cut(f"{place}: {refused.reason}"), raw=refused.raw)


def shown(text: str) -> str:
    """Quote foreign text in a reason: cut, and without anything that a database or a terminal would choke on."""
    return ascii(text if len(text) <= _SHOWN_LIMIT else text[:_SHOWN_LIMIT] + "...")


def kind_of(value: object) -> str:
    """Name the JSON type of a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "an array"
        case _:
            return "an object"


def _cut(reason: str) -> str:
    return reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 1] + "…"
