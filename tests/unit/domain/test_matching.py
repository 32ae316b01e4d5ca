"""Which subscriptions take an event: the plain definition, the index over it, and globs."""

import fnmatch
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.configuration import Filter, Subscription
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT, EndpointId, EventId, SubscriptionId, TenantId
from app.domain.matching import Matcher, glob_matches, matches, unknown_events, why_not
from app.domain.operator_event import operator_event

NOON = datetime(2023, 4, 12, 12, tzinfo=UTC)


def event(*, bucket: str = "uploads", key: bytes = b"a/b.csv", name: str = "ObjectCreated:Put") -> Event:
    """Make an event as far as filters look at it."""
    return Event(
        id=EventId(bytes(16)),
        day=date(2023, 4, 12),
        type=f"s3:{name}",
        change="created",
        bucket=bucket,
        key=key,
        received_key="",
        version_id=None,
        size=None,
        etag=None,
        sequencer=None,
        time=NOON,
        region=None,
        actor=None,
        source_ip=None,
        request_id=None,
        host_id=None,
        extra=None,
        dialect="aws",
        record=b"{}",
    )


def subscription(number: int, wanted: Filter) -> Subscription:
    """Make a subscription with a filter."""
    return Subscription(
        id=SubscriptionId(number.to_bytes(16, "big")),
        tenant_id=TenantId(1),
        name="",
        endpoint_id=EndpointId(bytes(16)),
        filter=wanted,
        format="standard",
        created_at=NOON,
        updated_at=NOON,
    )


@pytest.mark.parametrize(
    ("wanted", "is_taken"),
    [
        (Filter(), True),
        (Filter(buckets=("uploads",)), True),
        (Filter(buckets=("downloads", "up*")), True),
        (Filter(buckets=("upload?",)), True),
        (Filter(buckets=("Uploads",)), False),
        (Filter(buckets=("upload",)), False),
        (Filter(events=("ObjectCreated:Put",)), True),
        (Filter(events=("s3:ObjectCreated:Put",)), True),
        (Filter(events=("s3:ObjectCreated:*",)), True),
        (Filter(events=("ObjectRemoved:*", "*")), True),
        (Filter(events=("s3:*",)), True),
        (Filter(events=("ObjectRemoved:*",)), False),
        (Filter(events=("ObjectCreated:Pu",)), False),
        (Filter(events=("ObjectCreated",)), False),
        (Filter(key_prefix="a/"), True),
        (Filter(key_prefix="A/"), False),
        (Filter(key_suffix=".csv"), True),
        (Filter(key_suffix=".CSV"), False),
        (Filter(key_prefix="a/b.csv", key_suffix="a/b.csv"), True),
        (Filter(key_prefix="*"), False),
        (Filter(buckets=("uploads",), events=("ObjectCreated:*",), key_prefix="a", key_suffix="v"), True),
        (Filter(buckets=("uploads",), events=("ObjectCreated:*",), key_prefix="a", key_suffix="x"), False),
    ],
)
def test_a_filter_takes_what_all_its_members_take(wanted: Filter, *, is_taken: bool) -> None:
    """An empty member takes all; case counts; only buckets are globs."""
    assert matches(wanted, event()) is is_taken
    assert [each.filter for each in Matcher([subscription(1, wanted)]).match(event())] == [wanted] * is_taken


def test_prefix_and_suffix_compare_bytes() -> None:
    """Keys are bytes: an umlaut is two of them, an invalid byte equals nothing else."""
    assert matches(Filter(key_prefix="ü"), event(key="über".encode()))
    assert not matches(Filter(key_suffix="\ufffd"), event(key=b"\xff"))


def test_names_with_three_parts_fall_under_their_wildcard() -> None:
    """Ceph's names have one colon more."""
    taken = event(name="ObjectLifecycle:Expiration:Current")

    assert matches(Filter(events=("ObjectLifecycle:*",)), taken)
    assert matches(Filter(events=("s3:ObjectLifecycle:Expiration:*",)), taken)
    assert not matches(Filter(events=("LifecycleExpiration:*",)), taken)


