"""Which filters may take an event, found without looking at all of them; that they do is for `matching.py` to say.

Each filter is put in place by the first thing it is particular about: the bucket it names, how the key begins, how it
ends, how the bucket begins or ends, which event it is. Those that share a place are told apart by what comes next in
that row. An event then leads to few places, however many filters there are: by its bucket, and by each beginning or
end of its key that is as long as one that some filter asks for.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from app.domain.change import canonical_name
from app.domain.configuration import Filter
from app.domain.event import Event
from app.domain.operator_event import is_operator_name

T = TypeVar("T")
Text = str | bytes

# So few are sooner tried than told apart.
_FEW: Final = 3
_WILD: Final = ("*", "?")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim(Generic[T]):
    """One of the alternatives of a filter: all of this must hold. Empty says nothing."""

    owner: T
    bucket: str
    bucket_begins: str
    bucket_ends: str
    key_begins: bytes
    key_ends: bytes
    event: str
    event_begins: str


class FilterIndex(Generic[T]):
    """Things that each have a filter."""

    def __init__(self, filters: Iterable[tuple[T, Filter]]) -> None:
        """Put them in their places."""
        claims = [claim for owner, wanted in filters for claim in _claims(owner, wanted)]
        self._root = _node(claims, _TELLS)

    def candidates(self, event: Event) -> Iterator[T]:
        """Give all whose filter may take the event, in no order; one with alternatives may come more than once."""
        return _find(self._root, event)


@dataclass(frozen=True, slots=True)
class _Tell(Generic[T]):
    """Something a filter may be particular about: what a claim says of it, and what an event does."""

    said: Callable[[_Claim[T]], Text]
    shown: Callable[[Event], Text]
    part: Literal["all", "beginning", "end"]


_TELLS: "Final[Sequence[_Tell[Any]]]" = (
    _Tell(lambda claim: claim.bucket, lambda event: event.bucket, "all"),
    _Tell(lambda claim: claim.key_begins, lambda event: event.key, "beginning"),
    _Tell(lambda claim: claim.key_ends, lambda event: event.key, "end"),
    _Tell(lambda claim: claim.bucket_begins, lambda event: event.bucket, "beginning"),
    _Tell(lambda claim: claim.bucket_ends, lambda event: event.bucket, "end"),
    _Tell(lambda claim: claim.event, lambda event: canonical_name(event.type), "all"),
    _Tell(lambda claim: claim.event_begins, lambda event: canonical_name(event.type), "beginning"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch(Generic[T]):
    """Claims told apart by one thing; `others` say nothing of it."""

    tell: "_Tell[T]"
    places: "dict[Text, _Node[T]]"
    lengths: Sequence[int]
    others: "_Node[T]"


_Node = Sequence[T] | _Branch[T]


def _node(claims: Sequence[_Claim[T]], tells: "Sequence[_Tell[T]]") -> "_Node[T]":
    for place, tell in enumerate(tells):
        if len(claims) <= _FEW:
            break
        told: defaultdict[Text, list[_Claim[T]]] = defaultdict(list)
        for claim in claims:
            told[tell.said(claim)].append(claim)
        others = told.pop(type(tell.said(claims[0]))(), [])
        if told:
            rest = tells[place + 1 :]
            return _Branch(
                tell=tell,
                places={said: _node(those, rest) for said, those in told.items()},
                lengths=sorted({len(said) for said in told}),
                others=_node(others, rest),
            )
    return tuple(dict.fromkeys(claim.owner for claim in claims))


def _find(node: "_Node[T]", event: Event) -> Iterator[T]:
    while isinstance(node, _Branch):
        for part in _parts(node, node.tell.shown(event)):
            if part in node.places:
                yield from _find(node.places[part], event)
        node = node.others
    yield from node


def _parts(branch: _Branch[T], shown: Text) -> Sequence[Text]:
    match branch.tell.part:
        case "all":
            return (shown,)
        case "beginning":
            return [shown[:length] for length in branch.lengths]
        case "end":
            return [shown[-length:] for length in branch.lengths]


def _claims(owner: T, wanted: Filter) -> Iterator[_Claim[T]]:
    names = [canonical_name(each) for each in wanted.events or ("*",)]
    for name in filter(is_operator_name, names):
        yield _operators_claim(owner, name)
    for bucket in wanted.buckets or ("*",):
        beginning, end = _around_wildcards(bucket)
        is_one = not any(each in bucket for each in _WILD)
        for name in (each for each in names if not is_operator_name(each)):
            is_family = name.endswith("*")
            yield _Claim(
                owner=owner,
                bucket=bucket if is_one else "",
                bucket_begins="" if is_one else beginning,
                bucket_ends="" if is_one else end,
                key_begins=wanted.key_prefix.encode("utf-8", "surrogatepass"),
                key_ends=wanted.key_suffix.encode("utf-8", "surrogatepass"),
                event="" if is_family else name,
                event_begins=name[:-1] if is_family else "",
            )


def _operators_claim(owner: T, name: str) -> _Claim[T]:
    """Claim operator events: what else the filter says does not narrow them."""
    is_family = name.endswith("*")
    return _Claim(
        owner=owner,
        bucket="",
        bucket_begins="",
        bucket_ends="",
        key_begins=b"",
        key_ends=b"",
        event="" if is_family else name,
        event_begins=name[:-1] if is_family else "",
    )


def _around_wildcards(glob: str) -> tuple[str, str]:
    """Give how every text begins and ends that a glob takes."""
    wild = [place for place, character in enumerate(glob) if character in _WILD]
    return (glob[: wild[0]], glob[wild[-1] + 1 :]) if wild else (glob, glob)
