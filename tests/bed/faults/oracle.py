"""Joins what was acknowledged with what receivers saw, and says what was lost, repeated, out of order, or made up."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.bed.faults.producer import Change
from tests.bed.faults.witness import Sighting

Wanted = Callable[[str], Collection[str]]
"""From an object's key to the paths of the receivers that its changes are owed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the join says; `latencies` are seconds from the acknowledgement to the first success, one a delivery.

    `regressions` is None where no receiver was to get anything in order. `repeats` are, for each duplicate, when the
    success came that it repeats, and when it came itself.
    """

    acknowledged: int
    owed: int
    lost: int
    duplicates: int
    regressions: int | None
    phantoms: int
    bad_signatures: int
    two_names: int
    latencies: tuple[float, ...]
    repeats: tuple[tuple[float, float], ...]

    @property
    def is_right(self) -> bool:
        """Whether nothing went wrong; duplicates are judged by each experiment's own bound."""
        return not (self.lost or self.regressions or self.phantoms or self.bad_signatures or self.two_names)

    def figures(self) -> dict[str, object]:
        """Give what every line of an experiment shows."""
        return {
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            **({} if self.regressions is None else {"regressions": self.regressions}),
            "phantoms": self.phantoms,
            "bad signatures": self.bad_signatures + self.two_names,
            "duplicates": self.duplicates,
        }


def judge(
    changes: Sequence[Change],
    sightings: Sequence[Sighting],
    wanted: Wanted,
    *,
    given_up: Collection[tuple[str, str, int]] = (),
    is_ordered: Callable[[str], bool] = lambda _path: True,
) -> Verdict:
    """Judge a run that is over. `given_up` are path, key and number of what stands among the dead letters.

    A success is a sighting that was answered 2xx; a regression any sighting of a change after one of a later change
    of the same object at the same receiver, a repeated one too.
    """
    sent = {(each.key, each.number) for each in changes}
    owed = {
        (path, each.key, each.number): each.acknowledged_at
        for each in changes
        if each.acknowledged_at is not None
        for path in wanted(each.key)
    }
    successes: defaultdict[tuple[str, str, int], list[Sighting]] = defaultdict(list)
    for each in sightings:
        if 200 <= each.status < 300:
            successes[each.path, each.key, each.number].append(each)
    in_order = [each for each in sightings if is_ordered(each.path)]
    return Verdict(
        acknowledged=sum(each.acknowledged_at is not None for each in changes),
        owed=len(owed),
        lost=len(owed.keys() - successes.keys() - set(given_up)),
        duplicates=sum(len(found) - 1 for found in successes.values()),
        regressions=_regressions(in_order) if in_order else None,
        phantoms=sum((each.key, each.number) not in sent or each.path not in wanted(each.key) for each in sightings),
        bad_signatures=sum(not each.is_verified for each in sightings),
        two_names=_two_names(sightings),
        latencies=tuple(
            max(0.0, successes[what][0].at - acknowledged_at)
            for what, acknowledged_at in owed.items()
            if what in successes
        ),
        repeats=tuple((earlier.at, later.at) for found in successes.values() for earlier, later in pairwise(found)),
    )


def silences(sightings: Sequence[Sighting], path: str, *, over: Sequence[float]) -> list[float]:
    """Give the spans without a success at a receiver, in seconds, that one of these moments falls into."""
    moments = [each.at for each in sightings if each.path == path and 200 <= each.status < 300]
    return [
        later - earlier for earlier, later in pairwise(moments) if any(earlier <= moment < later for moment in over)
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of the values does not exceed; 0 without any."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _regressions(sightings: Sequence[Sighting]) -> int:
    latest: Counter[tuple[str, str]] = Counter()
    found = 0
    for each in sightings:
        place = each.path, each.key
        found += each.number < latest[place]
        latest[place] = max(latest[place], each.number)
    return found


def _two_names(sightings: Iterable[Sighting]) -> int:
    names: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    for each in sightings:
        names[each.path, each.key, each.number].add(each.webhook_id)
    return sum(len(each) > 1 for each in names.values())