OPERATORS = operator_event(TenantId(1), "gateway.endpoint.disabled", about="ep_x", at=NOON, data={"reason": "x"})


@pytest.mark.parametrize(
    ("wanted", "is_taken"),
    [
        (Filter(), False),
        (Filter(events=("*",)), False),
        (Filter(events=("s3:*", "ObjectCreated:*", "g*", "gateway*", "s3:gateway.*")), False),
        (Filter(events=("gateway.endpoint.disable", "gateway.delivery.dead", "gateway.delivery.*")), False),
        (Filter(events=("gateway.endpoint.disabled",)), True),
        (Filter(events=("gateway.endpoint.*",)), True),
        (Filter(events=("ObjectCreated:*", "gateway.*")), True),
        (Filter(buckets=("photos",), events=("gateway.*",), key_prefix="a", key_suffix="b"), True),
    ],
)
def test_operator_events_go_to_filters_that_name_them(wanted: Filter, *, is_taken: bool) -> None:
    """No wildcard of S3's means them, and what is said of buckets and keys is not said of them."""
    assert matches(wanted, OPERATORS) is is_taken
    assert (why_not(wanted, OPERATORS) is None) is is_taken


def test_no_store_passes_for_the_gateway() -> None:
    """A record may say any name: it is one of S3's all the same."""
    forged = event(name="gateway.endpoint.disabled")

    assert not matches(Filter(events=("gateway.endpoint.disabled", "gateway.*", "s3:gateway.*")), forged)
    assert matches(Filter(events=("*",)), forged)


def test_an_operator_event_is_one_of_a_kind_a_thing_and_a_moment() -> None:
    """Its id and day are the same for the same three, whatever its data say, and others otherwise."""
    fields: dict[str, Any] = {"about": "ep_x", "at": NOON, "data": {}}
    same = operator_event(TenantId(1), "gateway.endpoint.disabled", **fields)
    others = [
        operator_event(TenantId(2), "gateway.endpoint.disabled", **fields),
        operator_event(TenantId(1), "gateway.source.stalled", **fields),
        operator_event(TenantId(1), "gateway.endpoint.disabled", **{**fields, "about": "ep_y"}),
        operator_event(TenantId(1), "gateway.endpoint.disabled", **{**fields, "at": NOON + timedelta(microseconds=1)}),
    ]

    assert (same.id, same.day) == (OPERATORS.id, NOON.date())
    assert len({same.id, *(each.id for each in others)}) == 5


def test_unknown_names_are_given_back_as_written() -> None:
    """They are accepted with a warning."""
    names = ["s3:ObjectCreated:*", "*", "LifecycleTransition", "s3:ObjectCreated:PUT", "ObjectAccessed:*"]

    assert unknown_events(names) == ["s3:ObjectCreated:PUT", "ObjectAccessed:*"]


def test_operator_events_are_known() -> None:
    """By their names and their families; a misspelled one is named."""
    names = ["gateway.*", "gateway.endpoint.*", "gateway.delivery.dead", "gateway.delivery.died", "s3:gateway.*"]

    assert unknown_events(names) == ["gateway.delivery.died", "s3:gateway.*"]


def _oracle(glob: str, text: str) -> bool:
    # fnmatch also knows sets, which globs here do not: a bracket stands for itself.
    return re.fullmatch(fnmatch.translate(glob.replace("[", "[[]")), text) is not None


@given(st.text(alphabet="ab*?[]!.\n", max_size=12), st.text(alphabet="ab*?[]!.\n", max_size=12))
@settings(deadline=None)
def test_globs_match_as_fnmatch_does(glob: str, text: str) -> None:
    """`*` is any run, `?` one character, everything else itself."""
    assert glob_matches(glob, text) is _oracle(glob, text)


