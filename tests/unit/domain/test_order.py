"""Which of two events of one object came later, store by store, and where nobody can tell."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.event import Dialect, Event
from app.domain.ids import EventId
from app.domain.order import Order, compare, family_of, is_before, place_of

MOMENT: Final = datetime(2023, 4, 12, 20, 43, 38, 21000, UTC)
OPPOSITES: Final[dict[Order, Order]] = {"newer": "older", "older": "newer", "same": "same", "unknown": "unknown"}
DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)


def event(
    number: int,
    sequencer: str | None,
    *,
    dialect: Dialect = "aws",
    version_id: str | None = None,
    later: timedelta = timedelta(),
) -> Event:
    """Make an event of one object; the number tells it from others, as an id does."""
    return Event(
        id=EventId(number.to_bytes(16, "big")),
        day=date(2023, 4, 12),
        type="s3:ObjectCreated:Put",
        change="created",
        bucket="uploads",
        key=b"test.pdf",
        received_key="test.pdf",
        version_id=version_id,
        size=1,
        etag=None,
        sequencer=sequencer,
        time=MOMENT + later,
        region=None,
        actor=None,
        source_ip=None,
        request_id=None,
        host_id=None,
        extra=None,
        record=b"{}",
        dialect=dialect,
    )


@pytest.mark.parametrize(
    ("dialect", "sequencer", "other_dialect", "other_sequencer", "order"),
    [
        pytest.param("aws", "00643717F9F8B85354", "aws", "0055AED6DCD90281E5", "newer", id="eight years later"),
        pytest.param("aws", "0055AED6DCD90281E5", "aws", "00643717F9F8B85354", "older", id="eight years earlier"),
        pytest.param("aws", "00643717F9F8B85354", "aws", "00643717F9F8B85355", "older", id="one tick"),
        pytest.param("aws", "643717F9F8B85354", "aws", "0055AED6DCD90281E5", "newer", id="zeros left out on one side"),
        pytest.param("aws", "00643717f9f8b85354", "aws", "00643717F9F8B85355", "older", id="lower and upper case"),
        pytest.param("eventbridge", "617f0837b476e463", "eventbridge", "617f08299329d189", "newer", id="EventBridge"),
        pytest.param("eventbridge", "617f0837b476e463", "aws", "006408CAD69598B05E", "older", id="across the forms"),
        pytest.param("aws", "00617F0837B476E464", "eventbridge", "617f0837b476e463", "newer", id="one tick across"),
        pytest.param("aws", "00617b398000000000", "aws", "00617b397fffffffff", "newer", id="lifecycle's midnight"),
        pytest.param("aws", "F0000000000000000", "aws", "00F0000000000000001", "older", id="wider ones left-padded"),
        pytest.param("ceph", "F7E6D75DC742D108", "ceph", "F7E6D75DC842D108", "older", id="Ceph, one nanosecond"),
        pytest.param("ceph", "00E7D75D00000000", "ceph", "F7E6D75DC742D108", "newer", id="Ceph, larger, not as text"),
        pytest.param("ceph", "F7E6D75D00000001", "ceph", "F7E6D75DFFFFFF00", "newer", id="Ceph's nanoseconds, too"),
        pytest.param("aws", "0055AED6DCD90281E5", "aws", "0055AED6DCD90281E5", "unknown", id="constant"),
        pytest.param(
            "aws", "00617F0837B476E463", "eventbridge", "617f0837b476e463", "unknown", id="a tie of the forms"
        ),
        pytest.param("ceph", "F7E6D75DC742D108", "ceph", "F7E6D75DC742D108", "unknown", id="a tie in Ceph"),
        pytest.param("aws", None, "aws", "00643717F9F8B85354", "unknown", id="missing"),
        pytest.param("aws", None, "aws", None, "unknown", id="both missing"),
        pytest.param("aws", "Happy Sequencer", "aws", "00643717F9F8B85354", "unknown", id="not hexadecimal"),
        pytest.param("aws", "0066LIFECYCLE890", "aws", "00643717F9F8B85354", "unknown", id="nearly hexadecimal"),
        pytest.param("aws", "1F", "aws", "20", "unknown", id="a short counter that says it is Amazon's"),
        pytest.param("ceph", "F7E6D75DC742D10800", "ceph", "F7E6D75DC742D108", "unknown", id="not Ceph's width"),
        pytest.param("versitygw", "1F", "versitygw", "20", "unknown", id="versitygw's counter"),
        pytest.param("versitygw", "187D0B8F1C2A4D33", "versitygw", "187D0B8F1C2A4D34", "unknown", id="versitygw, wide"),
        pytest.param("r2", None, "r2", None, "unknown", id="R2 has none"),
        pytest.param("other", "187D0B8F1C2A4D33", "other", "187D0B8F1C2A4D34", "unknown", id="nobody knows which"),
        pytest.param("minio", "187D0B8F1C2A4D33", "rustfs", "187D0B8F1C2A4D34", "unknown", id="two stores"),
        pytest.param("aws", "00643717F9F8B85354", "ceph", "F7E6D75DC742D108", "unknown", id="two scales"),
    ],
)
def test_the_sequencer_tells_where_the_store_lets_it(
    dialect: Dialect, sequencer: str | None, other_dialect: Dialect, other_sequencer: str | None, order: Order
) -> None:
    """Amazon's as numbers, Ceph's with its bytes swapped, and no other; a tie of two events tells nothing."""
    one, other = event(1, sequencer, dialect=dialect), event(2, other_sequencer, dialect=other_dialect)

    assert compare(one, other) == order
    assert compare(other, one) == OPPOSITES[order]


SECOND: Final = timedelta(seconds=1)
EARLY, LATE = "15C32494527B46C5", "15C32494527B46C6"


@pytest.mark.parametrize("dialect", ["minio", "rustfs"])
@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        pytest.param((EARLY, "v1", SECOND), (LATE, "v2", -SECOND), "older", id="versions: the sequencer, not the time"),
        pytest.param(
            (EARLY, None, SECOND), (LATE, None, -SECOND), "newer", id="no version: the time, not the sequencer"
        ),
        pytest.param((None, None, SECOND), (None, None, -SECOND), "newer", id="no version: the time alone is enough"),
        pytest.param((EARLY, None, SECOND), (LATE, None, SECOND), "unknown", id="no version, one time"),
        pytest.param((EARLY, "v1", SECOND), (EARLY, "v1", -SECOND), "newer", id="a version is tagged after its put"),
        pytest.param((EARLY, "v1", SECOND), (EARLY, "v1", SECOND), "unknown", id="a tie of both"),
        pytest.param((EARLY, "v1", SECOND), (LATE, None, -SECOND), "unknown", id="before and after versioning"),
        pytest.param((None, "v1", SECOND), (LATE, "v2", -SECOND), "unknown", id="a version without sequencer"),
        pytest.param(("1F", "v1", SECOND), ("20", "v2", -SECOND), "unknown", id="a version with a short one"),
    ],
)
def test_minio_is_ordered_by_sequencer_only_among_versions(
    dialect: Dialect,
    one: tuple[str | None, str | None, timedelta],
    other: tuple[str | None, str | None, timedelta],
    order: Order,
) -> None:
    """Without versions its sequencer and what became of the object disagree; its times do not."""
    first = event(1, one[0], dialect=dialect, version_id=one[1], later=one[2])
    second = event(2, other[0], dialect=dialect, version_id=other[1], later=other[2])

    assert compare(first, second) == order
    assert compare(second, first) == OPPOSITES[order]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_event_is_the_same_by_whatever_road(dialect: Dialect) -> None:
    """Its id says so, also where nothing can be ordered; the form it came in does not matter."""
    one = event(1, None, dialect=dialect)

    assert compare(one, replace(one, time=MOMENT + SECOND)) == "same"
    assert compare(one, replace(one, dialect="eventbridge")) == "same"


def test_other_objects_have_no_order() -> None:
    """A sequencer counts for one key of one bucket."""
    one, later = event(1, "00643717F9F8B85354"), event(2, "00643717F9F8B85355")

    assert compare(one, replace(later, bucket="downloads")) == "unknown"
    assert compare(one, replace(later, key=b"test.pdF")) == "unknown"
    assert compare(one, later) == "older"


EVENTS = st.builds(
    event,
    st.integers(1, 9),
    st.none()
    | st.text("0123456789abcdefABCDEF", min_size=15, max_size=18)
    | st.sampled_from(["00643717F9F8B85354", "643717f9f8b85354", "0000000000000000", EARLY, LATE, "1F", "zz"]),
    dialect=st.sampled_from(DIALECTS),
    version_id=st.sampled_from([None, "v1", "v2"]),
    later=st.timedeltas(-SECOND, SECOND) | st.sampled_from([SECOND, -SECOND]),
)


@given(EVENTS, EVENTS)
@settings(deadline=None)
def test_order_is_antisymmetric(one: Event, other: Event) -> None:
    """What is newer than another is not also older."""
    assert compare(one, other) == OPPOSITES[compare(other, one)]


@pytest.mark.parametrize("dialect", DIALECTS)
@given(st.lists(EVENTS, min_size=4, max_size=8, unique_by=lambda each: each.id))
@settings(deadline=None)
def test_order_is_transitive_within_a_dialect(dialect: Dialect, events: list[Event]) -> None:
    """What is newer than a newer one is newer; else a stream could be sorted in a circle."""
    for one, two, three in permutations([replace(each, dialect=dialect) for each in events], 3):
        if compare(one, two) == compare(two, three) == "newer":
            assert compare(one, three) == "newer"


@given(EVENTS, EVENTS)
@settings(deadline=None)
def test_places_sort_as_the_comparison_says(one: Event, other: Event) -> None:
    """Of two events, one is older exactly if its place is of the other's family and smaller as bytes."""
    order, place, other_place = compare(one, other), place_of(one), place_of(other)

    if order != "same":
        assert is_before(place, other_place) == (order == "older")
        assert is_before(other_place, place) == (order == "newer")
    if place is not None and other_place is not None and family_of(place) == family_of(other_place):
        assert order in ("same", "unknown") or (place < other_place) == (order == "older")


@given(st.lists(st.tuples(st.integers(0, 2**200), st.timedeltas()), min_size=2, max_size=6))
@settings(deadline=None)
def test_places_of_any_width_sort_rightly(said: list[tuple[int, timedelta]]) -> None:
    """Neither the width of a number nor a time before 1970 or far ahead changes what is older."""
    span = timedelta(days=700_000)
    events = [
        event(number, f"{sequencer:016X}", dialect="minio", version_id="v1", later=max(-span, min(span, later)))
        for number, (sequencer, later) in enumerate(said, start=1)
    ]
    for one, other in permutations(events, 2):
        assert is_before(place_of(one), place_of(other)) == (compare(one, other) == "older")


def test_a_number_that_no_store_writes_places_nothing() -> None:
    """Nobody can make the database keep a key of any length."""
    assert place_of(event(1, "F" * 65)) is None
    assert compare(event(1, "F" * 65), event(2, "00643717F9F8B85354")) == "unknown"