def test_a_glob_of_many_stars_ends() -> None:
    """Nothing blows up where a regular expression would."""
    assert not glob_matches("a*" * 30 + "b", "a" * 300)


BUCKETS = st.sampled_from(["uploads", "downloads", "up*", "*loads", "?", "*", "a", "u?l*s", "**s", ""])
FILTERS = st.builds(
    Filter,
    buckets=st.lists(BUCKETS, max_size=3).map(tuple),
    events=st.lists(
        st.sampled_from(["s3:ObjectCreated:*", "ObjectRemoved:Delete", "*", "Object*", "s3:*", ""]), max_size=2
    ).map(tuple),
    key_prefix=st.sampled_from(["", "a", "b/", "b/x", "a.csv", "ä"]),
    key_suffix=st.sampled_from(["", ".csv", "x", "/x", "a.csv", "ä"]),
)


def _naming(wanted: Filter, names: tuple[str, ...]) -> Filter:
    return replace(wanted, events=names)


OPERATOR_NAMES = st.lists(
    st.sampled_from(["gateway.*", "gateway.endpoint.disabled", "gateway.delivery.*", "s3:ObjectCreated:*", "*"]),
    max_size=2,
).map(tuple)


@given(
    st.lists(FILTERS, max_size=40),
    st.sampled_from(["uploads", "downloads", "a", "up", "other", "s"]),
    st.sampled_from([b"a.csv", b"b/x", b"", b"\xc3\xa4", b"\xa4"]),
    st.sampled_from(["ObjectCreated:Put", "ObjectRemoved:Delete"]),
)
@settings(deadline=None)
def test_the_index_gives_what_the_definition_gives_in_the_order_of_ids(
    filters: list[Filter], bucket: str, key: bytes, name: str
) -> None:
    """Each subscription that takes the event is given once, however its buckets overlap."""
    subscriptions = [subscription(number, wanted) for number, wanted in enumerate(filters)]
    happened = event(bucket=bucket, key=key, name=name)

    taken = Matcher(reversed(subscriptions)).match(happened)

    assert list(taken) == [each for each in subscriptions if matches(each.filter, happened)]


@given(st.lists(st.builds(_naming, FILTERS, OPERATOR_NAMES), max_size=12))
@settings(deadline=None)
def test_the_index_gives_what_the_definition_gives_of_operator_events(filters: list[Filter]) -> None:
    """Buckets, prefixes and suffixes do not narrow them, also where a replay asks the index."""
    subscriptions = [subscription(number, wanted) for number, wanted in enumerate(filters)]
    happened = operator_event(
        DEFAULT_TENANT, "gateway.endpoint.disabled", about="ep_1", at=datetime(2026, 11, 24, tzinfo=UTC), data={}
    )

    taken = Matcher(subscriptions).match(happened)

    assert list(taken) == [each for each in subscriptions if matches(each.filter, happened)]


@pytest.mark.parametrize(
    ("wanted", "because"),
    [
        (Filter(), None),
        (Filter(buckets=("up*",), events=("s3:ObjectCreated:*",), key_prefix="a/", key_suffix=".csv"), None),
        (Filter(buckets=("downloads", "x*"), key_prefix="z"), "The bucket uploads is none of: downloads, x*."),
        (Filter(events=("ObjectRemoved:*",)), "The event s3:ObjectCreated:Put is none of: ObjectRemoved:*."),
        (Filter(key_prefix="b/"), "The key does not begin with b/"),
        (Filter(key_suffix=".jpg"), "The key does not end with .jpg"),
    ],
)
def test_a_filter_says_why_it_does_not_take_an_event(wanted: Filter, because: str | None) -> None:
    """It names the first member that does not, and says nothing exactly when it takes the event."""
    assert why_not(wanted, event()) == because
    assert (because is None) is matches(wanted, event())
